"""Readable shape checks at public borders, for numpy and torch alike.

Legend of axes, used as suffixes of array names everywhere: B texts (batch), L tokens of a padded
text, N tokens of a ragged batch laid end to end, D hidden width, F feed-forward width, H heads,
K width of a head, V vocabulary, C classes, R packed rows, T tokens of a packed row.
"""

from __future__ import annotations

from typing import Protocol

from potstill.errors import ShapeError


class HasShape(Protocol):
    """Anything with a shape: a numpy array or a torch tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the length of each axis."""
        ...


def expect(
    array: HasShape, axes: str, *, name: str = "array", hint: str = "", **sizes: int
) -> dict[str, int]:
    """Check that `array` has the axes named, and return the length of each.

    Args:
        array: what to check.
        axes: names of the axes, separated by blanks: "B L V". The same name twice means the same
            length twice.
        name: how the message calls the array.
        hint: what usually causes the fault.
        **sizes: lengths that are already known, by axis name.

    Raises:
        ShapeError: the number of axes or one length differs; the message names both sides.
    """
    names = axes.split()
    shape = tuple(array.shape)
    if len(shape) != len(names):
        raise ShapeError(
            f"{name} has shape {shape}, but {len(names)} axes ({axes}) are needed",
            cure=hint or None,
        )
    found = dict(sizes)
    for axis, length in zip(names, shape, strict=True):
        if found.setdefault(axis, length) != length:
            raise ShapeError(
                f"{name} has length {length} on axis {axis} of ({axes}), not {found[axis]}",
                cure=hint or None,
            )
    return found
