"""Small labelled sets on which a model of text is probed while it is trained, nothing of it tuned.

A loss on held-out text says how well tokens are guessed; a probe says whether the vectors are of
use. It is a trend, no result: what counts is the model tuned on the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.data.columns import Columns, select_columns
from potstill.data.readers import read_rows
from potstill.errors import DataError
from potstill.metrics.linear_probe import linear_probe_accuracy
from potstill.models.precision import Precision
from potstill.models.task_model import TaskModel
from potstill.runtime.torch_engine import TorchEngine
from potstill.text.ragged import RaggedBatch
from potstill.text.tokenizer import Tokenizer

_ROWS = 1_500  # a forward pass of some seconds on a CPU
_JUDGED = 3  # every third row is answered, the others are learned from
_SEED = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """One labelled set, encoded, and which of its rows are answered."""

    name: str
    texts: RaggedBatch
    labels: Sequence[str]
    judged_R: NDArray[np.bool_]
    precision: Precision

    def accuracy(self, model: TaskModel) -> float:
        """Return what a linear map of the model's mean vectors answers rightly."""
        vectors = TorchEngine(model, precision=self.precision).run(self.texts, ["vectors"])
        return linear_probe_accuracy(vectors["vectors"], self.labels, self.judged_R)


def probed(probes: Sequence[Probe], model: TaskModel) -> dict[str, float]:
    """Return the accuracy of each probe for the model as it is now."""
    return {f"probe_{probe.name}": probe.accuracy(model) for probe in probes}


def read_probes(
    sources: Sequence[object], tokenizer: Tokenizer, *, max_length: int, precision: Precision
) -> tuple[Probe, ...]:
    """Read labelled rows, 1,500 of each source at most, drawn with a fixed seed.

    Raises:
        DataError: rows that cannot be read, or of one class alone; file, line, field are named.
    """
    probes: list[Probe] = []
    for source in sources:
        rows = read_rows(source)
        for name in ("text", "label"):
            if name not in rows.columns:
                raise DataError(
                    f"a probe has no column {name!r}",
                    where=rows.source,
                    allowed="text, label, and text_pair where there are pairs",
                )
        rows = select_columns(rows, Columns())
        chosen = np.random.default_rng(_SEED).permutation(len(rows))[:_ROWS]
        rows = rows.take(np.sort(chosen).tolist())
        labels = rows.column("label")
        if len(set(labels)) < 2 or len(rows) < 2 * _JUDGED:
            raise DataError(
                f"a probe needs {2 * _JUDGED} rows of two classes or more: here are {len(rows)} "
                f"of {len(set(labels))}",
                where=rows.source,
            )
        pairs = rows.column("text_pair") if "text_pair" in rows.columns else None
        encoded = tokenizer.encode(rows.column("text"), pairs, max_length=max_length)
        judged_R = np.random.default_rng(_SEED).permutation(len(rows)) % _JUDGED == 0
        name = _name(source, taken={probe.name for probe in probes}, number=len(probes) + 1)
        probes.append(Probe(name, encoded.batch, labels, judged_R, precision))
    return tuple(probes)


def _name(source: object, *, taken: set[str], number: int) -> str:
    """Return folder and file without its ending, since most sets are called train.jsonl."""
    if not isinstance(source, str | Path):
        return str(number)
    path = Path(source)
    name = "_".join(part for part in (path.parent.name, path.name.split(".")[0]) if part)
    return name if name not in taken else f"{name}_{number}"
