"""A serverless function around an exported classifier: no potstill, no torch, no network.

    potstill export MODEL --out model --quantized && rm model/onnx/model.onnx
    pip install --no-deps --target package -r requirements.txt
    cp -r handler.py model package/        # and zip it, or copy it into an image

The event is {"texts": ["…", …]}, or an HTTP event whose body is that object, as text or parsed. An
HTTP event is answered with a status, any other with the answers alone, or with {"error": …}. MODEL
names another folder than ./model. What is loaded stays for the next call of the same process.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

MOST_TEXTS = 100  # of one call

_INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class WrongEvent(Exception):
    """The caller's mistake, in one line."""


def handler(event: Any, context: object = None) -> dict[str, Any]:
    """Answer one event."""
    del context
    try:
        answers, status = {"answers": answer(texts_of(event))}, 200
    except WrongEvent as error:
        answers, status = {"error": str(error)}, 400
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
    """Return label and score of each text."""
    session, tokenizer, labels = model()
    encoded = tokenizer.encode_batch(texts)
    inputs = {
        each.name: np.array([getattr(text, _INPUTS[each.name]) for text in encoded], np.int64)
        for each in session.get_inputs()
    }
    (logits,) = session.run(["logits"], inputs)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares = powers / powers.sum(axis=-1, keepdims=True)
    return [{"label": labels[row.argmax()], "score": float(row.max())} for row in shares]


@cache
def model() -> tuple[Any, Any, list[str]]:
    """Return session, tokenizer and labels; read once a process."""
    folder = Path(os.environ.get("MODEL", Path(__file__).with_name("model")))
    config = json.loads((folder / "config.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(settings["model_max_length"])
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(str(folder / "onnx" / "model_quantized.onnx"))
    names = config["id2label"]
    return session, tokenizer, [names[str(index)] for index in range(len(names))]
