"""The real all-MiniLM-L6-v2: the same vectors and states as its makers' libraries, saved or not."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill.bundle.folder import open_folder
from tests.parity.reference import TOLERANCE, answers_of
from tests.processors import needs_bf16

transformers = pytest.importorskip("transformers")
sentence_transformers = pytest.importorskip("sentence_transformers")

TEXTS_OF_A_SET = {"sst2": 20, "tweeteval_emotion": 20, "imdb": 10}
PARAMETERS = 22_713_216


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[str]:
    """Return short and long real texts; many of the reviews exceed the 256 tokens of the model."""
    chosen = []
    for name, count in TEXTS_OF_A_SET.items():
        with (shared_data / name / "test.jsonl").open(encoding="utf-8") as lines:
            chosen += [json.loads(line)["text"] for line in itertools.islice(lines, count)]
    assert len(chosen) == 50
    return chosen


@pytest.fixture(scope="module")
def model(minilm: Path) -> potstill.Model:
    return potstill.load(minilm, precision="fp32")


@pytest.fixture(scope="module")
def vectors_BD(model: potstill.Model, texts: list[str]) -> np.ndarray:
    return model.embed(texts)


@pytest.fixture(scope="module")
def saved(model: potstill.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minilm") / "saved"
    model.save(folder)
    return folder


def test_the_folder_is_understood_to_the_last_weight(model: potstill.Model) -> None:
    assert model.task == "embedding"
    assert model.max_length == 256
    assert model.folder.plan.ignored == ["embeddings.position_ids"]
    assert model.folder.warnings() == []
    assert potstill.info(model.folder.path)["parameters"] == PARAMETERS


def test_vectors_are_those_of_sentence_transformers(
    minilm: Path, texts: list[str], vectors_BD: np.ndarray
) -> None:
    theirs = sentence_transformers.SentenceTransformer(str(minilm), device="cpu")
    np.testing.assert_allclose(vectors_BD, theirs.encode(texts), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(vectors_BD, axis=1), 1, atol=TOLERANCE)


def test_some_texts_are_cut_and_some_are_not(model: potstill.Model, texts: list[str]) -> None:
    is_cut = model.encode(texts).truncated
    assert is_cut.any()
    assert not is_cut.all()


@pytest.mark.parametrize("place", ["origin", "saved"])
def test_every_hidden_state_is_that_of_transformers(
    place: str, model: potstill.Model, saved: Path, texts: list[str]
) -> None:
    folder = {"origin": model.folder.path, "saved": saved}[place]
    reference, told = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["mismatched_keys"]
    batch = model.encode(texts[::10]).batch
    theirs, is_real = answers_of(reference.eval(), batch, model.folder.config)
    assert len(theirs.hidden_states) == 7
    states = [f"state.{index}" for index in range(7)]
    ours = model.engine.run(batch, states)
    for name, state in zip(states, theirs.hidden_states, strict=True):
        np.testing.assert_allclose(ours[name], state[is_real].numpy(), rtol=0, atol=TOLERANCE)


def test_what_we_save_is_read_by_the_makers_libraries(
    minilm: Path, saved: Path, texts: list[str], vectors_BD: np.ndarray
) -> None:
    theirs = sentence_transformers.SentenceTransformer(str(saved), device="cpu")
    assert theirs.max_seq_length == 256
    np.testing.assert_allclose(theirs.encode(texts), vectors_BD, rtol=0, atol=TOLERANCE)
    ids = [transformers.AutoTokenizer.from_pretrained(folder)(texts) for folder in (minilm, saved)]
    assert ids[0]["input_ids"] == ids[1]["input_ids"]


def test_our_load_of_our_save_is_the_same_bit_for_bit(
    saved: Path, texts: list[str], vectors_BD: np.ndarray, tmp_path: Path
) -> None:
    again = potstill.load(saved, precision="fp32")
    assert again.embed(texts).tobytes() == vectors_BD.tobytes()
    assert again.save(tmp_path / "twice") == again.fingerprint
    assert open_folder(tmp_path / "twice").plan.unknown == []


@needs_bf16
def test_vectors_in_bf16_point_where_those_in_fp32_do(
    minilm: Path, texts: list[str], vectors_BD: np.ndarray
) -> None:
    """Measured on these texts: the least cosine is 0.99992, the mean 0.99995."""
    rounded = potstill.load(minilm, precision="bf16").embed(texts)
    cosines = (rounded * vectors_BD).sum(axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosines.min() > 0.999
    assert rounded.tobytes() != vectors_BD.tobytes()
