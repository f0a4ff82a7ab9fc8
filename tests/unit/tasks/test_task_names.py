"""Names of tasks: ours stay, Hugging Face's are translated, others are refused with a hint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import RecipeError
from potstill.tasks.task_names import PIPELINE_NAMES, TASK_NAMES, task_named


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("text-classification", "classification"),
        ("sentiment-analysis", "classification"),
        ("ner", "token-classification"),
        ("token-classification", "token-classification"),
        ("question-answering", "question-answering"),
        ("fill-mask", "masked-lm"),
        ("feature-extraction", "embedding"),
        ("sentence-similarity", "embedding"),
    ],
)
def test_a_pipeline_name_is_understood(name: str, ours: str) -> None:
    assert task_named(name) == ours


@pytest.mark.parametrize("name", TASK_NAMES)
def test_our_names_stay(name: str) -> None:
    assert task_named(name) == name


@given(st.text(max_size=12).filter(lambda name: name not in {*TASK_NAMES, *PIPELINE_NAMES}))
def test_any_other_name_is_refused_with_all_that_are_allowed(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        task_named(name)
    assert caught.value.allowed is not None
    assert set(caught.value.allowed.split(", ")) == {*TASK_NAMES, *PIPELINE_NAMES}
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [3, None, ["classification"]])
def test_what_is_no_word_is_refused_alike(value: object) -> None:
    with pytest.raises(RecipeError, match="task is "):
        task_named(value)


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("Classification", "classification"),
        ("multilabel", "multi-label"),
        ("text_classification", "text-classification"),
        ("mask-fill", "masked-lm"),
        ("NER", "ner"),
        ("xyzzy", None),
    ],
)
def test_the_closest_name_is_told(name: str, closest: str | None) -> None:
    with pytest.raises(RecipeError) as caught:
        task_named(name)
    assert caught.value.cure == (f"did you mean {closest}?" if closest else None)
