"""Which of the student's hidden states learns from which of the teacher's.

Indices count hidden states: 0 is the embedding output, i the output after layer i.
"""

from __future__ import annotations

from potstill.errors import RecipeError

LayerMap = tuple[tuple[int, int], ...]  # pairs (student's, teacher's)

EVEN, LAST = "even", "last"


def layer_map_from_words(words: str, *, student_layers: int, teacher_layers: int) -> LayerMap:
    """Read a mapping: "even" (each student layer), "last", or pairs such as "1:2,2:4,3:6".

    Raises:
        RecipeError: no pairs, or a state that teacher or student does not have.
    """
    if words == LAST:
        return ((student_layers, teacher_layers),)
    if words == EVEN:
        return tuple(
            (layer, round(layer * teacher_layers / student_layers))
            for layer in range(1, student_layers + 1)
        )
    pairs = _pairs(words)
    for name, index, most in [
        *[("student", own, student_layers) for own, _ in pairs],
        *[("teacher", theirs, teacher_layers) for _, theirs in pairs],
    ]:
        if not 0 <= index <= most:
            raise RecipeError(
                f"layer_map {words!r} names state {index} of the {name}", allowed=f"0 to {most}"
            )
    return pairs


def _pairs(words: str) -> LayerMap:
    try:
        pairs = []
        for word in words.split(","):
            own, theirs = word.split(":")
            pairs.append((int(own), int(theirs)))
    except ValueError as error:
        raise RecipeError(
            f"layer_map is {words!r}",
            allowed=f"{EVEN}, {LAST}, or pairs student:teacher",
            cure="--set layer_map=1:2,2:4,3:6",
        ) from error
    return tuple(pairs)
