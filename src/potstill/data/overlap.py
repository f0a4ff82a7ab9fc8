"""Find test rows whose text stands in the training rows too: a score on them proves nothing."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.data.rows import Rows
from potstill.data.text_keys import text_keys

_EXAMPLES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class SharedText:
    """One text that stands on both sides, and where."""

    text: str  # normalized
    train_where: str  # its first place in the training rows: "train.jsonl, line 17"
    test_where: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many test rows the training rows give away."""

    count: int  # test rows whose text (and pair) stands in the training rows
    conflicting: int | None  # those of them with another label there; None: a side has no labels
    test_rows: int
    examples: tuple[SharedText, ...]  # the first of them, at most five

    @property
    def share(self) -> float:
        """Return the part of the test rows that overlap, from 0 to 1."""
        return self.count / self.test_rows if self.test_rows else 0.0

    def describe(self, *, held_out: str = "test", beside: str = "training") -> str:
        """Say it in one line, calling both sides as asked."""
        rows = f"{self.test_rows:,} {held_out} rows"
        if not self.count:
            return f"none of the {rows} stands in the {beside} rows"
        others = (
            "" if self.conflicting is None else f", {self.conflicting:,} of them with another label"
        )
        first = self.examples[0]
        return (
            f"{self.count:,} of {rows} ({self.share:.1%}) stand in the {beside} rows{others}; "
            f"the first: {first.test_where}, seen at {first.train_where}"
        )


def find_overlap(train: Rows, test: Rows) -> Overlap:
    """Find the test rows whose text stands in `train`, differences of case and blanks apart.

    Pairs are compared as pairs where both sides have them. A label conflicts where any training
    row of that text carries another one. Not found: paraphrases and texts with other words around.

    Raises:
        DataError: a side has neither `text` nor `tokens`.
    """
    with_pair = "text_pair" in train and "text_pair" in test
    seen = _seen(train, text_keys(train, with_pair=with_pair))
    shared = [
        (index, key, *seen[key])
        for index, key in enumerate(text_keys(test, with_pair=with_pair))
        if key in seen
    ]
    comparable = "label" in train and "label" in test
    labels = _labels(test)
    return Overlap(
        count=len(shared),
        conflicting=sum(there != {labels[i]} for i, _, _, there in shared) if comparable else None,
        test_rows=len(test),
        examples=tuple(
            SharedText(key, train.where(first), test.where(index))
            for index, key, first, _ in shared[:_EXAMPLES_SHOWN]
        ),
    )


def _seen(train: Rows, keys: list[str]) -> dict[str, tuple[int, set[str]]]:
    """Return for each text its first row and the labels that it carries."""
    seen: dict[str, tuple[int, set[str]]] = {}
    for index, (key, label) in enumerate(zip(keys, _labels(train), strict=True)):
        seen.setdefault(key, (index, set()))[1].add(label)
    return seen


def _labels(rows: Rows) -> list[str]:
    """Return labels that can be compared and hashed, also where a label is a list."""
    return [str(label) for label in rows.columns.get("label", [""] * len(rows))]
