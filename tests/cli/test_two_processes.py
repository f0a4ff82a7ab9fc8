"""Two processes under torchrun: what one of them does for both, the other waits for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.command_line import command, said, write_jsonl
from tests.conftest import REPOSITORY
from tests.corpora import write_patterns
from tests.folders import write_tiny_model

SMALL = (
    *("--set", "max_length=32", "--set", "step_tokens=256", "--set", "batch_tokens=128"),
    *("--set", "held_out_documents=10", "--set", "scores=1", "--set", "precision=fp32"),
    *("--epochs", "1", "--threads", "1", "--json"),
)
IN_TWO = (
    *("-m", "torch.distributed.run", "--nproc-per-node", "2"),
    *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
)


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """Return a Hugging Face folder whose weights are a pickle."""
    model = write_tiny_model(tmp_path / "model")
    (model / "potstill.json").unlink()
    weights = model / "model.safetensors"
    torch.save(load_file(weights), model / "pytorch_model.bin")
    weights.unlink()
    return model


def test_a_pickle_is_converted_and_evaluation_texts_are_searched_once_for_both(
    capsys: pytest.CaptureFixture[str], pickled: Path, tmp_path: Path
) -> None:
    write_patterns(tmp_path / "texts.txt")
    text = (tmp_path / "texts.txt").read_text().splitlines()[3]
    write_jsonl(tmp_path / "test.jsonl", {"text": text})
    words = [
        *("finetune", "--task", "masked-lm", "--model", pickled, "--allow-pickle"),
        *("--train", tmp_path / "texts.txt", "--evaluation", tmp_path / "test.jsonl"),
        *("--out", tmp_path / "out", *SMALL),
    ]
    done = subprocess.run(
        [sys.executable, *IN_TWO, *command(*words)[1:]],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert any("documents hold evaluation texts" in each for each in answer["warnings"])
    assert {path.name for path in tmp_path.iterdir()} == {
        *("model", "model-words", "model-safetensors", "texts.txt", "test.jsonl"),
        *("out", "out.corpus"),
    }
    assert len(list((tmp_path / "out.corpus").glob("contamination-*"))) == 1
    lineage = said(capsys, "info", tmp_path / "out", "--json").answer["lineage"]
    assert lineage["contaminated_documents"] >= 1
