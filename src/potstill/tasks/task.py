"""What every kind of task can do; one file here is one kind, and none of them knows torch.

The way of rows: read (tasks.reading), windows, the model's outputs, one answer a row; then answers
become items for a user, or are held against what is true.

Legend: B rows, W windows, N tokens, C outputs, S statistics of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec, Pooling
from potstill.data.rows import Rows
from potstill.metrics.metric import Metric
from potstill.metrics.per_class import ClassScores
from potstill.text.tokenizer import Tokenizer
from potstill.text.windows import Windows, cut_into_windows, whole_rows

Floats = NDArray[np.floating[Any]]
Item = dict[str, Any]

CUT, WINDOWS = "cut", "windows"
LONG_TEXTS = (CUT, WINDOWS)
_SHARE_OF_OVERLAP = 4  # windows share a quarter of their length unless told otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long a text may be, and what becomes of longer ones."""

    max_length: int  # tokens of a window, special ones included
    long_texts: str = CUT  # cut: the rest is lost and counted; windows: all is read
    overlap: int = 0  # tokens that two windows share; 0: a quarter of max_length

    @property
    def shared_tokens(self) -> int:
        """Return the tokens that two windows share."""
        return self.overlap or self.max_length // _SHARE_OF_OVERLAP


class Task(Protocol):
    """One task: what rows mean, what is learned, what an answer is and how good it is."""

    @property
    def name(self) -> str:
        """Return the kind's name."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the names of the head's outputs."""
        ...

    @property
    def loss(self) -> str:
        """Return the name of the loss, see `train.answer_losses`."""
        ...

    @property
    def long_texts(self) -> str:
        """Return what becomes of long texts unless the user says otherwise."""
        ...

    def head(self, pooling: Pooling) -> HeadSpec:
        """Return the head that answers this task."""
        ...

    def windows(self, tokenizer: Tokenizer, rows: Rows, lengths: Lengths) -> Windows:
        """Turn rows into the texts that the model is given."""
        ...

    def targets(self, rows: Rows, windows: Windows) -> NDArray[Any]:
        """Return what is true of each window or token, see `train.learnable`."""
        ...

    def unknown_targets(self, windows: Windows) -> NDArray[Any]:
        """Return targets of the same kind that are all unknown."""
        ...

    def readable(self, windows: Windows) -> NDArray[np.bool_] | None:
        """Return the tokens whose outputs count, (N,); None: outputs are of whole texts."""
        ...

    def answers(self, outputs: Floats, windows: Windows, rows: Rows) -> Any:
        """Return one answer a row from the model's outputs, (W, C) or (N, C)."""
        ...

    def gold(self, rows: Rows) -> Any:
        """Return what is true of each row.

        Raises:
            DataError: a label that the task does not have, with its line.
        """
        ...

    def as_gold(self, answers: Any) -> Any:
        """Take a model's answers for the truth: how agreement with a teacher is measured."""
        ...

    def primary(self, *, has_gold: bool) -> str:
        """Return the metric to choose and judge by unless the user says otherwise."""
        ...

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Return the metrics that are always told."""
        ...

    def metric(self, name: str) -> Metric:
        """Return a metric by its name.

        Raises:
            RecipeError: no such metric.
        """
        ...

    def statistics(self, metric: Metric, answers: Any, gold: Any) -> Floats:
        """Return the statistics of each row (of each query, for ranking), (B, S)."""
        ...

    def trivial(self, gold: Any) -> tuple[Any, str]:
        """Return the answers of who learned nothing, and in a word what they are."""
        ...

    def breakdown(self, answers: Any, gold: Any) -> list[ClassScores]:
        """Return the scores of each class or type; none where there are no such parts."""
        ...

    def same(self, one: Any, other: Any) -> NDArray[np.bool_]:
        """Tell on which rows two models answer the same, (B,)."""
        ...

    def right(self, answers: Any, gold: Any) -> NDArray[np.bool_]:
        """Tell which answers are right, (B,)."""
        ...

    def sureness(self, answers: Any) -> Floats:
        """Return how sure each answer is, (B,)."""
        ...

    def shown(self, answers: Any) -> list[str]:
        """Return each answer in words, for reports."""
        ...

    def shown_gold(self, rows: Rows) -> list[str]:
        """Return what is true of each row in words."""
        ...

    def items(self, answers: Any, rows: Rows, truncated: NDArray[np.bool_]) -> list[Item]:
        """Return what `predict` tells of each row."""
        ...

    def fitted(self, answers: Any, gold: Any) -> Task:
        """Return the task with its thresholds chosen on held-out rows."""
        ...

    @property
    def thresholds(self) -> dict[str, float]:
        """Return the thresholds by name; none where the task has none."""
        ...


class OfWholeTexts:
    """What tasks have in common whose head reads one vector a text; most need no threshold."""

    long_texts = CUT

    @property
    def thresholds(self) -> dict[str, float]:
        """Return none."""
        return {}

    def windows(self, tokenizer: Tokenizer, rows: Rows, lengths: Lengths) -> Windows:
        """Turn texts, or pairs of texts, into tokens."""
        return text_windows(tokenizer, rows, lengths)

    def readable(self, windows: Windows) -> None:
        """Return None: the head reads whole texts."""
        del windows

    def fitted(self, answers: Any, gold: Any) -> Self:
        """Return the task as it is."""
        del answers, gold
        return self


def text_windows(tokenizer: Tokenizer, rows: Rows, lengths: Lengths) -> Windows:
    """Return texts, or pairs where the rows have them, cut or in windows of the last text."""
    pairs = rows.column("text_pair") if "text_pair" in rows else None
    texts = rows.column("text")
    if lengths.long_texts == CUT:
        return whole_rows(tokenizer.encode(texts, pairs, max_length=lengths.max_length))
    return cut_into_windows(
        tokenizer.encode(texts, pairs, with_offsets=True),
        max_length=lengths.max_length,
        overlap=lengths.shared_tokens,
        are_pairs=pairs is not None,
        max_first=lengths.max_length // 2,
    )


def mean_of_windows(outputs_WC: Floats, windows: Windows) -> Floats:
    """Return the mean output of each row's windows, (B, C)."""
    if len(windows.rows) == windows.row_count:
        return outputs_WC
    sums_BC = np.zeros((windows.row_count, outputs_WC.shape[1]), dtype=np.float64)
    np.add.at(sums_BC, windows.rows, outputs_WC)
    counts_B = np.bincount(windows.rows, minlength=windows.row_count)
    return sums_BC / counts_B[:, None]


def texts_shown(rows: Rows) -> list[str]:
    """Return what of each row is shown to a reader of a report."""
    if "question" in rows:
        return [str(question) for question in rows.column("question")]
    if "text" not in rows:
        return [" ".join(words) for words in rows.column("tokens")]
    texts: list[str] = rows.column("text")
    if "text_pair" not in rows:
        return texts
    return [f"{one} | {two}" for one, two in zip(texts, rows.column("text_pair"), strict=True)]
