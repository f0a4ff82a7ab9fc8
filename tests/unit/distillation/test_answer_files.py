"""A file of answers gives the logits that its writer had, or one line that says why it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save_file

from potstill.distillation.answer_files import SUFFIXES, read_answers
from potstill.errors import DataError, ModelError, PotstillError
from potstill.tasks.classification import Classification
from potstill.tasks.multi_label import MultiLabel

Array = np.ndarray[Any, Any]

LABELS = ("no", "yes", "perhaps")
LOGITS = np.array([[2.0, -1.0, 0.5], [-3.0, 4.0, 0.0], [0.0, 0.25, -0.5], [9.0, 9.5, -9.0]])
NO_ROWS: Any = None  # items of a task are told without their texts


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def logistic(logits: Array) -> Array:
    return 1 / (1 + np.exp(-logits))


def as_npy(file: Path, values: Any) -> Path:
    np.save(file.with_suffix(".npy"), values)
    return file.with_suffix(".npy")


def as_tensor(name: str) -> Callable[[Path, Any], Path]:
    def write(file: Path, values: Any) -> Path:
        save_file({name: np.ascontiguousarray(values)}, file.with_suffix(".safetensors"))
        return file.with_suffix(".safetensors")

    return write


def as_lines(file: Path, rows: list[Any]) -> Path:
    file = file.with_suffix(".jsonl")
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return file


def as_list(name: str) -> Callable[[Path, Any], Path]:
    return lambda file, values: as_lines(file, [{name: row} for row in np.asarray(values).tolist()])


def as_scores(file: Path, values: Any) -> Path:
    """Write shares under the labels' names, in another order than ours."""
    rows = [dict(zip(LABELS, row, strict=True)) for row in np.asarray(values).tolist()]
    return as_lines(file, [{"scores": dict(sorted(row.items()))} for row in rows])


def as_predicted(file: Path, values: Any) -> Path:
    """Write shares as `predict` does: the best label first."""
    rows = [
        sorted(zip(LABELS, row, strict=True), key=lambda pair: -pair[1])
        for row in np.asarray(values).tolist()
    ]
    return as_lines(
        file, [{"scores": [{"label": name, "score": p} for name, p in row]} for row in rows]
    )


LOGIT_FILES = {"npy": as_npy, "tensor": as_tensor("logits"), "lines": as_list("logits")}
SHARE_FILES = {
    "npy": as_npy,
    "tensor": as_tensor("probabilities"),
    "scores": as_scores,
    "predicted": as_predicted,
}
VECTOR_FILES = {"npy": as_npy, "tensor": as_tensor("embeddings"), "lines": as_list("embedding")}


@pytest.mark.parametrize("form", LOGIT_FILES)
def test_logits_come_back_as_they_were_written(tmp_path: Path, form: str):
    file = LOGIT_FILES[form](tmp_path / "answers", LOGITS)
    found = read_answers(file, rows=4, labels=LABELS)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, LOGITS.astype(np.float32))


@pytest.mark.parametrize("form", SHARE_FILES)
def test_probabilities_come_back_as_logits_of_the_same_softmax(tmp_path: Path, form: str):
    file = SHARE_FILES[form](tmp_path / "answers", softmax(LOGITS))
    found = read_answers(file, rows=4, labels=LABELS)
    assert found.max() <= 0, "logarithms of shares"
    np.testing.assert_allclose(softmax(found), softmax(LOGITS), atol=1e-6)


@pytest.mark.parametrize("form", SHARE_FILES)
def test_probabilities_that_stand_alone_come_back_as_logits_of_the_same_logistic(
    tmp_path: Path, form: str
):
    file = SHARE_FILES[form](tmp_path / "answers", logistic(LOGITS))
    found = read_answers(file, rows=4, labels=LABELS, yes_or_no=True)
    np.testing.assert_allclose(found, LOGITS, rtol=1e-4)


@pytest.mark.parametrize("form", VECTOR_FILES)
def test_vectors_come_back_as_they_were_written_whatever_they_look_like(tmp_path: Path, form: str):
    vectors = np.abs(np.random.default_rng(0).normal(size=(4, 7))).astype(np.float32)
    vectors /= vectors.sum(axis=1, keepdims=True)  # as if they were probabilities
    file = VECTOR_FILES[form](tmp_path / "answers", vectors)
    np.testing.assert_array_equal(read_answers(file, rows=4, labels=()), vectors)


shares = arrays(np.float64, (3, 4), elements=st.floats(0, 1)).filter(
    lambda values: bool((values.sum(axis=1) > 0.1).all())
)


@settings(deadline=None)
@given(shares=shares, dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_any_probabilities_survive_but_for_rounding(
    tmp_path_factory: pytest.TempPathFactory, shares: Array, dtype: Any
):
    shares = shares / shares.sum(axis=1, keepdims=True)
    file = as_npy(tmp_path_factory.getbasetemp() / "shares", shares.astype(dtype))
    found = read_answers(file, rows=3, labels=("a", "b", "c", "d"))
    assert np.isfinite(found).all(), "a share of 0 has a logit too"
    np.testing.assert_allclose(softmax(found), shares, atol=1e-3)


@settings(deadline=None)
@given(logits=arrays(np.float64, (3, 2), elements=st.floats(-12, 12)))
def test_what_predict_writes_is_what_the_model_said(
    tmp_path_factory: pytest.TempPathFactory, logits: Array
):
    file = tmp_path_factory.getbasetemp() / "predicted"
    uncut = np.zeros(3, dtype=bool)
    one = Classification(("a", "b")).items(logits, NO_ROWS, uncut)
    found = read_answers(as_lines(file, one), rows=3, labels=("b", "a"))
    np.testing.assert_allclose(softmax(found), softmax(logits[:, ::-1]), atol=1e-5)
    some = MultiLabel(("a", "b")).items(logistic(logits), NO_ROWS, uncut)
    found = read_answers(as_lines(file, some), rows=3, labels=("b", "a"), yes_or_no=True)
    np.testing.assert_allclose(found, logits[:, ::-1], atol=1e-4)


@pytest.mark.parametrize("values", [LOGITS[:, 0], LOGITS[:, :1], np.array([1.0, 0, 0.5, 1])])
def test_one_number_a_row_stays_as_it_is(tmp_path: Path, values: Array):
    found = read_answers(as_npy(tmp_path / "numbers", values), rows=4, labels=("score",))
    np.testing.assert_allclose(found, values.reshape(4, 1))


def test_whole_numbers_are_ratings_where_there_is_one_label(tmp_path: Path):
    file = as_npy(tmp_path / "ratings", np.array([1, 5, 3, 2]))
    found = read_answers(file, rows=4, labels=("score",))
    assert found.ravel().tolist() == [1, 5, 3, 2]


def test_logits_that_look_like_probabilities_stay_logits_under_that_name(tmp_path: Path):
    shares = softmax(LOGITS).astype(np.float32)
    file = as_tensor("logits")(tmp_path / "answers", shares)
    np.testing.assert_array_equal(read_answers(file, rows=4, labels=LABELS), shares)


def test_the_tensor_that_fits_is_read_of_several(tmp_path: Path):
    vectors, logits = np.ones((4, 8), np.float32), LOGITS.astype(np.float32)
    file = tmp_path / "both.safetensors"
    save_file({"embeddings": vectors, "logits": logits}, file)
    np.testing.assert_array_equal(read_answers(file, rows=4, labels=LABELS), logits)
    np.testing.assert_array_equal(read_answers(file, rows=4, labels=()), vectors)


HALF = np.full((4, 3), 0.25)  # sums to 0.75


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (np.array([0, 2, 1, 1]), "hard label: put it into the column label"),
        (np.array([[0], [2], [1], [1]]), "these are numbers of classes, one a row"),
        (np.array([0.5, 2.5, 1.0, 1.0]), r"the shape \(4,\)"),
        (LOGITS[:2], "2 answers for 4 rows"),
        (np.vstack([LOGITS, LOGITS]), "8 answers for 4 rows"),
        (LOGITS[:, :2], "2 columns for 3 labels; .*no, yes, perhaps, in this order"),
        (np.where(LOGITS == 9.5, np.nan, LOGITS), "row 4: a value is not finite"),
        (np.where(LOGITS == 4.0, -np.inf, LOGITS), "row 2: a value is not finite"),
        (np.where(LOGITS == 4.0, 1e300, LOGITS), "row 2: a value is not finite"),
        (LOGITS.astype(complex), "holds complex128"),
        (LOGITS > 0, "holds bool"),
        (np.zeros((4, 3), dtype="m8[s]"), "holds timedelta64"),
        (np.full((4, 3), "yes"), "holds <U3"),
        (np.zeros((4, 3, 2)), r"the shape \(4, 3, 2\)"),
        (np.array(3.0), r"the shape \(\)"),
        (np.array([{"a": 1}], dtype=object), "not an array of numpy"),
        (np.where(np.arange(4)[:, None] == 2, HALF, softmax(LOGITS)), "row 3.*sum to 0.75.*logits"),
    ],
)
def test_an_array_that_cannot_teach_is_told_in_one_line(
    tmp_path: Path, values: Array, complaint: str
):
    file = as_npy(tmp_path / "answers", values)
    with pytest.raises(DataError, match=complaint) as caught:
        read_answers(file, rows=4, labels=LABELS)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (np.ones((4, 8), dtype=np.int8), "the vectors are of whole numbers"),
        (np.ones((4, 0)), r"the shape \(4, 0\)"),
        (np.ones((3, 8)), "3 answers for 4 rows"),
    ],
)
def test_vectors_that_cannot_teach_are_told_in_one_line(
    tmp_path: Path, values: Array, complaint: str
):
    with pytest.raises(DataError, match=complaint):
        read_answers(as_npy(tmp_path / "vectors", values), rows=4, labels=())


@pytest.mark.parametrize(
    ("rows", "labels", "complaint"),
    [
        ([{"scores": {"no": 0.5}}], ("no", "yes"), "line 1.*no score of 'yes'; .*each of no, yes"),
        ([{"scores": {"no": 0.5, "yes": 0.3, "x": 0.2}}], ("no", "yes"), "no label 'x'"),
        ([{"scores": {"no": True, "yes": 0.5}}], ("no", "yes"), "no score of 'no'"),
        ([{"scores": [0.5, 0.5]}], ("no", "yes"), r"these are no scores; .*LABEL: score"),
        ([{"scores": "no"}], ("no", "yes"), "these are no scores"),
        ([{"scores": {"no": 1, "yes": 0}}, {"label": "no"}], ("no", "yes"), "line 2.*no scores"),
        ([{"label": "no", "score": 0.9}], ("no", "yes"), "no answer in the columns label, score"),
        ([{"logits": [1, 2]}, {"logits": [1]}], ("no", "yes"), "line 2.*1 numbers.*first row 2"),
        ([{"logits": [1, None]}], ("no", "yes"), "line 1.*no list of numbers"),
        ([{"logits": 5}], ("no", "yes"), "no list of numbers"),
        ([{"embedding": [1.0, "x"]}], (), "no list of numbers"),
        ([{"logits": [1.0, 2.0]}], (), "no answer in the columns logits; allowed: embedding"),
        ([{"embedding": []}], (), r"the shape \(1, 0\)"),
    ],
)
def test_lines_that_cannot_teach_are_told_with_their_place(
    tmp_path: Path, rows: list[Any], labels: tuple[str, ...], complaint: str
):
    file = as_lines(tmp_path / "answers", rows)
    with pytest.raises(DataError, match=complaint) as caught:
        read_answers(file, rows=len(rows), labels=labels)
    assert "\n" not in str(caught.value)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def an_archive(file: Path) -> None:
    with file.open("wb") as stream:
        np.savez(stream, logits=LOGITS)


def other_bytes(file: Path) -> None:
    file.write_bytes(b"no,yes,perhaps\n0.1,0.2,0.7\n")


def too_large_a_claim(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content.replace(b"(4, 3), }" + b" " * 12, b"(999999999999, 3), }" + b" "))


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        *((suffix, damage) for suffix in SUFFIXES for damage in (empty, cut_short, an_archive)),
        *((suffix, other_bytes) for suffix in SUFFIXES),
        (".npy", too_large_a_claim),
    ],
)
def test_damaged_files_are_told_in_one_line(
    tmp_path: Path, suffix: str, damage: Callable[[Path], None]
):
    write = {".npy": as_npy, ".jsonl": as_list("logits"), ".safetensors": as_tensor("logits")}
    file = write[suffix](tmp_path / "answers", LOGITS)
    before = file.read_bytes()
    damage(file)
    assert file.read_bytes() != before
    with pytest.raises((DataError, ModelError)) as caught:
        read_answers(file, rows=4, labels=LABELS)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("answers.csv", r"no reader of answers for files that end in \.csv; allowed: \.npy"),
        ("answers", "files that end in nothing"),
        ("absent.npy", "there is no such file"),
        ("absent.jsonl", "there is no such file"),
        ("absent.safetensors", "there is no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, name: str, complaint: str):
    with pytest.raises(PotstillError, match=complaint):
        read_answers(tmp_path / name, rows=4, labels=LABELS)


@pytest.mark.parametrize(
    ("tensor", "values", "complaint"),
    [
        ("weights", LOGITS, "the tensors are weights; allowed: logits or probabilities"),
        ("embeddings", LOGITS, "the tensors are embeddings; allowed: logits or probabilities"),
        ("probabilities", LOGITS, "row 1: a probability does not lie between 0 and 1"),
        ("probabilities", HALF, "row 1: the values lie between 0 and 1.*sum to 0.75"),
    ],
)
def test_tensors_are_held_to_their_names(
    tmp_path: Path, tensor: str, values: Array, complaint: str
):
    file = as_tensor(tensor)(tmp_path / "answers", values)
    with pytest.raises(DataError, match=complaint):
        read_answers(file, rows=4, labels=LABELS)
