"""What resamples cannot tell: rows of a kind that few or none of the drawn ones are of.

A resample draws only what is there. Where no row shows a loss, all resamples agree that there is
none, of thirty rows as of thirty thousand; and of two models that answer five rows differently, all
to the gain of one, every resample prefers that one. Rows are counted in these cases instead.

Legend: B rows, S statistics of a row.
Sources: Clopper, Pearson 1934 (the bound where nothing was seen); Edgington, Onghena 2007,
"Randomization Tests", chapter 2 (the least p-value of swapped pairs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

FEW = 10  # that differ: resamples of so few tell little of how many others might
LEAST_TO_TELL_APART = 6  # 2^-6 < 2.5 %: fewer differing rows fall one way by chance more often
_TAIL = 0.025  # of a 95 % interval, on each side


def seen_share(rows: int) -> float:
    """Return the share of all rows that is surely like the drawn ones, at 97.5 %.

    If more than 1 less this share of all rows were of some kind, one of them would have been drawn:
    (1 - p)^B = 0.025. It is 0.884 for 30 rows, 0.990 for 368.
    """
    return float(_TAIL ** (1 / rows))


def rows_to_hold(floor: float) -> int:
    """Return from how many rows on a retention can hold a floor below 1, none of them differing."""
    assert 0 < floor < 1, "no number of rows shows that nothing is lost"
    return math.ceil(math.log(_TAIL) / math.log(floor))


def telling(sides: Sequence[Floats]) -> int:
    """Count the rows that a score is made of, by their statistics (B, S); 1 at least.

    The F1 of a class is not made of rows that neither are nor are taken for it.
    """
    is_telling = [np.asarray(each).reshape(len(each), -1).any(axis=1) for each in sides]
    return max(1, int(np.any(is_telling, axis=0).sum()))


def differing(sides: Sequence[Floats]) -> int:
    """Count the rows that not all models answer alike, by their statistics (B, S) each."""
    first, *others = sides
    is_other = [(np.asarray(each) != first).reshape(len(first), -1).any(axis=1) for each in others]
    return int(np.any(is_other, axis=0).sum()) if others else 0
