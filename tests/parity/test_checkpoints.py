"""Ours = transformers: hidden states and logits to 1e-5, for what it writes and what we write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from potstill.architectures.heads import hf_class_name
from potstill.bundle.folder import open_folder
from potstill.bundle.write import BundleContent, write_bundle
from potstill.models import Encoder, TaskModel
from potstill.models.loading import load_task_model, tensors_of
from tests.parity.reference import disturb, reference_of, require_equal, transformers
from tests.tiny import tiny_config, tiny_head

KINDS = ("none", "masked-lm", "classification", "token-classification", "question-answering")
CASES = [
    (family, kind) for family in ("bert", "distilbert", "roberta", "xlm-roberta") for kind in KINDS
]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_we_read_what_transformers_writes(family: str, kind: str, tmp_path: Path) -> None:
    reference = reference_of(family, kind)
    reference.save_pretrained(tmp_path / "theirs")
    folder = open_folder(tmp_path / "theirs")
    assert folder.plan.missing == []
    assert folder.plan.unknown == []
    assert folder.head.kind == kind
    require_equal(load_task_model(folder), reference)


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_transformers_reads_what_we_write(family: str, kind: str, tmp_path: Path) -> None:
    model = TaskModel(tiny_config(family), tiny_head(kind))
    model.initialize(seed=1)
    disturb(model)
    content = BundleContent(
        config=model.config, head=model.spec, tensors=tensors_of(model), tokenizer=None
    )
    write_bundle(tmp_path / "ours", content)
    name = hf_class_name(model.config.family, model.spec)
    reference, told = getattr(transformers, name).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert not told["mismatched_keys"]
    require_equal(model, reference.eval())


def test_every_case_is_tried() -> None:
    assert len(CASES) == 20


def test_a_bare_encoder_is_built_from_a_preset_config() -> None:
    encoder = Encoder(replace(tiny_config(), pooler=False))
    assert encoder.pooler is None
