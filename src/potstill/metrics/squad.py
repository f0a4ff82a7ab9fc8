"""The official metrics of SQuAD 1.1 and 2.0: exact match and F1 of words.

Where the two differ, on true answers that normalize to nothing, this follows 2.0.

Source: evaluate-v1.1.py and evaluate-v2.0.py of Rajpurkar et al. 2016 and 2018.

Legend: B questions.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.metrics.metric import quotient

Floats = NDArray[np.floating[Any]]

PARTS = ("all", "has_answer", "no_answer")
_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized_answer(text: str) -> str:
    """Return an answer in lower case, without punctuation, articles and spare blanks."""
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


@dataclass(frozen=True, slots=True)
class AnswerExact:
    """Share of questions whose answer is one of the true ones."""

    part: str = "all"  # all questions, those with an answer, those without
    name: str = "exact"

    def statistics(self, predicted: Any, targets: Any) -> Floats:
        """Return (score, 1 if the question is of the part) for each question, (B, 2)."""
        return _scores(predicted, targets, self.part, _exact)

    def value(self, sums: Floats) -> Floats:
        """Return the mean; nan where no question is of the part."""
        return quotient(sums[..., 0], sums[..., 1], empty=np.nan)


@dataclass(frozen=True, slots=True)
class AnswerF1:
    """Mean F1 of an answer's words with those of the true answer that it is nearest to."""

    part: str = "all"
    name: str = "f1"

    def statistics(self, predicted: Any, targets: Any) -> Floats:
        """Return (score, 1 if the question is of the part) for each question, (B, 2)."""
        return _scores(predicted, targets, self.part, _f1)

    def value(self, sums: Floats) -> Floats:
        """Return the mean; nan where no question is of the part."""
        return quotient(sums[..., 0], sums[..., 1], empty=np.nan)


def _scores(
    predicted: Sequence[str],
    targets: Sequence[Sequence[str]],
    part: str,
    score: Callable[[str, str], float],
) -> Floats:
    assert part in PARTS, f"{part} is no part of the questions"
    found = np.zeros((len(targets), 2))
    for row, (answer, true) in enumerate(zip(predicted, targets, strict=True)):
        has_answer = bool(true)
        if part != "all" and has_answer != (part == "has_answer"):
            continue
        # As the official script: true answers that normalize to nothing do not count as answers.
        known = [each for each in true if normalized_answer(each)] or [""]
        found[row] = max(score(answer, each) for each in known), 1.0
    return found


def _exact(answer: str, true: str) -> float:
    return float(normalized_answer(answer) == normalized_answer(true))


def _f1(answer: str, true: str) -> float:
    ours, theirs = normalized_answer(answer).split(), normalized_answer(true).split()
    if not ours or not theirs:  # no answer is right only where there is none
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))
