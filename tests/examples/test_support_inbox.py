"""The example messages are varied, casual as in life, and no split gives another away."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pytest

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "examples" / "support_inbox"
SPLITS = {"train": 1594, "dev": 205, "test": 479}
INTENTS = 8
SLANG = """
    thx ty pls plz u ur gonna wanna gotta kinda dunno wtf omg lol asap btw tbh idk fyi cuz cos rn
    smh yeah yep nope nah hey hiya cheers guys dude bro mate ok tho thru argh ugh meh
"""
BARE_CONTRACTIONS = """
    dont cant ive im isnt wasnt didnt doesnt havent hasnt wont couldnt wouldnt shouldnt arent
    werent youre theyre thats whats wheres heres theres
"""
CASUAL_WORDS = {*SLANG.split(), *BARE_CONTRACTIONS.split()}
CONTRACTION = re.compile(
    r"\b\w+n't\b|\b\w+'(?:re|ve|ll|d|m)\b"
    r"|\b(?:it|that|what|where|who|how|here|there|let|he|she)'s\b"
)


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, str]]]:
    return {
        name: [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
        for name in SPLITS
    }


@pytest.fixture(scope="module")
def texts(rows) -> list[str]:
    return [row["text"] for split in rows.values() for row in split]


def test_the_splits_have_the_size_that_the_readme_tells(rows) -> None:
    assert {name: len(split) for name, split in rows.items()} == SPLITS
    readme = (FOLDER / "README.md").read_text()
    for label, count in Counter(row["label"] for split in rows.values() for row in split).items():
        assert re.search(rf"`{label}`.*\| {count} \|", readme)


def test_every_split_has_eight_intents_and_spam(rows) -> None:
    for split in rows.values():
        labels = {row["label"] for row in split}
        assert "spam" in labels
        assert len(labels) == INTENTS + 1


def test_no_two_messages_are_near_copies(texts: list[str]) -> None:
    assert _highest_jaccard(texts) <= 0.9


def test_a_near_copy_would_be_found(texts: list[str]) -> None:
    assert _highest_jaccard([*texts[:200], texts[0] + "!"]) > 0.9


def test_openings_are_not_shared(texts: list[str]) -> None:
    openings = Counter(" ".join(text.lower().split()[:4]) for text in texts)
    shared = sum(count for count in openings.values() if count > 1)
    assert shared / len(texts) < 0.02


def test_many_messages_are_casual(texts: list[str]) -> None:
    assert sum(map(_is_casual, texts)) / len(texts) >= 0.3


def test_lengths_are_as_in_life(texts: list[str]) -> None:
    words = [len(text.split()) for text in texts]
    assert min(words) >= 4
    assert max(words) > 100
    assert 12 <= np.median(words) <= 24


def _is_casual(text: str) -> bool:
    lowered = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    words = set(re.findall(r"[a-z0-9']+", lowered))
    return bool(CONTRACTION.search(lowered) or words & CASUAL_WORDS)


def _highest_jaccard(texts: list[str]) -> float:
    """Return the highest similarity of two texts' sets of character 4-grams."""
    number: dict[str, int] = {}
    grams = [
        {number.setdefault(text.lower()[at : at + 4], len(number)) for at in range(len(text) - 3)}
        for text in texts
    ]
    holds_BG = np.zeros((len(texts), len(number)), dtype=np.float32)
    for row, found in enumerate(grams):
        holds_BG[row, list(found)] = 1.0
    shared_BB = holds_BG @ holds_BG.T
    sizes_B = holds_BG.sum(axis=1)
    jaccard_BB = shared_BB / (sizes_B[:, None] + sizes_B[None, :] - shared_BB)
    np.fill_diagonal(jaccard_BB, 0.0)
    return float(jaccard_BB.max())
