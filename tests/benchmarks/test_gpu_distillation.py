"""The stages for a card run at a tiny scale on a CPU, without the packages it lacks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import write_jsonl
from tests.conftest import REPOSITORY
from tests.corpora import write_patterns
from tests.folders import write_tiny_model
from tests.tiny import WORDS

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

MISSING = ("orjson", "openvino")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny model, a corpus, and rows of two tasks."""
    folder = tmp_path_factory.mktemp("card")
    write_tiny_model(folder / "model")
    (folder / "data" / "corpus").mkdir(parents=True)
    write_patterns(folder / "data" / "corpus" / "texts.txt")
    for task in ("trec", "sst2"):
        rows = [
            {"text": f"{'good' if number % 2 else 'bad'} {word}", "label": str(number % 2)}
            for number, word in enumerate(WORDS[8:] * 6)
        ]
        (folder / "data" / task).mkdir()
        write_jsonl(folder / "data" / task / "train.jsonl", *rows)
        write_jsonl(folder / "data" / task / "test.jsonl", *rows[:40])
    return folder


@pytest.fixture
def card(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that does a stage without the packages that such a machine may lack."""
    for name in MISSING:
        monkeypatch.setitem(sys.modules, name, None)
    import gpu_distillation as gpu

    place = gpu.Place(
        work=tmp_path / "work",
        data=ground / "data",
        out=tmp_path / "out",
        corpus=(ground / "data" / "corpus" / "texts.txt",),
        pretrained=ground / "model",
        device="cpu",
        threads=1,
    )
    return lambda stage: gpu.run(stage, place, gpu.tiny_scale())


def test_speed_tells_tokens_share_and_memory(card: Any, tmp_path: Path) -> None:
    found = card("speed")
    assert set(found["works"]) == {"masked-LM training", "distillation step", "bulk inference"}
    for work in found["works"].values():
        assert work["tokens_per_second"] > 0
        share = work["flops_per_second"] / found["bf16_flops_per_second"]
        assert work["share_of_bf16_rate"] == pytest.approx(share, abs=1e-3)
        assert work["flops_per_token"] > 0
    assert json.loads((tmp_path / "out" / "gpu_speed.json").read_text())["tiny"] is True


def test_operations_are_those_that_torch_counts() -> None:
    import gpu_distillation as gpu
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from potstill.models.layout import arrange
    from tests.tiny import random_batch

    config = gpu.tiny_scale().base
    model = gpu.drawn(config, torch.device("cpu"))
    texts = random_batch([32] * 4, seed=0)

    class Passages:
        lengths = np.asarray(texts.lengths)

    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(arrange(texts, config, how="padded"))
    reckoned = gpu.flops_of_reading(config, Passages(), asked=1.0) * texts.total_tokens
    assert reckoned == pytest.approx(counted.get_total_flops(), rel=0.05)


def test_presets_are_compared_and_the_comparison_goes_on_where_it_stopped(
    card: Any, tmp_path: Path
) -> None:
    found = card("presets")
    conditions = [row["condition"] for row in found["rows"]]
    assert {"teacher", "cut", "task distillation", "potstill", "potstill, then the task"} <= set(
        conditions
    )
    assert set(found["students"]) == {"distilbert", "relations", "potstill"}
    for row in found["rows"]:
        value, low, high = row["above_cut"]
        assert low <= value <= high
    bundles = sorted((tmp_path / "work").rglob("model.safetensors"))
    before = {file: file.stat().st_mtime_ns for file in bundles}
    assert card("presets")["rows"] == found["rows"]
    assert before == {file: file.stat().st_mtime_ns for file in bundles}


def test_the_whole_way_gives_retention_only_where_the_teacher_solves(card: Any) -> None:
    found = card("scaled")
    (row,) = found["rows"]
    assert row["task"] == "sst2"
    assert (row["retention"] is None) == (not row["is_solved"])
    assert found["texts"]["teacher"]["train_tokens"] > 0
