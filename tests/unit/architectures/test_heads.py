"""Heads go to config.json and back, and what they cannot be is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.architectures.config import FAMILIES
from potstill.architectures.heads import (
    PROBLEMS,
    HeadSpec,
    dropout_key,
    head_from_hf,
    head_of_kind,
    head_to_hf,
    hf_class_name,
)
from potstill.errors import ModelError
from tests.tiny import tiny_head

WITH_LABELS = ("classification", "token-classification")
KINDS = ("none", "masked-lm", "question-answering", *WITH_LABELS)
# What config.json cannot say: a DistilBERT head without a dropout of its own.
SILENT = {("distilbert", "classification"): 0.2, ("distilbert", "question-answering"): 0.1}

# Of the heads for questions only DistilBERT's drops anything.
DROPPING = [
    *[(family, kind) for family in FAMILIES for kind in WITH_LABELS],
    ("distilbert", "question-answering"),
]


@st.composite
def heads(draw: st.DrawFn, family: str) -> HeadSpec:
    kind = draw(st.sampled_from(KINDS))
    if kind in {"none", "masked-lm"}:
        return HeadSpec(kind=kind)
    labels = ("start", "end")
    if kind in WITH_LABELS:
        labels = tuple(draw(st.lists(st.text(), min_size=1, max_size=5, unique=True)))
    shares = st.floats(0, 0.99, allow_subnormal=False)  # torch engines flush subnormals
    if (family, kind) not in SILENT:
        shares = st.none() if dropout_key(family, kind) is None else st.none() | shares
    problems = st.sampled_from([None, *PROBLEMS])
    return HeadSpec(kind=kind, labels=labels, dropout=draw(shares), problem=draw(problems))


@given(data=st.data(), family=st.sampled_from(FAMILIES))
def test_reading_what_was_written_gives_the_same_head(data: st.DataObject, family: str) -> None:
    head = data.draw(heads(family))
    assert head_from_hf(head_to_hf(head, family), family, where="config.json") == head


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mean_pooled_classifier_names_the_bare_encoder_and_keeps_its_labels(family: str) -> None:
    head = tiny_head("classification", pooling="mean", dropout=0.3)
    hf = head_to_hf(head, family)
    assert hf["architectures"] == [hf_class_name(family, HeadSpec())]
    assert head_from_hf(hf, family, where="") == HeadSpec()
    assert head_of_kind("classification", hf, family, where="", pooling="mean") == head


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_head_is_a_class_of_transformers(family: str, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    model_class = getattr(transformers, hf_class_name(family, tiny_head(kind)))
    assert model_class.config_class.model_type == family


@pytest.mark.parametrize(("family", "kind"), DROPPING)
def test_dropout_before_the_last_layer_is_that_of_transformers(family: str, kind: str) -> None:
    """Of a config.json that does not tell it, and of one that does."""
    transformers = pytest.importorskip("transformers")
    model_class = getattr(transformers, hf_class_name(family, tiny_head(kind)))
    told = {"classifier_dropout": 0.5, "seq_classif_dropout": 0.6, "qa_dropout": 0.7}
    for fields in ({}, told):
        config = model_class.config_class(**fields)
        for key, size in {"num_hidden_layers": 1, "hidden_size": 12, "vocab_size": 3}.items():
            setattr(config, key, size)
        model = model_class(config)
        theirs = getattr(model, "dropout", None) or model.classifier.dropout
        head = head_of_kind(kind, fields, family, where="")
        encoder_dropout = 0.1
        assert theirs.p == (encoder_dropout if head.dropout is None else head.dropout)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("BertForPreTraining", "masked-lm"),
        ("BertLMHeadModel", "masked-lm"),
        ("BertModel", "none"),
        ("DistilBertForQuestionAnswering", "question-answering"),
        ("RobertaForTokenClassification", "token-classification"),
        ("XLMRobertaForSequenceClassification", "classification"),
    ],
)
def test_a_class_of_transformers_tells_the_head(name: str, kind: str) -> None:
    head = head_from_hf({"architectures": [name]}, "bert", where="")
    assert head is not None
    assert head.kind == kind


def test_a_config_that_names_no_class_tells_no_head() -> None:
    for silent in ({}, {"architectures": None}, {"architectures": []}):
        assert head_from_hf(silent, "bert", where="") is None


def test_labels_stand_in_the_order_of_their_indices() -> None:
    names = {"10": "k", **{str(index): "abcdefghij"[index] for index in range(9, -1, -1)}}
    head = head_of_kind("classification", {"id2label": names}, "bert", where="")
    assert "".join(head.labels) == "abcdefghijk"


def test_where_labels_are_not_named_they_are_counted() -> None:
    for told, count in (({}, 2), ({"num_labels": 3}, 3)):
        head = head_of_kind("classification", told, "bert", where="")
        assert head.labels == tuple(f"LABEL_{index}" for index in range(count))


WRONG_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown class": (
        {"architectures": ["BertForMultipleChoice"]},
        "'BertForMultipleChoice', a head that potstill does not know; allowed: BertModel, BertFor",
    ),
    "a class of another model": ({"architectures": ["T5Model"]}, "names 'T5Model'"),
    "a text for a list": ({"architectures": "BertModel"}, "architectures is 'BertModel'; allowed"),
    "a number for a class": ({"architectures": [3]}, "names '3'"),
    "a gap": ({"id2label": {"0": "a", "2": "b"}}, r"indices 0, 2, which do not run from 0"),
    "a start at one": ({"id2label": {"1": "a", "2": "b"}}, "indices 1, 2, which"),
    "one index twice": ({"id2label": {"0": "a", "00": "b"}}, "indices 0, 0, which"),
    "many gaps": (
        {"id2label": {str(2 * index): str(index) for index in range(100)}},
        "indices 0, 2, 4, 6, 8, 10, 12, 14, …, which",
    ),
    "one label twice": ({"id2label": {"0": "a", "1": "a"}}, "id2label names the label 'a' twice"),
    "no label": ({"id2label": {}}, r"indices \(none\), which"),
    "a list of labels": ({"id2label": ["a", "b"]}, "must be an object from index to label"),
    "labels by name": ({"id2label": {"a": "0"}}, "must be an object from index to label"),
    "a text for a count": ({"num_labels": "2"}, "num_labels is '2'; allowed: 1 to 1,000,000"),
    "no outputs": ({"num_labels": 0}, "num_labels is 0"),
    "a huge count": ({"num_labels": 10**12}, "num_labels is 10{12}"),
    "another problem": ({"problem_type": "ranking"}, "problem_type is 'ranking'; allowed: single"),
    "a list of problems": ({"problem_type": []}, r"problem_type is \[\]"),
    "a text for a share": ({"classifier_dropout": "0.1"}, "classifier_dropout is '0.1'; allowed"),
    "true for a share": ({"classifier_dropout": True}, "classifier_dropout is True"),
    "a share above one": ({"classifier_dropout": 2}, "classifier_dropout is 2; allowed: 0 to 0.99"),
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_a_wrong_value_is_refused_in_one_line_that_names_it(case: str) -> None:
    change, message = WRONG_VALUES[case]
    hf = {"architectures": ["BertForSequenceClassification"]} | change
    with pytest.raises(ModelError, match=message) as told:
        head_from_hf(hf, "bert", where="m/config.json")
    assert str(told.value).startswith("m/config.json: ")
    assert "\n" not in str(told.value)


def test_every_case_is_tried() -> None:
    assert (len(WRONG_VALUES), len(DROPPING)) == (20, 9)


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ModelError, match="pooling is 'max'; allowed: first, mean"):
        tiny_head("classification", pooling="max")
