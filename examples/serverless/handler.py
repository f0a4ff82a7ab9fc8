"""A serverless function around an exported classifier: no potstill, no torch, no network.

    potstill export MODEL --out model --quantized && rm model/onnx/model.onnx
    pip install --no-deps --target package -r requirements.txt
    cp -r handler.py model package/        # and zip it, or copy it into an image

The event is {"texts": ["…", …]}, or an HTTP event whose body is that object, as text or parsed. An
HTTP event is answered with a status, any other with the answers alone, or with {"error": …}. MODEL
names another folder than ./model. What is loaded stays for the next call of the same process.

A model of classes answers {"label", "score"}, one of many labels "labels" beside these, those whose
score reaches its threshold, and one of numbers {"score"}.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

MOST_TEXTS = 100  # of one call
TASKS = ("classification", "multi-label", "regression")

_INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class WrongEvent(Exception):
    """The caller's mistake, in one line."""


class WrongModel(Exception):
    """The mistake of who put the model here, in one line."""


def handler(event: Any, context: object = None) -> dict[str, Any]:
    """Answer one event."""
    del context
    try:
        answers, status = {"answers": answer(texts_of(event))}, 200
    except (WrongEvent, WrongModel) as error:
        answers, status = {"error": str(error)}, 400 if isinstance(error, WrongEvent) else 500
    if not _is_http(event):
        return answers
    headers = {"content-type": "application/json"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(answers)}


def texts_of(event: Any) -> list[str]:
    """Return the texts of an event."""
    if _is_http(event):
        event = event["body"]
        if isinstance(event, str | bytes):
            try:
                event = json.loads(event or "null")
            except ValueError as error:
                raise WrongEvent(f"the body is no JSON: {error}") from error
    texts = event.get("texts") if isinstance(event, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise WrongEvent('texts is missing, or no list of strings; send {"texts": ["…"]}')
    if not 1 <= len(texts) <= MOST_TEXTS:
        raise WrongEvent(f"{len(texts)} texts; allowed: 1 to {MOST_TEXTS} a call")
    return texts


def _is_http(event: Any) -> bool:
    return isinstance(event, dict) and "body" in event


def answer(texts: list[str]) -> list[dict[str, Any]]:
    """Answer each text by the model's task."""
    loaded = model()
    encoded = loaded.tokenizer.encode_batch(texts)
    inputs = {
        each.name: np.array([getattr(text, _INPUTS[each.name]) for text in encoded], np.int64)
        for each in loaded.session.get_inputs()
    }
    (logits,) = loaded.session.run(["logits"], inputs)
    return [loaded.answer(row) for row in logits]


class Model(NamedTuple):
    """What is read once a process."""

    session: Any
    tokenizer: Any
    task: str
    labels: list[str]
    thresholds: dict[str, float]  # of many labels: the score from which on each is answered

    def answer(self, logits: Any) -> dict[str, Any]:
        """Return what one row of logits says."""
        if self.task == "regression":
            return {"score": float(logits[0])}
        if self.task == "classification":
            return self._best(_softmax(logits))
        scores = 0.5 * (1.0 + np.tanh(0.5 * logits))  # a sigmoid without overflow
        scored = zip(self.labels, scores, strict=True)
        said = [label for label, score in scored if score >= self.thresholds.get(label, 0.5)]
        return self._best(scores) | {"labels": said}

    def _best(self, scores: Any) -> dict[str, Any]:
        return {"label": self.labels[scores.argmax()], "score": float(scores.max())}


def _softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


@cache
def model() -> Model:
    """Read the model; one that answers no single texts by `TASKS` is refused."""
    folder = Path(os.environ.get("MODEL", Path(__file__).with_name("model")))
    config = json.loads((folder / "config.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    told = json.loads((folder / "potstill.json").read_text())
    if told["task"] not in TASKS:
        raise WrongModel(f"the task of this model is {told['task']}; allowed: {', '.join(TASKS)}")
    if told["settings"].get("pairs"):
        raise WrongModel("this model reads pairs of texts; allowed: a model of single texts")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(settings["model_max_length"])
    tokenizer.enable_padding()
    names = config["id2label"]
    return Model(
        session=onnxruntime.InferenceSession(str(folder / "onnx" / "model_quantized.onnx")),
        tokenizer=tokenizer,
        task=told["task"],
        labels=[names[str(index)] for index in range(len(names))],
        thresholds=told["thresholds"],
    )
