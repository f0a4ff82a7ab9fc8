"""One model under measurement, as the child process holds it.

A text's way is timed from end to end: tokenizer, engine, and the decoding of the answer.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from potstill.bundle.folder import open_folder
from potstill.data.rows import Rows
from potstill.held_memory import forget_peak, peak_bytes, resident_bytes
from potstill.runtime.answering import rows_of_inputs
from potstill.runtime.engines import engine_of, is_engine_installed
from potstill.runtime.model import Model, load
from potstill.tasks.kinds import ANSWERABLE

Answer = dict[str, Any]

# What an engine imports; a new one is named here, so that its libraries count as imports.
_MODULES: Mapping[str, tuple[str, ...]] = {
    "torch": ("potstill.runtime.torch_engine",),
    "openvino": ("potstill.runtime.openvino_engine",),
    "onnx": ("potstill.runtime.onnx_engine", "onnxruntime", "onnx"),
}
_WAKING_CALLS = 2  # untimed, at the start of a round: caches are refilled, others' threads rest


class Subject:
    """Loads a model on command, and answers with times."""

    def __init__(self) -> None:
        """Begin without a model."""
        self._model: Model | None = None
        self._floor_bytes = 0
        self._commands: dict[str, Callable[..., Answer]] = {
            "load": self._load,
            "one_by_one": self._one_by_one,
            "together": self._together,
            "memory": self._memory,
            "outputs": self._outputs,
        }

    def obey(self, command: str, details: Mapping[str, Any]) -> Answer:
        """Run one command.

        Raises:
            PotstillError: the model cannot be loaded or run.
        """
        return self._commands[command](**details)

    def _load(self, folder: str, engine: str, options: Mapping[str, Any]) -> Answer:
        name = engine
        if engine == "auto":
            asked = {name: options.get(name, "auto") for name in ("device", "precision")}
            name = engine_of(open_folder(Path(folder), verify=False), **asked)
        if is_engine_installed(name):  # else loading tells what is missing
            for module in _MODULES.get(name, ()):
                importlib.import_module(module)
        self._floor_bytes = resident_bytes()
        forget_peak()
        began = time.perf_counter()
        self._model = load(folder, engine=engine, **options)
        return {
            "load_seconds": time.perf_counter() - began,
            "engine": self._model.engine.name,
            "device": self._model.engine.device,
            "precision": self._model.engine.precision,
            "reason": self._model.engine.reason,
        }

    def _one_by_one(self, texts: list[Any]) -> Answer:
        """Return the milliseconds of each text, asked alone."""
        for text in texts[:_WAKING_CALLS]:
            self._answer([text])
        milliseconds = []
        for text in texts:
            began = time.perf_counter()
            self._answer([text])
            milliseconds.append(1e3 * (time.perf_counter() - began))
        return {"milliseconds": milliseconds}

    def _together(self, texts: list[Any]) -> Answer:
        """Return the seconds of all texts, asked at once, and their real tokens."""
        tokens = self._tokens(texts)
        for text in texts[:_WAKING_CALLS]:
            self._answer([text])
        began = time.perf_counter()
        self._answer(texts)
        return {"seconds": time.perf_counter() - began, "tokens": tokens}

    def _tokens(self, inputs: list[Any]) -> int:
        """Return the real tokens that the model reads, those of overlapping windows included."""
        model = self._loaded()
        if model.task not in ANSWERABLE or model.task == "embedding":
            return model.encode(_texts(inputs)).batch.total_tokens
        task = model.answered_task
        rows = rows_of_inputs(task.name, inputs)
        return task.windows(model.tokenizer, rows, model.lengths).texts.total_tokens

    def _memory(self) -> Answer:
        """Return the floor (all imports, no model) and the most held above it."""
        peak = max(0, peak_bytes() - self._floor_bytes)
        return {
            "import_floor_bytes": self._floor_bytes,
            "peak_memory_bytes": peak,
            "peak_device_memory_bytes": _peak_of_card(self._loaded().engine.device),
        }

    def _outputs(self, rows: str, output: str) -> Answer:
        """Write the outputs of all windows or tokens for the columns of rows in a JSON file."""
        model = self._loaded()
        columns = json.loads(Path(rows).read_bytes())
        windows = model.answered_task.windows(model.tokenizer, Rows(columns, rows), model.lengths)
        np.save(output, model.engine.run(windows.texts)["logits"], allow_pickle=False)
        return {"truncated": int(np.count_nonzero(windows.truncated))}

    def _answer(self, inputs: list[Any]) -> None:
        model = self._loaded()
        if model.task in ANSWERABLE and model.task != "embedding":
            model.predict(inputs)
        else:
            model.embed(_texts(inputs))

    def _loaded(self) -> Model:
        assert self._model is not None, "the first command is load"
        return self._model


def _texts(inputs: list[Any]) -> list[str]:
    """Return all texts that become vectors: of a pair both."""
    parts = (given.values() if isinstance(given, dict) else [given] for given in inputs)
    return [text for each in parts for text in each]


def _peak_of_card(device: str) -> int | None:
    """Return the most memory that the CUDA card held for this process; None elsewhere."""
    if device != "cuda":
        return None
    import torch

    return int(torch.cuda.max_memory_reserved())
