"""What int8 graphs answer on this processor, made for it and made for another.

x86 without VNNI sums two products of 8 bits in 16, which saturate where weights take their full
range. all-MiniLM-L6-v2, quantized for each kind of processor by each engine, calibrated on stsb's
training rows, gives the vectors of stsb's test texts here; so does the file of
`export --quantized`, whose weights have no sign, by onnxruntime alone. A bundle that says that it
is wrong here would be refused: the word is taken out of its manifest, as earlier versions wrote it.

    python benchmarks/experiment_saturation.py WORK
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from facts import SHARED_DATA, store
from numpy.typing import NDArray
from scipy.stats import spearmanr

import potstill
from potstill.runtime.processors import PROCESSORS, processor_here
from potstill.workflows.demo import packaged_model

CALIBRATION = SHARED_DATA / "stsb" / "train.jsonl"
TEST = SHARED_DATA / "stsb" / "test.jsonl"
ENGINES = ("openvino", "onnx")
BATCH = 32
Vectors = NDArray[np.float32]


def main() -> None:
    work = Path(sys.argv[1])
    rows = [json.loads(line) for line in TEST.read_text().splitlines()]
    texts = [row[side] for row in rows for side in ("text", "text_pair")]
    labels = np.array([row["label"] for row in rows])
    exact = potstill.load(packaged_model(), engine="openvino", precision="fp32").embed(texts)
    sides = [told("openvino", "fp32", exact, exact, labels)]
    for engine in ENGINES:
        for made_for in PROCESSORS:
            found = potstill.load(quantized(work, engine, made_for)).embed(texts)
            sides.append(told(engine, made_for, found, exact, labels))
    found = by_onnxruntime(exported(work), texts)
    sides.append(told("the exported file, onnxruntime alone", "any", found, exact, labels))
    here = {"processor_kind": processor_here(), "texts": len(texts)}
    store("saturation", {**here, "sides": sides})


def quantized(work: Path, engine: str, made_for: str) -> Path:
    """Return a copy in int8 for a kind of processor, which does not say for which."""
    out = work / f"{engine}-{made_for}"
    if not out.is_dir():
        calibration = {"calibration": CALIBRATION} if engine == "openvino" else {}
        potstill.quantize(
            packaged_model(), out, engine=engine, processor=made_for, tune=False, **calibration
        )
        manifest = out / "potstill.json"
        content = json.loads(manifest.read_text())
        del content["engine"]["processor"]
        manifest.write_text(json.dumps(content))
    return out


def exported(work: Path) -> Path:
    out = work / "exported"
    if not out.is_dir():
        potstill.export(packaged_model(), out, format="onnx", quantized=True)
    return out


def by_onnxruntime(folder: Path, texts: list[str]) -> Vectors:
    """Return vectors of texts, by the exported file as a plain script runs it."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer.enable_truncation(settings["model_max_length"])
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(folder / "onnx" / "model_quantized.onnx")
    given = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    found = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer.encode_batch(texts[start : start + BATCH])
        inputs = {
            each.name: np.array([getattr(text, given[each.name]) for text in batch], np.int64)
            for each in session.get_inputs()
        }
        found.append(session.run(["sentence_embedding"], inputs)[0])
    return np.concatenate(found)


def told(
    engine: str, made_for: str, found: Vectors, exact: Vectors, labels: NDArray[Any]
) -> dict[str, Any]:
    """Return how near vectors are to fp32's, and how well pairs of them agree with people."""
    cosines = np.sum(unit(found) * unit(exact), axis=-1)
    pairs = unit(found).reshape(len(labels), 2, -1)
    likeness = np.sum(pairs[:, 0] * pairs[:, 1], axis=-1)
    return {
        "engine": engine,
        "made_for": made_for,
        "cosine_mean": float(cosines.mean()),
        "cosine_least": float(cosines.min()),
        "spearman": float(spearmanr(likeness, labels).statistic),
    }


def unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


if __name__ == "__main__":
    main()
