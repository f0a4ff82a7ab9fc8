"""Split rows in two by a seed: each class keeps its share, and no text stands on both sides.

What is not held out still has every label, so that nothing is asked that was not taught.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence

from potstill.data.rows import Rows
from potstill.data.text_keys import text_keys
from potstill.errors import DataError, RecipeError

Group = list[int]  # the rows of one text: they stay together


def split_rows(
    rows: Rows,
    *,
    fraction: float,
    seed: int,
    stratify_by: str | None = "label",
    known_by: str | None = None,
    with_pair: bool = True,
) -> tuple[Rows, Rows]:
    """Return (the rest, the part held out); both keep the order of the rows.

    The part has round(fraction * rows) rows. Each class gives its share, rounded down or up by
    largest remainder; a class with two texts or more stands on both sides even where its share is
    below one row, and the last text of a class or label is never held out. Rows of the same text
    (see `text_keys`) stay together; where that forbids the exact numbers, they are met as nearly as
    the texts allow. The same rows and seed give the same split on every machine.

    Args:
        rows: canonical rows with `text`, `tokens` or `context`.
        fraction: share of the part held out, above 0 and below 1.
        seed: any integer.
        stratify_by: the column of classes; None for a split without regard to classes.
        known_by: the column of labels, one a row or a list of them, of which the rest keeps each;
            None: the classes.
        with_pair: two rows are of the same text if their pairs are the same too; else rows of one
            query, or of one context, all stay on one side.

    Raises:
        RecipeError: `fraction` is out of range.
        DataError: too few rows, or too few different texts, to have two sides; or each text is the
            last one of a label.
    """
    wanted = _rows_wanted(len(rows), fraction, rows.source)
    groups = _groups_in_seeded_order(text_keys(rows, with_pair=with_pair), seed)
    if len(groups) < 2:
        raise DataError("all rows hold the same text: they cannot be split", where=rows.source)
    classes = [str(value) for value in rows.column(stratify_by)] if stratify_by else None
    labels = _labels(rows.column(known_by) if known_by else classes or [[]] * len(rows))
    held_out = set(_held_out(groups, classes, fraction, wanted, _Rest(groups, labels)))
    if not held_out:
        raise DataError(
            "each text is the only one of some label: none can be held out",
            where=rows.source,
            cure="check which column holds the labels, or name a file of its own with --dev",
        )
    rest = [index for index in range(len(rows)) if index not in held_out]
    return rows.take(rest), rows.take(sorted(held_out))


def _rows_wanted(row_count: int, fraction: float, source: str) -> int:
    if not 0 < fraction < 1:
        raise RecipeError(f"the fraction to hold out is {fraction}", allowed="above 0 and below 1")
    wanted = round(fraction * row_count)
    if not 0 < wanted < row_count:
        raise DataError(
            f"{row_count} rows are too few to hold out a share of {fraction}",
            where=source,
            cure="give more rows, or name a file of its own with --dev",
        )
    return wanted


def _groups_in_seeded_order(keys: list[str], seed: int) -> list[Group]:
    """Gather the rows of each text; order the texts by a hash of seed and text.

    A hash needs no generator whose stream may change, and no order of rows.
    """
    groups: dict[str, Group] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return [groups[key] for key in sorted(groups, key=lambda key: (_digest(key, seed), key))]


def _digest(key: str, seed: int) -> bytes:
    content = f"{seed}\x1f{key}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=8).digest()


class _Rest:
    """The texts that are not held out; it gives none that is the last one of a label."""

    def __init__(self, groups: list[Group], labels: list[Sequence[str]]) -> None:
        self._labels = {
            group[0]: {label for index in group for label in labels[index]} for group in groups
        }
        self._texts_of = Counter(label for found in self._labels.values() for label in found)

    def can_spare(self, group: Group) -> bool:
        return all(self._texts_of[label] > 1 for label in self._labels[group[0]])

    def give(self, group: Group) -> Group:
        self._texts_of.subtract(self._labels[group[0]])
        return group


def _labels(values: Sequence[str | Sequence[str]]) -> list[Sequence[str]]:
    """Return the labels of each row: one label is a list of one."""
    return [[value] if isinstance(value, str) else value for value in values]


def _held_out(
    groups: list[Group], classes: list[str] | None, fraction: float, wanted: int, rest: _Rest
) -> list[int]:
    strata = _strata(groups, classes)
    divisible = {name: texts for name, texts in strata.items() if len(texts) > 1}
    sizes = {name: sum(map(len, texts)) for name, texts in divisible.items()}
    shares = _shares(sizes, fraction, wanted)
    held_out = [i for name, texts in divisible.items() for i in _filled(texts, shares[name], rest)]
    lone = {texts[0][0] for texts in strata.values() if len(texts) == 1}
    in_seeded_order = [group for group in groups if group[0] in lone]
    left = wanted - len(held_out)
    return held_out + _filled(in_seeded_order, left, rest, at_least_one=not held_out)


def _strata(groups: list[Group], classes: list[str] | None) -> dict[str, list[Group]]:
    """Gather the texts of each class; a text with several labels counts under the first by name."""
    strata: dict[str, list[Group]] = {}
    for group in groups:
        name = min(classes[index] for index in group) if classes else ""
        strata.setdefault(name, []).append(group)
    return strata


def _shares(sizes: dict[str, int], fraction: float, wanted: int) -> dict[str, int]:
    """Return the rows that each class gives, by largest remainder, on both sides at least one."""
    quotas = {name: fraction * size for name, size in sizes.items()}
    shares = {name: max(1, math.floor(quota)) for name, quota in quotas.items()}
    spare = wanted - sum(shares.values())
    for name in sorted(sizes, key=lambda name: (math.floor(quotas[name]) - quotas[name], name)):
        if spare > 0 and shares[name] < min(math.ceil(quotas[name]), sizes[name] - 1):
            shares[name] += 1
            spare -= 1
    return shares


def _filled(
    groups: list[Group], row_count: int, rest: _Rest, *, at_least_one: bool = True
) -> list[int]:
    """Take whole texts, in order, while they fit into `row_count` rows; else the smallest.

    Those that the rest cannot spare are passed over.
    """
    taken: list[int] = []
    for group in groups:
        if len(taken) + len(group) <= row_count and rest.can_spare(group):
            taken.extend(rest.give(group))
    if taken or not at_least_one:
        return taken
    smallest = min(filter(rest.can_spare, groups), key=len, default=None)
    return [] if smallest is None else rest.give(smallest)
