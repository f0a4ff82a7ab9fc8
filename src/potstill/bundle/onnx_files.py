"""ONNX files that keep all their numbers inside: what points elsewhere is not opened.

A tensor of an ONNX file can name another file in its place, by any path, and ONNX Runtime would
read it. Files of ours never do, so one that does was not written by us, whatever its hash says. The
file is walked as protobuf lays it out, without the package `onnx`, which answering does not need.

Source: onnx.proto of ONNX 1.17 (a test compares the numbers below with the package's own);
protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from potstill.errors import ModelError

# Fields that lead to tensors, by the message that they stand in.
PATHS: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        **{5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto"},
        **{22: "SparseTensorProto", 23: "SparseTensorProto"},
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of a TensorProto

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # forms of a field
_DEEPEST = 64  # messages inside of each other
_MOST_BITS = 63

Bytes = mmap.mmap | bytes
Field = tuple[int, int, int]  # its number, where its content begins and ends


def require_self_contained(file: Path) -> None:
    """Check that a file is an ONNX model that needs no other file.

    Raises:
        ModelError: a tensor lies in another file, or this is no ONNX file.
    """
    cure = "copy the bundle again, or make the file anew with potstill quantize"
    with file.open("rb") as stream:
        try:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                points_elsewhere = _points_elsewhere(content)
        except ValueError as error:
            raise ModelError("this is no ONNX file", where=str(file), cure=cure) from error
    if points_elsewhere:
        raise ModelError(
            "the file takes numbers from another file",
            where=str(file),
            allowed="ONNX files that hold all their numbers",
            cure=cure,
        )


def _points_elsewhere(content: Bytes) -> bool:
    waiting = [("ModelProto", 0, len(content), 0)]
    while waiting:
        kind, begin, end, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError("messages are nested too deeply")
        for number, start, stop in _fields(content, begin, end):
            if kind == "TensorProto" and number in (EXTERNAL_DATA, DATA_LOCATION):
                if number == EXTERNAL_DATA or _varint(content, start, stop)[0]:
                    return True
            elif number in PATHS[kind]:
                waiting.append((PATHS[kind][number], start, stop, depth + 1))
    return False


def _fields(content: Bytes, place: int, end: int) -> Iterator[Field]:
    """Yield the fields of a message; a varint's content is the number as it stands."""
    while place < end:
        key, place = _varint(content, place, end)
        number, form = key >> 3, key & 7
        if form == _VARINT:
            start, place = place, _varint(content, place, end)[1]
        elif form == _LENGTH:
            length, start = _varint(content, place, end)
            place = start + length
        elif form in (_EIGHT_BYTES, _FOUR_BYTES):
            start, place = place, place + (8 if form == _EIGHT_BYTES else 4)
        else:
            raise ValueError(f"a field has the form {form}")
        if place > end:
            raise ValueError("a field is cut off")
        yield number, start, place


def _varint(content: Bytes, place: int, end: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, _MOST_BITS + 1, 7):
        if place >= end:
            raise ValueError("a number is cut off")
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number does not end")
