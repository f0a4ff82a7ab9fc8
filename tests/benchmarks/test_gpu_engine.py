"""The engine's measurement for a card runs at a tiny scale on a CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.command_line import write_jsonl
from tests.conftest import REPOSITORY
from tests.tiny import random_batch

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import gpu_engine


def test_every_side_tells_its_speed_and_share_of_the_rate(tmp_path: Path) -> None:
    plan = gpu_engine.tiny_plan()
    for name in plan.sets:
        (tmp_path / name).mkdir()
        # A line end of unicode inside a text is no end of a row.
        write_jsonl(tmp_path / name / "test.jsonl", {"text": "one\u2028two"}, {"text": "good film"})
    found = gpu_engine.measured(plan, tmp_path)
    assert len(found["sides"]) == len(plan.sets) + len(gpu_engine.PEER_BATCHES)
    for side in found["sides"]:
        assert side["texts_per_second"] > 0
        assert 0 < side["share_of_bf16_rate"] < 10


def test_the_peer_answers_all_texts_of_like_length_together() -> None:
    texts = random_batch([5, 2, 9, 3, 7], seed=0)
    parts = list(gpu_engine.like_lengths(texts, 2))
    assert [list(part.lengths) for part in parts] == [[2, 3], [5, 7], [9]]


def test_the_peer_reads_no_padding() -> None:
    pytest.importorskip("transformers")
    both = random_batch([3, 30], seed=1)
    answers = []
    for texts in (both.take([0]), both):
        torch.manual_seed(0)
        config = gpu_engine.tiny_plan().config
        answers.append(gpu_engine.transformers_runner(config, torch.device("cpu"), texts, 2)())
    (alone,), (beside,) = answers
    np.testing.assert_allclose(alone[0], beside[0], atol=0.001)  # bf16
    assert np.abs(beside[0] - beside[1]).max() > 0.005, "else every text has one answer"
