"""The model that a user holds: answers, vectors, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill.errors import DataError, InputError, RecipeError
from tests.folders import write_tiny_model

TEXTS = ["the film was great", "boring", "a not very good movie"]


@pytest.fixture
def classifier(tmp_path: Path) -> potstill.Model:
    return potstill.load(
        write_tiny_model(tmp_path / "tiny", "classification", task="classification"),
        precision="fp32",
    )


def test_predict_gives_the_contract_s_item(classifier: potstill.Model) -> None:
    answers = classifier.predict(TEXTS)
    assert [set(answer) for answer in answers] == [{"label", "score", "scores", "truncated"}] * 3
    for answer in answers:
        scores = [item["score"] for item in answer["scores"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1.0)
        assert answer["scores"][0] == {"label": answer["label"], "score": answer["score"]}
        assert answer["truncated"] is False


def test_a_text_alone_is_answered_as_in_a_batch(classifier: potstill.Model) -> None:
    together = classifier.predict(TEXTS)
    for text, expected in zip(TEXTS, together, strict=True):
        (alone,) = classifier.predict([text])
        assert alone["label"] == expected["label"]
        assert alone["score"] == pytest.approx(expected["score"], abs=1e-5)


def test_no_text_gives_no_answer(classifier: potstill.Model) -> None:
    assert classifier.predict([]) == []
    assert classifier.embed([]).shape == (0, 32)


def test_a_cut_text_says_so(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny", "classification", task="classification")
    model = potstill.load(folder, max_length=5)
    short, long = model.predict(["good", "good " * 50])
    assert (short["truncated"], long["truncated"]) == (False, True)


def test_vectors_of_a_bare_encoder_are_means_over_all_positions(tmp_path: Path) -> None:
    model = potstill.load(write_tiny_model(tmp_path / "bare"), precision="fp32")
    batch = model.encode(TEXTS).batch
    states = model.engine.run(batch, ["state.2"])["state.2"]
    means = [
        states[start:end].mean(axis=0)
        for start, end in zip(batch.offsets, batch.offsets[1:], strict=False)
    ]
    np.testing.assert_allclose(model.embed(TEXTS), means, atol=1e-6)


def test_a_saved_model_answers_the_same(classifier: potstill.Model, tmp_path: Path) -> None:
    fingerprint = classifier.save(tmp_path / "copy")
    copy = potstill.load(tmp_path / "copy", precision="fp32")
    assert copy.fingerprint == fingerprint == classifier.fingerprint
    assert copy.predict(TEXTS) == classifier.predict(TEXTS)


def test_a_bare_encoder_cannot_predict_and_says_what_to_do(tmp_path: Path) -> None:
    model = potstill.load(write_tiny_model(tmp_path / "bare"))
    with pytest.raises(InputError, match=r"bare encoder.*potstill finetune"):
        model.predict(TEXTS)


def test_texts_may_come_from_any_iterable(classifier: potstill.Model) -> None:
    expected = classifier.predict(TEXTS)
    for texts in (iter(TEXTS), tuple(TEXTS), np.array(TEXTS), (text for text in TEXTS)):
        assert classifier.predict(texts) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one string", "list of strings"),
        ([1], "item 0"),
        ({"text": "a film"}, "the inputs are a dict.*into a list"),
        (None, "the inputs are a NoneType"),
        (7, "the inputs are a int"),
        (b"a film", "item 0"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(
    classifier: potstill.Model, texts: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        classifier.predict(texts)


def test_a_frame_is_refused_since_it_would_give_the_names_of_its_columns(
    classifier: potstill.Model,
) -> None:
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    frame = pandas.DataFrame({"text": TEXTS})
    with pytest.raises(DataError, match=r"a DataFrame.*to_dict"):
        classifier.predict(frame)
    assert classifier.predict(frame["text"]) == classifier.predict(TEXTS)


def test_unknown_engines_and_outputs_name_the_known_ones(
    classifier: potstill.Model, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="allowed: auto, openvino, onnx, torch"):
        potstill.load(classifier.folder.path, engine="steam")
    with pytest.raises(RecipeError, match=r"no output 'state\.9'.*logits, vectors, state\.0"):
        classifier.engine.run(classifier.encode(TEXTS).batch, ["state.9"])


def test_precision_that_the_processor_lacks_is_refused(classifier: potstill.Model) -> None:
    with pytest.raises(RecipeError, match="'fp16' on cpu; allowed: auto, fp32, bf16"):
        potstill.load(classifier.folder.path, device="cpu", precision="fp16")
