"""What a vector may be stored as: fewer dimensions, and 32, 16, 8 or 1 bits for each of them.

Documents are stored so; queries stay float32. `as_stored` gives the vectors as they come back, so
that the quality of every form is measured with one exact search.

Legend: K vectors, D dimensions, B bytes of a packed vector, Q queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from potstill.errors import DataError, RecipeError, ShapeError
from potstill.shapes import expect

Form = Literal["float32", "float16", "int8", "binary"]
FORMS: tuple[Form, ...] = get_args(Form)

Floats = NDArray[np.float32]

_BYTES_OF_A_DIMENSION = {"float32": 4, "float16": 2, "int8": 1}
_BITS_OF_A_BYTE = 8
_LEVELS = 2**8 - 1  # steps between the 256 values of a byte
_LOWEST_CODE = -(2**7)


@dataclass(frozen=True, slots=True)
class Int8Ranges:
    """What the 256 values of an int8 stand for, dimension by dimension."""

    lowest_D: Floats  # the value of code -128
    step_D: Floats  # from one code to the next; 0 where the dimension never changed


def as_stored(vectors_KD: Floats, form: Form, calibration_ND: Floats | None = None) -> Floats:
    """Return the vectors as they come back from a form.

    Args:
        vectors_KD: finite.
        form: one of FORMS.
        calibration_ND: vectors that set the ranges of int8; None: `vectors_KD` themselves, as a
            file of vectors does. Other forms need none.

    Raises:
        RecipeError: no such form, or "binary" of dimensions that fill no whole bytes.
        DataError: a number is not finite, or is too large for float16.
    """
    require_form(form)
    expect(vectors_KD, "K D", name="vectors")
    require_finite(vectors_KD)
    ranges = None
    if form == "int8":
        ranges = int8_ranges(vectors_KD if calibration_ND is None else calibration_ND)
    return from_form(to_form(vectors_KD, form, ranges), form, ranges)


def bytes_per_vector(form: Form, dimensions: int) -> int:
    """Return what one vector takes; the ranges of int8, 8 bytes a dimension once a file, do not.

    Raises:
        RecipeError: no such form, or "binary" of dimensions that fill no whole bytes.
    """
    require_form(form, dimensions)
    if form == "binary":
        return dimensions // _BITS_OF_A_BYTE
    return dimensions * _BYTES_OF_A_DIMENSION[form]


def require_form(form: str, dimensions: int = 0) -> None:
    """Check that vectors of so many dimensions can be stored in a form.

    Raises:
        RecipeError: no such form, or "binary" of dimensions that fill no whole bytes.
    """
    if form not in FORMS:
        raise RecipeError(f"form is {form!r}", allowed=", ".join(FORMS))
    if form == "binary" and dimensions % _BITS_OF_A_BYTE:
        raise RecipeError(
            f"form is binary and the vectors have {dimensions} dimensions",
            allowed="a multiple of 8, so that the bits fill whole bytes",
            cure=f"--dimensions {dimensions // 8 * 8}" if dimensions > 8 else None,
        )


def require_finite(vectors_KD: Floats) -> None:
    """Check vectors before their form hides what they were.

    Raises:
        DataError: a number is not finite; the vector is named.
    """
    is_finite_K = np.isfinite(vectors_KD).all(axis=1)
    if not is_finite_K.all():
        raise DataError(f"vector {is_finite_K.argmin()} is not finite", allowed="finite numbers")


def cut(vectors_KD: Floats, dimensions: int) -> Floats:
    """Return the first dimensions, normed to length 1.

    Models trained for it (Matryoshka representation learning) lose little by this; whether another
    model does is for a measurement to say. Source: Kusupati et al. 2022, arXiv 2205.13147.

    Raises:
        RecipeError: fewer than 1, or more than the vectors have.
    """
    width = expect(vectors_KD, "K D", name="vectors")["D"]
    if not 1 <= dimensions <= width:
        raise RecipeError(f"dimensions is {dimensions}", allowed=f"1 to {width} for this model")
    return normed(vectors_KD[:, :dimensions])


def normed(vectors_KD: Floats) -> Floats:
    """Return the vectors at length 1, so that inner products are cosines; zeros stay zeros."""
    lengths_K1 = np.linalg.norm(vectors_KD.astype(np.float64), axis=1, keepdims=True)
    return (vectors_KD / np.where(lengths_K1 == 0, 1, lengths_K1)).astype(np.float32)


def to_form(vectors_KD: Floats, form: Form, ranges: Int8Ranges | None = None) -> NDArray[Any]:
    """Return the array that is stored: float32, float16 or int8 (K, D), or uint8 (K, B)."""
    match form:
        case "float32":
            return vectors_KD.astype(np.float32, copy=False)
        case "float16":
            return _to_float16(vectors_KD)
        case "int8":
            assert ranges is not None, "int8 needs ranges"
            return to_int8(vectors_KD, ranges)
        case "binary":
            return to_bits(vectors_KD)


def from_form(stored: NDArray[Any], form: Form, ranges: Int8Ranges | None = None) -> Floats:
    """Return the vectors, float32 (K, D), that a stored array stands for."""
    match form:
        case "float32" | "float16":
            return stored.astype(np.float32, copy=False)
        case "int8":
            assert ranges is not None, "int8 needs ranges"
            return from_int8(stored, ranges)
        case "binary":
            return from_bits(stored)


def int8_ranges(calibration_ND: Floats) -> Int8Ranges:
    """Return the least and greatest value of each dimension as the ends of int8.

    A range a dimension, not a scale a vector: a few dimensions of BERT's vectors are many times
    larger than the rest, and one scale for all would leave the rest a handful of codes.
    Source: the ranges of sentence-transformers' `quantize_embeddings`.

    Raises:
        ShapeError: no vectors to calibrate by.
        DataError: a number is not finite.
    """
    if expect(calibration_ND, "N D", name="calibration")["N"] == 0:
        raise ShapeError("calibration holds no vector", allowed="one or more, best some thousands")
    require_finite(calibration_ND)
    lowest_D = calibration_ND.min(axis=0).astype(np.float32)
    step_D = (calibration_ND.max(axis=0).astype(np.float64) - lowest_D) / _LEVELS
    return Int8Ranges(lowest_D, step_D.astype(np.float32))


def to_int8(vectors_KD: Floats, ranges: Int8Ranges) -> NDArray[np.int8]:
    """Return the nearest code of each value; what lies outside the ranges goes to their ends."""
    steps_D = np.where(ranges.step_D == 0, 1, ranges.step_D).astype(np.float64)
    codes_KD = np.rint((vectors_KD - ranges.lowest_D.astype(np.float64)) / steps_D)
    return (np.clip(codes_KD, 0, _LEVELS) + _LOWEST_CODE).astype(np.int8)


def from_int8(codes_KD: NDArray[np.int8], ranges: Int8Ranges) -> Floats:
    """Return the values that codes stand for."""
    steps_KD = codes_KD.astype(np.float32) - np.float32(_LOWEST_CODE)
    return ranges.lowest_D + steps_KD * ranges.step_D


def to_bits(vectors_KD: Floats) -> NDArray[np.uint8]:
    """Return the signs, (K, B): eight a byte, the first dimension highest; 1 is above zero.

    Raises:
        RecipeError: the dimensions fill no whole bytes.
    """
    require_form("binary", expect(vectors_KD, "K D", name="vectors")["D"])
    return np.packbits(vectors_KD > 0, axis=1)


def from_bits(bits_KB: NDArray[np.uint8]) -> Floats:
    """Return 1 for each bit that is set and -1 for each that is not."""
    return np.unpackbits(bits_KB, axis=1).astype(np.float32) * 2 - 1


def _to_float16(vectors_KD: Floats) -> NDArray[np.float16]:
    greatest = np.finfo(np.float16).max
    if vectors_KD.size and np.abs(vectors_KD).max() > greatest:
        raise DataError(
            "a number of the vectors is too large for float16",
            allowed=f"-{greatest:g} to {greatest:g}",
            cure="--form float32",
        )
    return vectors_KD.astype(np.float16)
