"""The model that a user holds: tokenizer, engine and the decoding of its task."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.folder import ModelFolder
from potstill.bundle.manifest import fingerprint
from potstill.bundle.opening import open_model
from potstill.bundle.write import content_of, write_bundle
from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.runtime.answering import (
    Answered,
    answer_parts,
    answer_rows,
    lengths_of_folder,
    require_form,
    rows_of_inputs,
    task_of_folder,
)
from potstill.runtime.engine import Engine
from potstill.runtime.engines import build_engine
from potstill.tasks.task import Lengths, Task
from potstill.text.tokenizer import Encoded, Tokenizer


class Model:
    """A loaded model folder, ready to answer."""

    def __init__(
        self,
        folder: ModelFolder,
        tokenizer: Tokenizer,
        engine: Engine,
        *,
        max_length: int | None = None,
    ) -> None:
        """Put the parts together; see `load` for the usual way.

        Args:
            folder: what stands on disk.
            tokenizer: strings to ids.
            engine: ids to arrays.
            max_length: tokens at which a text is cut; None: what the folder says.

        Raises:
            RecipeError: a length that the model's position table does not have.
        """
        self.folder = folder
        self.tokenizer = tokenizer
        self.engine = engine
        self.max_length = _checked_length(max_length, folder)

    @property
    def task(self) -> str | None:
        """Return the kind of task, None for a bare encoder."""
        return self.folder.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the names of the outputs."""
        return self.folder.head.labels

    @property
    def fingerprint(self) -> str:
        """Return the identity of config, weights and tokenizer."""
        return fingerprint(self.folder.path)

    @functools.cached_property
    def answered_task(self) -> Task:
        """Return the task itself: what outputs mean and how good answers are.

        Raises:
            InputError: the model has no head, or one whose outputs are no answers.
        """
        return task_of_folder(self.folder)

    @property
    def lengths(self) -> Lengths:
        """Return how long texts may be, and what becomes of longer ones."""
        return lengths_of_folder(self.folder, self.answered_task, max_length=self.max_length)

    def predict(self, inputs: Iterable[Any]) -> list[dict[str, Any]]:
        """Answer each input by the model's task.

        Args:
            inputs: texts, or what the task takes: pairs of texts, lists of words, questions with
                their contexts, or dicts with our columns; see `rows_of_inputs`.

        Returns:
            For classes `{"label", "score", "scores", "truncated"}`, for many labels `{"labels"}`
            beside these, for entities `{"entities"}`, for questions `{"answer", "score", "start",
            "end"}`, for numbers and ranking `{"score"}`, for vectors `{"embedding"}`.

        Raises:
            InputError: the model has no head, or one of a task that cannot be answered here.
            DataError: something that is no input of the task.
        """
        task = self.answered_task
        return self.predict_rows(rows_of_inputs(task.name, inputs))

    def predict_rows(self, rows: Rows) -> list[dict[str, Any]]:
        """Answer rows that were read for this task, see `tasks.reading`."""
        answered = self.answer(rows)
        return self.answered_task.items(answered.answers, rows, answered.windows.truncated)

    def predict_parts(self, parts: Iterable[Rows]) -> Iterator[tuple[Rows, list[dict[str, Any]]]]:
        """Answer rows part by part, in order: what is in memory are two parts at most.

        Raises:
            DataError: single texts, and the model has learned from pairs.
        """
        task = self.answered_task
        whole = (_of_its_form(self.folder, rows) for rows in parts)
        found = answer_parts(task, whole, self.tokenizer, self.engine, self.lengths)
        for rows, answered in found:
            yield rows, task.items(answered.answers, rows, answered.windows.truncated)

    def answer(self, rows: Rows) -> Answered:
        """Return one answer a row, as the task's metrics take them.

        Raises:
            DataError: single texts, and the model has learned from pairs.
        """
        require_form(self.folder, rows)
        return answer_rows(self.answered_task, rows, self.tokenizer, self.engine, self.lengths)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector a text, (B, D), pooled and normed as the folder declares.

        A folder that declares nothing gives the mean over all positions, not normed.

        Raises:
            DataError: something that is not a text.
        """
        vectors_BD: NDArray[np.float32] = self.engine.run(self.encode(texts).batch, ["vectors"])[
            "vectors"
        ]
        return vectors_BD

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenize, cutting at `max_length`; the result tells which texts were cut.

        Raises:
            DataError: something that is not a text, with its place in the list.
        """
        if isinstance(texts, str):
            raise DataError("texts is one string", allowed="a list of strings", cure="[text]")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(
                    f"text is {type(text).__name__}, not a string", where=f"item {index}"
                )
        return self.tokenizer.encode(list(texts), max_length=self.max_length)

    def save(self, path: str | Path) -> str:
        """Write the model as a bundle, whole or not at all, and return its fingerprint.

        Weights come out under today's names whatever names they were read by; what the model does
        not use (see `info`) is left out.

        Raises:
            OutputError: the target is not empty or cannot be written.
            StorageError: the disk is full.
        """
        return write_bundle(Path(path), content_of(self.folder, self.tokenizer))


def load(  # noqa: PLR0913 - the choices of one loading, all by name
    name_or_path: str | Path,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    max_length: int | None = None,
    allow_pickle: bool = False,
) -> Model:
    """Load a model from a folder or, as "hub:NAME", from the Hugging Face hub.

    Args:
        name_or_path: a Hugging Face folder, a bundle, or "hub:org/name".
        engine: "openvino" or "onnx" (CPU, without torch), "torch", or "auto": see `engines`.
        device: "auto", "cpu", "cuda", "mps".
        precision: "auto" is bf16 where the hardware multiplies it, else "fp32".
        threads: of the engine; None: what affinity and quota allow. With torch they are those of
            the whole process, and the last loading sets them.
        max_length: tokens at which texts are cut; None: what the folder says.
        allow_pickle: convert a folder of pickles once, in a child process.

    Raises:
        ModelError: the folder cannot be used.
        RecipeError: a setting that this machine or model does not have.
    """
    folder = open_model(name_or_path, allow_pickle=allow_pickle)
    tokenizer = folder.tokenizer()
    runner = build_engine(
        folder, engine=engine, device=device, precision=precision, threads=threads
    )
    return Model(folder, tokenizer, runner, max_length=max_length)


def _of_its_form(folder: ModelFolder, rows: Rows) -> Rows:
    require_form(folder, rows)
    return rows


def _checked_length(asked: int | None, folder: ModelFolder) -> int:
    """Return the tokens at which a text is cut: as asked, else as the folder says."""
    if asked is None:
        return folder.max_length
    if not 1 <= asked <= folder.config.max_length:
        raise RecipeError(
            f"max_length is {asked}", allowed=f"1 to {folder.config.max_length} for this model"
        )
    return asked
