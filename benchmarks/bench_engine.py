"""How fast do engines answer, ours and others', all sides in one run?

DistilBERT-base's shape with random weights (speed does not depend on them), real lengths of sst2,
ag_news and imdb (256 tokens at most), a head that reads every token, a [CLS] classifier, and the
real all-MiniLM-L6-v2. Each side runs in a process of its own, on all threads. Peers are run as they
are run best: batches of 16 or of 32 texts of like length, whichever is faster, padded to their
longest, a stream a thread where there are streams; transformers also as most people run it, 32 in
the order of arrival. Ours takes all texts at once; "in order" keeps calls to texts that follow each
other. One text alone goes by the quickest call that each library has. int8 is NNCF's, calibrated,
for OpenVINO's graph and for ours. The sides that are close to each other are run a second time,
after the others, and the better figure counts: a machine's speed changes by the hour.

The ceiling is what a large matrix product reaches in OpenVINO, by its own counters.

    python benchmarks/bench_engine.py            # 40 minutes on 2 cores, quiet
    python benchmarks/bench_engine.py --tiny     # a minute: does it run?
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tables
from facts import SHARED_DATA, store

from potstill.hardware import usable_threads
from potstill.text.ragged import RaggedBatch
from potstill.workflows.demo import packaged_model

SETS = {"sst2": 512, "ag_news": 256, "imdb": 64}  # texts of each
LONGEST, PEER_BATCHES, ROUNDS, CALLS = 256, (16, 32), 4, 60
ENOUGH_S = 4.0  # of rounds
USUAL_BATCH = 32  # of those who do not sort
ONE_TEXT, QUERY, QUERIES = 24, 8, 1_024  # tokens, tokens, texts
PEERS = (
    *("transformers fp32", "transformers bf16", "torch int8"),
    *("onnxruntime fp32", "onnxruntime int8", "openvino bf16", "openvino int8"),
)
OURS = ("ours fp32", "ours bf16", "ours int8", "ours onnx fp32")
HEADS = ("tokens", "cls", "minilm")
CLOSE = ("openvino bf16", "openvino int8", "ours bf16", "ours int8")  # run twice
SIDES_OF_MINILM = ("transformers fp32", "openvino bf16", "openvino int8", "ours bf16", "ours int8")
Run = Callable[[RaggedBatch], Iterator[Callable[[], None]]]  # ways to answer, the best counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a small model and few texts")
    parser.add_argument("--side", choices=(*PEERS, *OURS, "ceiling"))
    parser.add_argument("--head", default="tokens", choices=HEADS)
    parser.add_argument("--model", type=Path)
    asked = parser.parse_args()
    if asked.side:
        found = ceiling() if asked.side == "ceiling" else measured(asked)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as place:
        folders = {
            head: write_model(Path(place) / head, head, is_tiny=asked.tiny) for head in HEADS
        }
        rows = [
            {"side": side, "head": head, **figures}
            for head in HEADS
            for side, figures in of_head(head, folders[head], is_tiny=asked.tiny).items()
        ]
        rates = in_a_process("ceiling", "tokens", folders["tokens"], is_tiny=asked.tiny)
    result = {"ceiling": rates, "rows": rows, "tiny": asked.tiny}
    if asked.tiny:
        print(json.dumps(result))
    else:
        store("engine", result)
        print(tables.engine(result))


def of_head(head: str, folder: Path, *, is_tiny: bool) -> dict[str, dict[str, float]]:
    """Return the figures of each side; of those that are run twice the better ones."""
    sides = SIDES_OF_MINILM if head == "minilm" else (*PEERS, *OURS)
    found: dict[str, dict[str, float]] = {}
    for side in (*sides, *CLOSE):
        figures = in_a_process(side, head, folder, is_tiny=is_tiny)
        earlier = found.get(side, figures)
        found[side] = {
            name: (min if name.endswith("_ms") else max)(figures[name], earlier[name])
            for name in figures
        }
    return found


def in_a_process(side: str, head: str, folder: Path, *, is_tiny: bool) -> dict[str, Any]:
    words = [sys.executable, __file__, "--side", side, "--head", head, "--model", str(folder)]
    told = subprocess.run(
        [*words, *(["--tiny"] if is_tiny else [])], capture_output=True, text=True, check=False
    )
    if told.returncode:
        raise RuntimeError(f"{side}: {told.stderr[-2_000:]}")
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    print(side, head, json.dumps(found), file=sys.stderr)
    return found


def write_model(folder: Path, head: str, *, is_tiny: bool) -> Path:
    """Write a model of random weights as transformers writes it; all-MiniLM-L6-v2 is real."""
    if head == "minilm":
        return Path(shutil.copytree(packaged_model(), folder))
    import transformers

    transformers.set_seed(0)
    sizes = {"n_layers": 2, "dim": 64, "hidden_dim": 128, "n_heads": 4} if is_tiny else {}
    config = transformers.DistilBertConfig(**sizes, num_labels=3)
    kind = "TokenClassification" if head == "tokens" else "SequenceClassification"
    model = getattr(transformers, f"DistilBertFor{kind}")(config)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).write_bytes((packaged_model() / name).read_bytes())
    return folder


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    rounds = 1 if asked.tiny else ROUNDS
    run, found = side(asked.side, asked.head, asked.model), {}
    for name, texts in sets(is_tiny=asked.tiny).items():
        seconds = min(best_of(once, rounds) for once in run(texts))
        found[f"{name}_tokens_per_second"] = round(texts.total_tokens / seconds, 1)
        found[f"{name}_texts_per_second"] = round(len(texts) / seconds, 1)
    if asked.side.startswith("ours") or asked.side == "transformers fp32":
        run_in_order = side(asked.side, asked.head, asked.model, in_order=True)
        texts = sets(is_tiny=asked.tiny)["sst2"]
        seconds = min(best_of(once, rounds) for once in run_in_order(texts))
        found["sst2_in_order_tokens_per_second"] = round(texts.total_tokens / seconds, 1)
    queries = repeated(QUERY, 32 if asked.tiny else QUERIES)
    seconds = min(best_of(once, rounds) for once in run(queries))
    found["queries_per_second"] = round(len(queries) / seconds, 1)
    del run
    alone = side(asked.side, asked.head, asked.model, alone=True)
    for name, length in (("one_text", ONE_TEXT), ("query", QUERY)):
        once = next(alone(repeated(length, 1)))
        found[f"{name}_p50_ms"] = round(1e3 * median_of(once), 3)
    return found


def repeated(tokens: int, texts: int) -> RaggedBatch:
    return RaggedBatch.from_lists([[101, *range(2_000, 2_000 + tokens - 2), 102]] * texts)


@functools.cache
def sets(*, is_tiny: bool) -> dict[str, RaggedBatch]:
    """Return real texts as ids, in a fixed random order."""
    from potstill.bundle.folder import open_folder

    tokenizer, found = open_folder(packaged_model()).tokenizer(), {}
    for name, count in SETS.items():
        lines = (SHARED_DATA / name / "train.jsonl").read_text().strip().split("\n")
        order = np.random.default_rng(0).permutation(len(lines))
        chosen = [json.loads(lines[row])["text"] for row in order[: 16 if is_tiny else count]]
        found[name] = tokenizer.encode(chosen, max_length=LONGEST).batch
    return found


def side(name: str, head: str, folder: Path, *, in_order: bool = False, alone: bool = False) -> Run:
    kind, _, precision = name.rpartition(" ")
    if kind == "ours":
        return ours("openvino", precision, folder, in_order=in_order)
    if kind == "ours onnx":
        return ours("onnx", precision, folder, in_order=in_order)
    call = {
        "transformers": lambda: transformers_call(folder, head, precision),
        "torch": lambda: torch_int8_call(folder, head),
        "onnxruntime": lambda: onnxruntime_call(folder, head, precision),
        "openvino": lambda: openvino_call(folder, head, precision, is_alone=alone),
    }[kind]()

    def run(texts: RaggedBatch) -> Iterator[Callable[[], None]]:
        for size in (USUAL_BATCH,) if in_order or alone else PEER_BATCHES:
            batches = padded_batches(texts, size, in_order=in_order)
            yield functools.partial(call, batches)

    return run


def ours(engine: str, precision: str, folder: Path, *, in_order: bool) -> Run:
    import potstill

    if precision == "int8":
        small = folder.with_name(f"{folder.name}-int8")
        if not small.exists():
            potstill.quantize(folder, small, calibration=calibration_rows(folder), tune=False)
        folder, precision = small, "auto"
    model = potstill.load(folder, engine=engine, precision=precision)
    size = model.engine.size  # type: ignore[attr-defined]
    model.engine.size = replace(size, in_order=in_order)  # type: ignore[attr-defined]

    def run(texts: RaggedBatch) -> Iterator[Callable[[], None]]:
        def once() -> None:
            model.engine.run(texts)

        yield once

    return run


def calibration_rows(folder: Path) -> Any:
    lines = (SHARED_DATA / "sst2" / "train.jsonl").read_text().split("\n")[:300]
    texts = [json.loads(line)["text"] for line in lines]
    if folder.name == "tokens":
        return [{"tokens": text.split()} for text in texts]
    return [{"text": text} for text in texts]


Padded = Sequence[tuple[np.ndarray, np.ndarray]]  # ids and mask of each batch


def padded_batches(texts: RaggedBatch, size: int, *, in_order: bool) -> Padded:
    order = np.arange(len(texts)) if in_order else np.argsort(-texts.lengths, kind="stable")
    return [padded(texts.take(order[start : start + size])) for start in range(0, len(order), size)]


def padded(texts: RaggedBatch) -> tuple[np.ndarray, np.ndarray]:
    ids = np.zeros((len(texts), texts.longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    ids[texts.text_index(), texts.positions()] = texts.ids
    mask[texts.text_index(), texts.positions()] = 1
    return ids, mask


def torch_model(folder: Path, head: str) -> Any:
    import torch
    import transformers

    torch.set_num_threads(usable_threads())
    if head == "minilm":
        return transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    kind = "TokenClassification" if head == "tokens" else "SequenceClassification"
    return getattr(transformers, f"DistilBertFor{kind}").from_pretrained(folder).eval()


def transformers_call(folder: Path, head: str, precision: str) -> Callable[[Padded], None]:
    import torch

    model = torch_model(folder, head)
    model = model.to(torch.bfloat16) if precision == "bf16" else model
    return functools.partial(_torch_run, model)


def torch_int8_call(folder: Path, head: str) -> Callable[[Padded], None]:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wishes this away, people still use it
        model = torch.ao.quantization.quantize_dynamic(
            torch_model(folder, head), {torch.nn.Linear}, dtype=torch.qint8
        )
    return functools.partial(_torch_run, model)


def _torch_run(model: Any, batches: Padded) -> None:
    import torch

    with torch.inference_mode():
        for ids, mask in batches:
            model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))


def onnx_file(folder: Path, head: str) -> Path:
    """Export the peer's graph, as optimum does it."""
    import torch

    class Answers(torch.nn.Module):  # the exporter takes inputs by place, models take them by name
        def __init__(self) -> None:
            super().__init__()
            self.model = torch_model(folder, head)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=ids, attention_mask=mask)[0]

    file = folder / "peer.onnx"
    if not file.exists():
        ids = torch.randint(5, 100, (2, 8))
        names = {"input_ids": {0: "b", 1: "t"}, "attention_mask": {0: "b", 1: "t"}}
        torch.onnx.export(
            Answers(),
            (ids, torch.ones_like(ids)),
            str(file),
            input_names=list(names),
            output_names=["states" if head == "minilm" else "logits"],
            dynamic_axes=names,
            dynamo=False,
            opset_version=17,
        )
    return file


def onnxruntime_call(folder: Path, head: str, precision: str) -> Callable[[Padded], None]:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    file = onnx_file(folder, head)
    if precision == "int8":
        small = file.with_name("peer-int8.onnx")
        if not small.exists():
            quantize_dynamic(file, small, weight_type=QuantType.QInt8)
        file = small
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(batches: Padded) -> None:
        for ids, mask in batches:
            session.run(None, {"input_ids": ids, "attention_mask": mask})

    return run


def openvino_call(
    folder: Path, head: str, precision: str, *, is_alone: bool
) -> Callable[[Padded], None]:
    import openvino

    core = openvino.Core()
    model = core.read_model(onnx_file(folder, head))
    if precision == "int8":
        model = peer_int8(core, model, folder)
    streams = 1 if is_alone else usable_threads()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16",  # int8 with the rest in bf16: the best peer
        "INFERENCE_NUM_THREADS": usable_threads(),
        "NUM_STREAMS": streams,
    }
    compiled = core.compile_model(model, "CPU", settings)
    if is_alone:
        request = compiled.create_infer_request()

        def answer(batches: Padded) -> None:
            for ids, mask in batches:
                request.infer({"input_ids": ids, "attention_mask": mask}, share_inputs=True)

        return answer
    queue = openvino.AsyncInferQueue(compiled, streams)

    def run(batches: Padded) -> None:
        for ids, mask in batches:
            queue.start_async({"input_ids": ids, "attention_mask": mask})
        queue.wait_all()

    return run


def peer_int8(core: Any, model: Any, folder: Path) -> Any:
    import contextlib
    import io

    import openvino

    from potstill.compress.nncf_library import nncf

    file = folder / "peer-int8.xml"
    if not file.exists():
        texts = sets(is_tiny=False)["sst2"].take(range(300))
        calls = [
            {"input_ids": ids, "attention_mask": mask}
            for ids, mask in padded_batches(texts, USUAL_BATCH, in_order=False)
        ]
        library = nncf()
        with contextlib.redirect_stdout(io.StringIO()):
            small = library.quantize(
                model, library.Dataset(calls), model_type=library.ModelType.TRANSFORMER
            )
        openvino.save_model(small, str(file), compress_to_fp16=False)
    return core.read_model(file)


def ceiling() -> dict[str, float]:
    """Return operations a second of large products in OpenVINO, by format.

    Counted is the product alone, on average, and neither what brings its input into the format nor
    what reads its output.
    """
    import openvino
    from openvino import opset13 as ops

    rows, inner, outer = 2_048, 768, 3_072
    rates = {}
    for name in ("f32", "bf16", "int8"):
        left = ops.parameter([rows, inner], np.float32, name="x")
        weight = np.random.default_rng(0).normal(size=(inner, outer)).astype(np.float32)
        operands = [left, ops.constant(weight)]
        if name == "int8":
            operands = [_faked(ops, each) for each in operands]
        product = ops.matmul(*operands, transpose_a=False, transpose_b=False)
        model = openvino.Model([ops.result(product)], [left])
        settings = {
            "INFERENCE_PRECISION_HINT": "f32" if name == "f32" else "bf16",
            "INFERENCE_NUM_THREADS": usable_threads(),
            "PERF_COUNT": True,
        }
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        given = np.random.default_rng(1).normal(size=(rows, inner)).astype(np.float32)
        for _ in range(40):
            request.infer([given])
        seconds = max(each.real_time.total_seconds() for each in request.get_profiling_info())
        rates[name] = round(2.0 * rows * inner * outer / seconds)
    return rates


def _faked(ops: Any, node: Any) -> Any:
    """Put the node on 255 levels, which OpenVINO then computes in int8."""
    low, high = np.float32(-4.0), np.float32(4.0)
    return ops.fake_quantize(node, low, high, low, high, 255)


def best_of(run: Callable[[], None], rounds: int) -> float:
    """Return the seconds of the best round; slow sides have fewer, they vary less."""
    run()
    seconds: list[float] = []
    while len(seconds) < rounds and sum(seconds) < ENOUGH_S:
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def median_of(run: Callable[[], None]) -> float:
    for _ in range(5):
        run()
    seconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
