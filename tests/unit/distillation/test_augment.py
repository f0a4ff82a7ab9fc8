"""Words replaced by a masked-LM model: how many, which, and what stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from potstill.bundle.folder import open_folder
from potstill.data.rows import Rows
from potstill.distillation.augment import Augmentation, augmented
from potstill.errors import ModelError, RecipeError
from tests.folders import write_tiny_model
from tests.tiny import WORDS

TEXTS = ["the film, was good!", "a  bad\tmovie", "xyzzy", "", "Great actor 😀 not boring"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("augment") / "mlm", "masked-lm")


def made(folder: Path, columns: dict[str, list[object]], **how: object) -> Rows:
    asked = Augmentation(**({"copies": 1, "share": 0.9, "candidates": 4} | how))
    return augmented(
        open_folder(folder),
        Rows(columns, "list"),
        asked,
        device=torch.device("cpu"),
        tell=lambda *_: None,
    )


def test_copies_hold_other_words_between_the_same_blanks_and_signs(folder: Path) -> None:
    found = made(folder, {"text": TEXTS}, copies=3).column("text")
    assert len(found) == 3 * len(TEXTS)
    assert found[2] == "xyzzy"  # a word that the model could not give is left
    assert found[3] == ""
    for text in found[::5]:
        assert text.endswith("!")
        assert "," in text
    for text in found[1::5]:
        assert "  " in text
        assert "\t" in text
    changed = sum(text != TEXTS[place % len(TEXTS)] for place, text in enumerate(found))
    assert changed >= 7
    known = {word.lower() for word in WORDS}
    assert all(word.lower() in known for word in found[1].split())


def test_both_texts_of_a_pair_and_words_are_replaced(folder: Path) -> None:
    pairs = made(folder, {"text": ["good film"] * 9, "text_pair": ["bad plot"] * 9})
    assert set(pairs.columns) == {"text", "text_pair"}
    assert len(set(pairs.column("text_pair"))) > 1
    words = made(folder, {"tokens": [["good", "film", "."]] * 9}).column("tokens")
    assert all(len(row) == 3 and row[2] == "." for row in words)


def test_the_same_seed_gives_the_same_copies_and_each_copy_is_another(folder: Path) -> None:
    one, again, other = (
        made(folder, {"text": TEXTS * 4}, copies=2, seed=seed).column("text") for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
    assert one[: len(TEXTS) * 4] != one[len(TEXTS) * 4 :]


def test_without_a_masked_lm_head_or_for_questions_it_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no masked-LM head"):
        made(write_tiny_model(tmp_path / "bare"), {"text": ["a"]})
    with pytest.raises(RecipeError, match="questions cannot be augmented"):
        made(folder, {"question": ["a"], "context": ["b"]})
