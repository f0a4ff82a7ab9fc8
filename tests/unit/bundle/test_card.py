"""The model card tells what else must be known to answer as the bundle does."""

from __future__ import annotations

import pytest

from potstill.bundle.card import model_card
from potstill.bundle.manifest import Manifest
from tests.tiny import tiny_config, tiny_head


def card_of(kind: str = "classification", **facts: object) -> str:
    return model_card(tiny_config(), tiny_head(kind), Manifest(**facts))


def test_thresholds_stand_on_the_card() -> None:
    card = card_of(task="multi-label", thresholds={"a": 0.25, "b": 0.5})
    assert "| thresholds, chosen on dev rows | a 0.25, b 0.5 |" in card
    assert "thresholds" not in card_of(task="classification")


def test_the_card_says_how_longer_texts_are_read() -> None:
    card = card_of("question-answering", long_texts="windows", overlap=48, max_length=192)
    assert "| longest text | 192 tokens |" in card
    assert "| longer texts | read in windows that share 48 tokens |" in card
    assert "| longer texts | cut |" in card_of("token-classification", long_texts="cut")
    assert "longer texts" not in card_of(task="classification")


@pytest.mark.parametrize(
    ("task", "tag"),
    [
        ("classification", "text-classification"),
        ("multi-label", "text-classification"),
        ("regression", "text-classification"),
        ("ranking", "text-ranking"),
    ],
)
def test_the_hub_is_told_what_a_model_is_for(task: str, tag: str) -> None:
    assert f"pipeline_tag: {tag}" in card_of(task=task)


def test_a_model_of_vectors_is_loaded_by_what_gives_vectors() -> None:
    card = card_of("embedding", task="embedding")
    assert '`sentence_transformers.SentenceTransformer("this/folder")`' in card
    assert "transformers.BertModel" not in card
