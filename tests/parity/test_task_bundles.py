"""Bundles of each task in their makers' libraries: the same logits and vectors to 1e-5, both ways.

The tokenizers on the other side are theirs too: nothing of ours stands between text and answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import potstill
from potstill.tasks.reading import unlabelled
from tests.command_line import finetuning, write_jsonl
from tests.distilling import distilling, write_encoder
from tests.parity.reference import TOLERANCE
from tests.task_data import (
    KINDS,
    PLAIN_WORDS,
    Row,
    asked,
    likeness_row,
    rows_of,
    write_task_rows,
    write_vector_model,
)

transformers = pytest.importorskip("transformers")
sentence_transformers = pytest.importorskip("sentence_transformers")

LEARNS = ("--epochs", "3", "--learning-rate", "3e-3")
AUTO = {
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}
PROBLEMS = {
    "multi-label": "multi_label_classification",
    "regression": "regression",
    "ranking": None,
    "pairs": None,
}
TEXTS = ["a good film", "the plot is awful word1 word2", "great", "", " ".join(PLAIN_WORDS[:30])]


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a kind's name, and a teacher and a student of it."""
    kind = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    encoder = write_encoder(folder / "encoder", initializer_range=0.2)
    rows = write_task_rows(folder / f"rows{kind.suffix}", kind, 40)
    words = finetuning(encoder, rows, folder / "teacher", "--task", kind.task, *LEARNS)
    assert asked(*words).status == 0
    words = distilling(folder / "teacher", folder / "student", "--train", rows, "--epochs", "1")
    assert asked(*words).status == 0
    return request.param, folder


def as_theirs(tokenizer: Any, row: Row) -> Mapping[str, torch.Tensor]:
    """Return a row as the tokenizer of transformers reads it."""
    if "tokens" in row:
        return tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
    if "question" in row:
        return tokenizer(row["question"], row["context"], return_tensors="pt")
    return tokenizer(row["text"], row.get("text_pair"), return_tensors="pt")


def logits_of(theirs: Any, row: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Return what a model of transformers answers: a row's, or one line a token."""
    with torch.no_grad():
        told = theirs(**row)
    if "start_logits" in told:
        return torch.stack([told.start_logits[0], told.end_logits[0]], dim=-1).numpy()
    return told.logits[0].numpy()


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_transformers_gives_our_logits(which: str, trained: tuple[str, Path]) -> None:
    name, folder = trained
    place, kind = folder / which, KINDS[name]
    auto = getattr(transformers, AUTO.get(name, "AutoModelForSequenceClassification"))
    theirs, told = auto.from_pretrained(place, output_loading_info=True)
    assert not any(told[fault] for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    rows = rows_of(kind.make, 8, seed=5)
    theirs.eval().double()  # in fp32 a number of 13 would be rounded on both sides
    expected = [logits_of(theirs, as_theirs(tokenizer, row)) for row in rows]

    model = potstill.load(place, precision="fp32", threads=1)
    columns = potstill.data.Columns()
    read = unlabelled(kind.task, rows, columns)
    windows = model.answered_task.windows(model.tokenizer, read, model.lengths)
    assert len(windows.texts) == len(rows)
    ours = model.engine.run(windows.texts, ["logits"])["logits"]
    assert np.ptp(np.vstack(expected), axis=0).min() > 0.05
    np.testing.assert_allclose(ours, np.vstack(expected), rtol=0, atol=TOLERANCE)


def test_config_tells_transformers_the_kind_of_problem(trained: tuple[str, Path]) -> None:
    name, folder = trained
    labels = KINDS[name].labels
    for which in ("teacher", "student"):
        config = transformers.AutoConfig.from_pretrained(folder / which)
        assert config.problem_type == PROBLEMS.get(name)
        if name != "question-answering":
            assert tuple(config.id2label[place] for place in range(len(labels))) == labels


def test_without_its_manifest_a_bundle_is_of_the_same_kind(trained: tuple[str, Path]) -> None:
    """What transformers is told is enough for us too, thresholds apart; a grade is a number."""
    name, folder = trained
    manifest = folder / "student" / "potstill.json"
    content = manifest.read_bytes()
    manifest.unlink()
    found = potstill.load(folder / "student", precision="fp32", threads=1)
    manifest.write_bytes(content)
    assert found.task == ("regression" if name == "ranking" else KINDS[name].task)
    assert tuple(found.labels) == KINDS[name].labels


def test_a_pipeline_of_transformers_finds_our_entities(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("entities")
    kind = KINDS["token-classification"]
    encoder = write_encoder(folder / "encoder")
    rows = write_task_rows(folder / "rows.jsonl", kind, 80)
    words = finetuning(encoder, rows, folder / "model", "--task", "ner", "--epochs", "10")
    assert asked(*words, "--learning-rate", "1e-2", "--max-length", "32").status == 0
    pipeline = transformers.pipeline(
        "token-classification", str(folder / "model"), aggregation_strategy="first", device="cpu"
    )
    ours = potstill.load(folder / "model", precision="fp32", threads=1)
    texts = [" ".join(row["tokens"]) for row in rows_of(kind.make, 10, seed=3)]
    places = [
        [(each["entity"], each["start"], each["end"]) for each in item["entities"]]
        for item in ours.predict(texts)
    ]
    theirs = [
        [(each["entity_group"], each["start"], each["end"]) for each in found]
        for found in pipeline(texts)
    ]
    assert places == theirs
    assert sum(map(len, places)) >= 10


def vectors_of_both(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return our vectors of the texts, and those of sentence-transformers."""
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    ours = potstill.load(folder, precision="fp32", threads=1).embed(TEXTS)
    assert np.abs(ours[0] - ours[1]).max() > 1e-3
    return ours, model.encode(TEXTS)


@pytest.mark.parametrize("width", [None, 16, 48])
@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_transformers_gives_our_vectors(
    width: int | None, tmp_path: Path, *, normalize: bool
) -> None:
    folder = write_vector_model(tmp_path / "model", width=width, normalize=normalize)
    ours, theirs = vectors_of_both(folder)
    assert ours.shape == (len(TEXTS), width or 32)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    lengths = np.linalg.norm(ours, axis=1)
    assert (np.abs(lengths - 1) < TOLERANCE).all() == normalize
    facts = potstill.info(folder)
    assert (facts["task"], facts["warnings"]) == ("embedding", [])


@pytest.mark.parametrize("width", [None, 16])
def test_sentence_transformers_gives_a_students_vectors(width: int | None, tmp_path: Path) -> None:
    teacher = write_vector_model(tmp_path / "teacher", width=width)
    texts = write_jsonl(
        tmp_path / "texts.jsonl", *({"text": row["text"]} for row in rows_of(likeness_row, 60))
    )
    words = distilling(teacher, tmp_path / "student", "--unlabelled", texts, "--layers", "3")
    told = asked(*words, "--epochs", "4", "--set", "learning_rates=3e-3")
    assert told.status == 0, told.err
    ours, theirs = vectors_of_both(tmp_path / "student")
    assert ours.shape == (len(TEXTS), width or 32)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    assert potstill.info(tmp_path / "student")["architecture"] == "distilbert"


@pytest.mark.parametrize("verb", ["finetune", "distill"])
def test_sentence_transformers_cuts_texts_where_we_do(verb: str, tmp_path: Path) -> None:
    pairs = write_jsonl(tmp_path / "pairs.jsonl", *rows_of(likeness_row, 60))
    out, lengths = tmp_path / "out", ("--max-length", "9", "--epochs", "4")
    if verb == "finetune":
        encoder = write_encoder(tmp_path / "encoder", initializer_range=0.1)
        words = finetuning(encoder, pairs, out, "--task", "embedding", *lengths)
    else:
        teacher = write_vector_model(tmp_path / "teacher")
        words = distilling(teacher, out, "--unlabelled", pairs, "--layers", "3", *lengths)
    told = asked(*words, "--set", "learning_rate=3e-3")
    assert told.status == 0, told.err
    ours, theirs = vectors_of_both(out)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    model = potstill.load(out, precision="fp32", threads=1)
    assert model.max_length == 9
    assert model.encode(TEXTS).truncated.sum() == 1


def theirs_with_dense(folder: Path, *, normalize: bool, **dense: Any) -> Path:
    """Write a folder as sentence-transformers does, with a dense map of its own."""
    encoder = write_encoder(folder / "encoder", initializer_range=0.1)
    models = sentence_transformers.models
    torch.manual_seed(3)
    steps = [
        models.Transformer(str(encoder), max_seq_length=20),
        models.Pooling(32, pooling_mode="mean"),
        models.Dense(32, 12, **dense),
        *([models.Normalize()] if normalize else []),
    ]
    sentence_transformers.SentenceTransformer(modules=steps, device="cpu").save(
        str(folder / "theirs"), create_model_card=False
    )
    return folder / "theirs"


@pytest.mark.parametrize("normalize", [True, False])
def test_we_read_the_dense_map_of_sentence_transformers(tmp_path: Path, *, normalize: bool) -> None:
    identity = torch.nn.Identity()
    folder = theirs_with_dense(tmp_path, normalize=normalize, activation_function=identity)
    ours, theirs = vectors_of_both(folder)
    assert ours.shape == (len(TEXTS), 12)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    model = potstill.load(folder, precision="fp32", threads=1)
    assert (model.task, model.max_length) == ("embedding", 20)
    model.save(tmp_path / "saved")
    again, theirs = vectors_of_both(tmp_path / "saved")
    np.testing.assert_array_equal(again, ours)
    np.testing.assert_allclose(again, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("dense", "expected"),
    [
        ({}, "activation torch.nn.modules.activation.Tanh"),
        ({"bias": False, "activation_function": torch.nn.Identity()}, "bias False"),
    ],
)
def test_a_dense_map_that_we_would_compute_otherwise_is_refused(
    dense: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    folder = theirs_with_dense(tmp_path, normalize=True, **dense)
    with pytest.raises(potstill.errors.ModelError, match=expected) as caught:
        potstill.load(folder)
    assert "with a bias" in str(caught.value)


def test_a_missing_dense_map_is_told(tmp_path: Path) -> None:
    folder = write_vector_model(tmp_path / "model", width=16)
    (folder / "potstill.json").unlink()
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(potstill.errors.ModelError, match="2_Dense"):
        potstill.load(folder)
