"""What answers tell: labels in any order, no retention of a task that is not solved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from potstill.bundle.folder import ModelFolder, open_folder
from potstill.data.columns import Columns
from potstill.errors import DataError, InputError
from potstill.metrics.few_rows import seen_share
from potstill.workflows.compared_answers import UNSOLVED, Proof, judge, read_proof
from tests.folders import write_tiny_model

LABELS = ("a", "b", "c")
ROWS = 300


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFolder]:
    place = tmp_path_factory.mktemp("answers")
    orders = {"teacher": LABELS, "student": ("c", "a", "b"), "other": ("a", "b", "x", "y")}
    return {
        name: open_folder(
            write_tiny_model(place / name, "classification", labels=order, task="classification")
        )
        for name, order in orders.items()
    } | {"encoder": open_folder(write_tiny_model(place / "encoder"))}


def rows(count: int = ROWS) -> list[dict[str, str]]:
    return [{"text": f"row {row}", "label": LABELS[row % 3]} for row in range(count)]


def proof_of(folders: dict[str, ModelFolder], *names: str, **changes: object) -> Proof:
    chosen = {name: folders[name] for name in names}
    asked = {"primary": None, "seed": 0} | changes
    return read_proof(chosen, rows(), Columns(), **asked)


def logits(answers: np.ndarray, order: tuple[str, ...] = LABELS) -> np.ndarray:
    """Return the logits of a model that gives these answers, in its own order of labels."""
    return np.asarray([[5.0 * (LABELS[answer] == label) for label in order] for answer in answers])


def noisy(share_wrong: float, seed: int) -> np.ndarray:
    """Return right answers but for a share of rows."""
    is_wrong = np.random.default_rng(seed).random(ROWS) < share_wrong
    return (np.arange(ROWS) + is_wrong) % 3


def test_the_students_own_order_of_labels_is_heeded(folders):
    proof = proof_of(folders, "teacher", "student")
    answers = noisy(0.1, seed=1)
    judged = judge(proof, {"teacher": logits(answers), "student": logits(answers, ("c", "a", "b"))})
    assert judged.agreement["student"].value == 1.0
    assert judged.flips["student"].rows == ()
    retention = judged.quality["student"].retention
    assert retention.value == 1.0
    assert retention.low == pytest.approx(seen_share(len(proof.rows)))
    teacher = judged.quality["teacher"].retention
    assert (teacher.value, teacher.low, teacher.high) == (1.0, 1.0, 1.0)  # however few the rows


def test_retention_is_the_students_score_over_the_teachers(folders):
    proof = proof_of(folders, "teacher", "student")
    teacher, student = noisy(0.1, seed=1), noisy(0.3, seed=2)
    stored = {"teacher": logits(teacher), "student": logits(student, ("c", "a", "b"))}
    judged = judge(proof, stored)
    right = [np.mean(answers == np.arange(ROWS) % 3) for answers in (student, teacher)]
    quality = judged.quality["student"]
    assert quality.retention.value == pytest.approx(right[0] / right[1])
    assert quality.retention.low < quality.retention.value < quality.retention.high < 1.0
    gain = (right[0] - 1 / 3) / (right[1] - 1 / 3)
    assert quality.gain_retained.value == pytest.approx(gain)
    assert judged.note is None


@pytest.mark.parametrize("share_wrong", [0.64, 1.0])
def test_a_baseline_not_surely_above_the_majority_has_no_retention(folders, share_wrong: float):
    proof = proof_of(folders, "teacher", "student")
    stored = {
        "teacher": logits(noisy(share_wrong, seed=3)),
        "student": logits(noisy(0.0, seed=4), ("c", "a", "b")),
    }
    judged = judge(proof, stored)
    assert judged.note == UNSOLVED
    for quality in judged.quality.values():
        assert quality.retention is None
        assert quality.gain_retained is None
    assert judged.quality["student"].metrics["accuracy"].value == 1.0
    assert any(UNSOLVED in warning for warning in judged.warnings)


def test_the_primary_metric_is_the_one_asked_for(folders):
    proof = proof_of(folders, "teacher", primary="f1:b")
    judged = judge(proof, {"teacher": logits(noisy(0.2, seed=5))})
    assert judged.test.primary == "f1:b"
    assert set(judged.quality["teacher"].metrics) >= {"accuracy", "f1:b"}


def test_labels_that_differ_are_named(folders):
    with pytest.raises(InputError) as caught:
        proof_of(folders, "teacher", "other")
    assert "the labels of model other are not those of teacher" in str(caught.value)
    assert "it lacks 'c', it has 'x', 'y'" in str(caught.value)


def test_a_bare_encoder_has_no_answers(folders):
    with pytest.raises(InputError, match=r"model encoder is none \(a bare encoder\)"):
        proof_of(folders, "teacher", "encoder")


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_single_texts_prove_nothing_of_a_model_of_pairs(folders, name: str):
    manifest = folders[name].manifest
    assert manifest is not None
    of_pairs = replace(folders[name], manifest=replace(manifest, settings={"pairs": True}))
    with pytest.raises(DataError, match="single texts, and the model has learned from pairs"):
        proof_of(folders | {name: of_pairs}, "teacher", "student")


@pytest.mark.parametrize("count", [ROWS - 1, ROWS + 1])
def test_outputs_of_other_windows_are_never_read_as_answers(folders, count: int):
    proof = proof_of(folders, "teacher")
    with pytest.raises(AssertionError, match=f"{count} outputs for {ROWS} windows"):
        judge(proof, {"teacher": np.zeros((count, len(LABELS)))})
