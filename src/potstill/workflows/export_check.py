"""The check of `export`: what a written file says, beside its source in fp32, on real text.

Rows are read as the model's task reads them. Held against the source are the outputs of the file as
it stands, the hidden states behind them, for which the same graph is opened with other outputs, and
what the task makes of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.folder import ModelFolder
from potstill.compress.onnx_export import ENDS, IDS, LOGITS, MASK, STATES, TYPES, VECTORS
from potstill.data.columns import Columns
from potstill.data.plain_texts import plain_texts, require_some_text
from potstill.data.rows import Rows
from potstill.measure.sample_texts import SAMPLE_TEXTS
from potstill.runtime.answering import (
    inputs_of_texts,
    lengths_of_folder,
    rows_of_inputs,
    task_of_folder,
)
from potstill.runtime.engine import STATE_PREFIX
from potstill.runtime.engines import build_engine
from potstill.runtime.onnx_engine import onnxruntime
from potstill.runtime.onnx_operators import onnx_library
from potstill.runtime.openvino_library import openvino
from potstill.tasks import reading
from potstill.tasks.kinds import ANSWERABLE
from potstill.tasks.task import Lengths, Task, text_windows
from potstill.text.ragged import RaggedBatch

Arrays = Mapping[str, NDArray[Any]]
Ask = Callable[[Arrays], Arrays]  # one padded text to what an opened file makes of it

_TEXTS_OF_STATES = 32  # hidden states of all layers take much memory
_PADDING = 3  # empty slots behind each text, so that the mask is put to the test
# Tasks whose answer is a choice; a number or a vector is nearer or further off.
_DECIDING = ("classification", "multi-label", "token-classification", "question-answering")


@dataclass(frozen=True, slots=True)
class Checked:
    """How far an exported file is from its source."""

    texts: int
    largest_difference: float  # of a number of an output
    # Of a number of a hidden state, in the first texts; in layers whose largest number is above 1
    # as a share of that one, since fp32 is no nearer to large numbers.
    largest_state_difference: float
    same_decisions: float | None  # share of rows, of a masked-LM head of tokens; None: no choice
    least_cosine: float | None  # of a text's vector to the source's; None: there are no vectors

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


class Check:
    """A source, and real text that exported files are asked beside it."""

    def __init__(self, folder: ModelFolder, source: object | None, text_column: str) -> None:
        """Read the texts and ask the source.

        Args:
            folder: the source.
            source: rows; None: sentences of ours.
            text_column: where their texts stand.

        Raises:
            DataError: rows that the task cannot read, or without any text.
        """
        self._task = task_of_folder(folder) if folder.task in ANSWERABLE else None
        self._rows = _rows(self._task, source, text_column)
        tokenizer, longest = folder.tokenizer(), folder.max_length
        if self._task is None:
            self._windows = text_windows(tokenizer, self._rows, Lengths(max_length=longest))
        else:
            lengths = lengths_of_folder(folder, self._task, max_length=longest)
            self._windows = self._task.windows(tokenizer, self._rows, lengths)
        self._texts = self._windows.texts
        self._first = self._texts.take(range(min(len(self._texts), _TEXTS_OF_STATES)))
        engine = build_engine(folder, engine="onnx", precision="fp32")
        last = f"{STATE_PREFIX}{folder.config.layers}"
        kind = folder.answering_head.kind
        asked = {"none": [last], "embedding": [last, "vectors"]}.get(kind, ["logits"])
        self._expected = _by_exported_names(kind, [*engine.run(self._texts, asked).values()])
        names = [f"{STATE_PREFIX}{index}" for index in range(folder.config.layers + 1)]
        states = engine.run(self._first, names)
        self._states = [states[name] for name in names]

    def of(self, answers: Ask, states: Ask) -> Checked:
        """Ask an opened file.

        Args:
            answers: gives its outputs.
            states: gives its hidden states, in order.
        """
        found = _joined([answers(_padded(text)) for text in _each(self._texts)], self._texts)
        off = [np.abs(found[name] - array).max() for name, array in self._expected.items()]
        return Checked(
            texts=self._windows.row_count,
            largest_difference=float(np.max(off)),  # nan stays nan
            largest_state_difference=self._state_difference(states),
            same_decisions=self._same_decisions(found),
            least_cosine=self._least_cosine(found),
        )

    def _state_difference(self, states: Ask) -> float:
        off, starts = [], self._first.offsets
        for place, text in enumerate(_each(self._first)):
            for expected, found in zip(self._states, states(_padded(text)).values(), strict=True):
                ours = found[0, : text.total_tokens]  # of a pruned last layer the first token's
                theirs = expected[starts[place] :][: len(ours)]
                off.append(np.abs(ours - theirs).max() / max(1.0, np.abs(expected).max()))
        return float(np.max(off))

    def _same_decisions(self, found: Arrays) -> float | None:
        if self._task is None and LOGITS in found:  # words, one guessed a token
            guessed = [each[LOGITS].argmax(axis=-1) for each in (self._expected, found)]
            return float((guessed[0] == guessed[1]).mean())
        if self._task is None or self._task.name not in _DECIDING:
            return None
        theirs, ours = (
            self._task.answers(_logits(each), self._windows, self._rows)
            for each in (self._expected, found)
        )
        return float(self._task.same(theirs, ours).mean())

    def _least_cosine(self, found: Arrays) -> float | None:
        if VECTORS not in found:
            return None
        theirs, ours = (_of_length_1(each[VECTORS]) for each in (self._expected, found))
        return float((ours * theirs).sum(axis=-1).min())


def onnx_file(file: Path, states: Sequence[str] = ()) -> Ask:
    """Open a file in plain onnxruntime; nodes that are named are given in place of its outputs."""
    content: str | bytes = str(file)
    if states:
        onnx = onnx_library()
        model = onnx.load(file)
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in states)
        content = model.SerializeToString()
    session = onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    names = list(states) or [each.name for each in session.get_outputs()]
    wanted = [each.name for each in session.get_inputs()]

    def ask(inputs: Arrays) -> Arrays:
        found = session.run(names, {name: inputs[name] for name in wanted})
        return dict(zip(names, found, strict=True))

    return ask


def openvino_file(file: Path, states: Sequence[str] = ()) -> Ask:
    """Open a file in plain OpenVINO; nodes that are named are given in place of its outputs."""
    library = openvino("export --format openvino")
    graph = library.Core().read_model(file)
    names = [output.get_any_name() for output in graph.outputs]  # compiled ones have more names
    if states:
        graph.add_outputs(list(states))
    places = range(len(names)) if not states else range(len(names), len(graph.outputs))
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = library.Core().compile_model(graph, "CPU", settings)
    wanted = [each.get_any_name() for each in compiled.inputs]

    def ask(inputs: Arrays) -> Arrays:
        results = compiled({name: inputs[name] for name in wanted})
        found = [np.array(results[place]) for place in places]
        return dict(zip(states or names, found, strict=True))

    return ask


def _rows(task: Task | None, source: object | None, text_column: str) -> Rows:
    """Return the rows to ask, or sentences of ours as rows of the task."""
    if task is None:
        texts = list(SAMPLE_TEXTS) if source is None else plain_texts(source, text_column)
        return Rows({"text": texts}, "texts")
    if source is None:
        return rows_of_inputs(task.name, inputs_of_texts(task.name, SAMPLE_TEXTS))
    rows = reading.unlabelled(task.name, source, Columns(text=text_column))
    require_some_text(rows)
    return rows


def _by_exported_names(kind: str, found: list[NDArray[Any]]) -> Arrays:
    """Return the source's outputs by the names that they are exported under."""
    if kind == "question-answering":
        return dict(zip(ENDS, found[0].T, strict=True))
    names = {"none": (STATES,), "embedding": (STATES, VECTORS)}.get(kind, (LOGITS,))
    return dict(zip(names, found, strict=True))


def _logits(outputs: Arrays) -> NDArray[Any]:
    """Return the logits as a task reads them."""
    if LOGITS in outputs:
        return outputs[LOGITS]
    return np.stack([outputs[name] for name in ENDS], axis=-1)


def _each(texts: RaggedBatch) -> list[RaggedBatch]:
    return [texts.take([place]) for place in range(len(texts))]


def _padded(text: RaggedBatch) -> Arrays:
    """Return one text, with padding behind it, as a file takes it."""
    types = np.zeros(text.total_tokens) if text.token_types is None else text.token_types
    given: Arrays = {IDS: text.ids, MASK: np.ones(text.total_tokens), TYPES: types}
    return {
        name: np.pad(numbers.astype(np.int64), (0, _PADDING))[None]
        for name, numbers in given.items()
    }


def _joined(parts: list[Arrays], texts: RaggedBatch) -> Arrays:
    """Return the outputs of all texts, padding taken out again."""
    joined = {}
    for name, first in parts[0].items():
        each = [part[name] for part in parts]
        if first.ndim == 3 or name in ENDS:  # of tokens
            each = [array[0, :length] for array, length in zip(each, texts.lengths, strict=True)]
        joined[name] = np.concatenate(each)
    return joined


def _of_length_1(vectors_BD: NDArray[Any]) -> NDArray[Any]:
    lengths = np.linalg.norm(vectors_BD, axis=-1, keepdims=True)
    scaled: NDArray[Any] = vectors_BD / np.maximum(lengths, 1e-12)
    return scaled
