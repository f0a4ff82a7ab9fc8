"""Which teacher layers a student keeps.

Layers are counted from 0 here, as checkpoints name them: `layers_kept` (0, 2, 4) of a teacher of 6.
Sources: Sanh et al. 2019 (every second layer); Wang et al. 2023, arXiv 2302.09632 (the lower ones).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from potstill.errors import RecipeError

Kept = tuple[int, ...]  # teacher layers, counted from 0, in order


def choose_layers(teacher_layers: int, student_layers: int, *, choice: str) -> tuple[int, ...]:
    """Return the layers kept, in order.

    Args:
        teacher_layers: L, layers of the teacher.
        student_layers: k, layers of the student, 1 to L.
        choice: even, distilbert, bottom or top.

    Raises:
        RecipeError: an unknown choice, or a student deeper than its teacher.
    """
    if choice not in CHOICES:
        raise RecipeError(f"layer choice is {choice!r}", allowed=", ".join(CHOICES))
    if not 1 <= student_layers <= teacher_layers:
        raise RecipeError(
            f"a student of {student_layers} layers cannot be cut out of {teacher_layers}",
            where="--layers",
            allowed=f"1 to {teacher_layers}",
        )
    kept = CHOICES[choice](teacher_layers, student_layers)
    assert len(set(kept)) == student_layers, "layer choice took one layer twice: this is a bug"
    assert sorted(kept) == list(kept), "layer choice lost its order: this is a bug"
    return kept


def kept_as_asked(keep: str, layers: int, *, teacher_layers: int, choice: str) -> tuple[int, ...]:
    """Return the layers kept: those that are named, or as many as asked for.

    Args:
        keep: layers by number, "0,2,4"; empty: not named.
        layers: how many; 0: as many as are named, or half of the teacher's.
        teacher_layers: L, layers of the teacher.
        choice: which, where they are not named, see `choose_layers`.

    Raises:
        RecipeError: numbers and count do not fit together, or not the teacher.
    """
    if not keep:
        return choose_layers(teacher_layers, layers or max(1, teacher_layers // 2), choice=choice)
    kept = layers_from_words(keep, teacher_layers=teacher_layers)
    if layers not in (0, len(kept)):
        raise RecipeError(
            f"--layers {layers} and --keep {keep} do not fit together",
            cure="leave --layers out",
        )
    return kept


def layers_from_words(words: str, *, teacher_layers: int) -> tuple[int, ...]:
    """Read `--keep 0,2,4`.

    Raises:
        RecipeError: no numbers, out of range, out of order or twice.
    """
    try:
        kept = tuple(int(word) for word in words.split(","))
    except ValueError as error:
        raise RecipeError(
            f"{words!r} is not a list of layers", where="--keep", cure="--keep 0,2,4"
        ) from error
    require_layers(kept, teacher_layers=teacher_layers)
    return kept


def require_layers(kept: Iterable[int], *, teacher_layers: int) -> None:
    """Check layers that a user names.

    Raises:
        RecipeError: out of range, out of order or twice.
    """
    layers = list(kept)
    if not layers or min(layers) < 0 or max(layers) >= teacher_layers:
        raise RecipeError(
            f"layers {layers} are not all layers of the teacher",
            where="--keep",
            allowed=f"0 to {teacher_layers - 1}",
        )
    if sorted(set(layers)) != layers:
        raise RecipeError(
            f"layers {layers} are out of order or named twice", where="--keep", cure="--keep 0,2,4"
        )


def _even(teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    return tuple(index * teacher_layers // student_layers for index in range(student_layers))


def _distilbert(teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    """Spread from the first layer to the last: 12 -> 6 gives the original's 0 2 4 7 9 11."""
    places = np.linspace(0, teacher_layers - 1, student_layers)
    return tuple(round(float(place)) for place in places)


def _bottom(teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    del teacher_layers
    return tuple(range(student_layers))


def _top(teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    return tuple(range(teacher_layers - student_layers, teacher_layers))


CHOICES: dict[str, Callable[[int, int], tuple[int, ...]]] = {
    "even": _even,
    "distilbert": _distilbert,
    "bottom": _bottom,
    "top": _top,
}
