"""Any `transformers` model as a teacher: DeBERTa, ModernBERT, ELECTRA, ALBERT and their like.

The one module that imports transformers, and only where such a teacher is asked for (extra
`foreign`). No code is loaded from a model folder, no pickle is read.

Legend: R rows, B rows of a batch, C labels, D width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.data.rows import Rows
from potstill.distillation.signals import Tell
from potstill.errors import MissingExtraError, ModelError, RecipeError

Floats = NDArray[np.float32]

_HUB = "hub:"
_BATCH_ROWS = 32
_HEADS = {
    "classification": "AutoModelForSequenceClassification",
    "multi-label": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "ranking": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "embedding": "AutoModel",
}


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A model of another library, ready to answer."""

    path: str
    task: str
    labels: tuple[str, ...]  # in the order of its outputs; none: vectors
    width: int | None  # of vectors
    _network: Any
    _tokenizer: Any
    _device: str

    def answers(self, rows: Rows, *, max_length: int, tell: Tell | None = None) -> Any:
        """Return its outputs for all rows: (R, C) logits, (R, D) vectors, or of entities a list.

        That list has one array of (words, C) logits a row, read at each word's first sub-word; a
        word that was cut off has nan.
        """
        of_batch = self._of_words if self.task == "token-classification" else self._of_texts
        sizes = [len(each) for each in rows.column("tokens" if "tokens" in rows else "text")]
        order = np.argsort(sizes, kind="stable")
        found: list[Any] = [None] * len(rows)
        for start in range(0, len(order), _BATCH_ROWS):
            numbers = order[start : start + _BATCH_ROWS].tolist()
            for number, answer in zip(
                numbers, of_batch(rows.take(numbers), max_length), strict=True
            ):
                found[number] = answer
            if tell is not None:
                tell(start + len(numbers), len(rows))
        return found if self.task == "token-classification" else np.stack(found)

    @torch.inference_mode()
    def _of_texts(self, rows: Rows, max_length: int) -> Floats:
        columns = [rows.column(name) for name in ("text", "text_pair") if name in rows]
        batch = self._encoded(*columns, max_length=max_length)
        if self.task != "embedding":
            logits: Floats = self._network(**batch).logits.float().cpu().numpy()
            return logits
        states = self._network(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None]
        vectors: Floats = ((states * mask).sum(1) / mask.sum(1)).cpu().numpy()
        return vectors

    @torch.inference_mode()
    def _of_words(self, rows: Rows, max_length: int) -> list[Floats]:
        words = rows.column("tokens")
        batch = self._encoded(words, max_length=max_length, is_split_into_words=True)
        places = [batch.word_ids(row) for row in range(len(words))]
        logits = self._network(**batch).logits.float().cpu().numpy()
        found = []
        for row, own in enumerate(words):
            answer = np.full((len(own), logits.shape[-1]), np.nan, dtype=np.float32)
            for token in range(len(places[row]) - 1, -1, -1):  # so the first sub-word is last
                if places[row][token] is not None:
                    answer[places[row][token]] = logits[row, token]
            found.append(answer)
        return found

    def _encoded(self, *columns: Sequence[Any], max_length: int, **options: Any) -> Any:
        return self._tokenizer(
            *columns,
            truncation=True,
            max_length=max_length,
            padding=True,
            return_tensors="pt",
            **options,
        ).to(self._device)


def open_foreign(path: str | Path, task: str, *, device: str) -> ForeignModel:
    """Load a transformers model as a teacher.

    Args:
        path: a folder, or "hub:NAME".
        task: the kind that it answers.
        device: cpu, cuda, mps.

    Raises:
        MissingExtraError: transformers is not installed.
        RecipeError: a kind of task that a foreign tokenizer cannot teach.
        ModelError: no such model, no such head, or no fast tokenizer.
    """
    if task not in _HEADS:
        raise RecipeError(
            f"a foreign teacher cannot teach {task}: its answers are places in its own tokens",
            allowed=", ".join(_HEADS),
            cure="use a teacher of a family that potstill knows (BERT, RoBERTa, DistilBERT, XLM-R)",
        )
    transformers = _library()
    name, options = _place(str(path))
    network = _loaded(transformers, name, task, options)
    tokenizer = _told(name, lambda: transformers.AutoTokenizer.from_pretrained(name, **options))
    if not tokenizer.is_fast:
        raise ModelError("it has no fast tokenizer", where=name, allowed="a tokenizer.json")
    config = network.config
    is_vectors = task == "embedding"
    labels = () if is_vectors else tuple(config.id2label[i] for i in range(config.num_labels))
    return ForeignModel(
        path=name,
        task=task,
        labels=labels,
        width=int(config.hidden_size) if is_vectors else None,
        _network=network.to(device).eval(),
        _tokenizer=tokenizer,
        _device=device,
    )


def labels_in_order(theirs: Sequence[str], ours: Sequence[str]) -> list[int]:
    """Return where each of our labels stands among a foreign model's.

    Raises:
        ModelError: it has others.
    """
    if len(theirs) == len(ours) == 1:  # one number, whatever it is called
        return [0]
    lacks = [label for label in ours if label not in theirs]
    if lacks or len(theirs) != len(ours):
        adds = [label for label in theirs if label not in ours]
        raise ModelError(
            f"the foreign teacher's labels are {', '.join(theirs)}; "
            + (f"it lacks {', '.join(lacks)}" if lacks else f"the rows have no {', '.join(adds)}"),
            allowed=f"those of the rows: {', '.join(ours)}",
            cure="write the rows' names into id2label of its config.json",
        )
    return [list(theirs).index(label) for label in ours]


def _library() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            "transformers", extra="foreign", needed_for="a teacher of another family"
        ) from error
    library: Any = transformers
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def _place(name: str) -> tuple[str, dict[str, Any]]:
    if name.startswith(_HUB):
        return name.removeprefix(_HUB), {}
    if not Path(name).is_dir():
        raise ModelError(
            "no such model folder", where=name, cure="a model on the hub is written hub:NAME"
        )
    return name, {"local_files_only": True}


def _loaded(transformers: Any, name: str, task: str, options: dict[str, Any]) -> Any:
    auto = getattr(transformers, _HEADS[task])
    network, told = _told(
        name,
        lambda: auto.from_pretrained(
            name, use_safetensors=True, output_loading_info=True, **options
        ),
    )
    missing = [key for key in told["missing_keys"] if "pooler" not in key]
    if missing and task != "embedding":
        raise ModelError(
            f"it has no head for {task}: {missing[0]} would be drawn at random",
            where=name,
            allowed="a model that was tuned for the task",
        )
    return network


def _told(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"transformers cannot load it: {first}", where=name) from error
