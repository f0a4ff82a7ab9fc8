"""The header of a safetensors file: which tensor lies where; checked before a tensor is read.

The layout: 8 bytes, the length of the header as a little-endian number; the header, a JSON object
of name to {dtype, shape, data_offsets}; the tensors' bytes, end to end in one unbroken row.
The library checks it too, but tells neither file nor cure; so this is where a damaged file speaks.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.foreign_weights import recognize
from potstill.errors import ModelError

MAX_HEADER_BYTES = 100_000_000  # the library's own bound
LENGTH_BYTES = 8
METADATA = "__metadata__"

BFLOAT16 = "BF16"  # unknown to numpy: its bits are read as 16-bit numbers
STORED_AS: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"), BFLOAT16: np.dtype("<u2"),
}  # fmt: skip
BFLOAT16_BITS = np.dtype([("bf16", "<u2")])  # by which arrays of them are told from numbers
_NAME_OF = {dtype: name for name, dtype in STORED_AS.items() if name != BFLOAT16}
_NAME_OF[BFLOAT16_BITS] = BFLOAT16

_MAX_AXES = 32  # numpy's bound before 2.0; a wilder shape is an attack, not a model
_DOWNLOAD_AGAIN = "download or copy the file again"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies and how its bytes are to be read."""

    file: Path
    dtype: str  # as safetensors writes it: "F32", "BF16", "I64"
    shape: tuple[int, ...]  # () for a scalar
    start: int  # first byte, counted from the start of the file
    end: int  # one past the last byte


def read_header(file: Path) -> dict[str, TensorEntry]:
    """Return where each tensor of a safetensors file lies, by name, in the order of the bytes.

    Reads the header only. Afterwards every byte range is known to lie inside the file, to fit
    dtype and shape, and to touch its neighbours without overlap or hole.

    Raises:
        ModelError: the file is missing, cut short, damaged or of another format.
    """
    try:
        text, size_bytes = _read_header_text(file)
    except OSError as error:
        raise ModelError(
            f"cannot be read: {error.strerror}",
            where=str(file),
            cure="check that the file is there and that you may read it",
        ) from error
    data_start = LENGTH_BYTES + len(text)
    table = strict_json(text, file)
    if not isinstance(table.pop(METADATA, {}), dict):
        raise _damaged(file, f"the header's {METADATA} is not an object")
    entries = {name: _entry(name, fields, file, data_start) for name, fields in table.items()}
    _check_layout(entries, file, data_start, size_bytes)
    return dict(sorted(entries.items(), key=_by_position))


def compose_header(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return length and header of a file that holds `tensors` in the order given."""
    table: dict[str, object] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for name, tensor in tensors.items():
        assert name != METADATA, f"safetensors keeps the name {METADATA} for itself: this is a bug"
        start, position = position, position + tensor.nbytes
        table[name] = {
            "dtype": _dtype_name(name, tensor.dtype),
            "shape": tensor.shape,
            "data_offsets": (start, position),
        }
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % LENGTH_BYTES)  # so that the first tensor starts aligned
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def strict_json(text: bytes, file: Path) -> dict[str, object]:
    """Parse a JSON object; a key that stands twice is refused, not silently overwritten.

    Raises:
        ModelError: not JSON, not an object, or a key twice; `file` is named.
    """
    try:
        # decoded here, because json.loads would guess at UTF-16 and UTF-32 too
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
    except _RepeatedKey as error:
        raise _damaged(file, f"the key {shown(error.key)} stands twice") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"holds no valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise _damaged(file, "holds JSON, but not an object")
    return content


def shown(name: str) -> str:
    """Return a name out of a foreign file, fit for an error line."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


class _RepeatedKey(Exception):
    """Leaves the JSON parser, which knows no file."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise _RepeatedKey(counts.most_common(1)[0][0])
    return table


def _read_header_text(file: Path) -> tuple[bytes, int]:
    size_bytes = file.stat().st_size
    if not file.is_file():  # opening a pipe would wait for ever
        raise ModelError("this is not a regular file", where=str(file), cure=_DOWNLOAD_AGAIN)
    with file.open("rb") as stream:
        opening = stream.read(LENGTH_BYTES)
        length = int.from_bytes(opening, "little")
        if size_bytes < LENGTH_BYTES or length > min(MAX_HEADER_BYTES, size_bytes - LENGTH_BYTES):
            raise _not_safetensors(file, opening + stream.read(32), size_bytes)
        return stream.read(length), size_bytes


def _not_safetensors(file: Path, opening: bytes, size_bytes: int) -> ModelError:
    """Return the error of a file whose first eight bytes cannot be the length of its header."""
    if not size_bytes:
        return _damaged(file, "the file is empty (0 bytes)")
    if recognized := recognize(opening):
        return ModelError(
            f"this is {recognized.what}",
            where=str(file),
            allowed="a safetensors file",
            cure=recognized.cure,
        )
    if size_bytes < LENGTH_BYTES:
        return _damaged(file, f"the file is cut short: it has {size_bytes} bytes")
    length = int.from_bytes(opening[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        return _damaged(
            file,
            f"not a safetensors file, or damaged: its header would take {length} bytes, "
            f"more than {MAX_HEADER_BYTES}",
        )
    return _damaged(
        file, f"the file is cut short: the header takes {length} bytes, the file has {size_bytes}"
    )


def _entry(name: str, fields: object, file: Path, data_start: int) -> TensorEntry:
    if not isinstance(fields, dict):
        raise _damaged(file, "its entry in the header is not an object", name)
    dtype, shape = fields.get("dtype"), _naturals(fields.get("shape"))
    offsets = _naturals(fields.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in STORED_AS:
        raise ModelError(
            f"the dtype {shown(str(dtype))} cannot be read",
            where=_place(file, name),
            allowed=", ".join(STORED_AS),
            cure="save the model in one of these, for example with model.float()",
        )
    if shape is None or len(shape) > _MAX_AXES:
        raise _damaged(file, "its shape is not a list of at most 32 natural numbers", name)
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _damaged(file, "its data_offsets are not two natural numbers in order", name)
    start, end = offsets
    expected_bytes = math.prod(shape) * STORED_AS[dtype].itemsize
    if end - start != expected_bytes:
        raise _damaged(
            file,
            f"its range holds {end - start} bytes, but {dtype} of shape {shape} takes "
            f"{expected_bytes}",
            name,
        )
    return TensorEntry(file, dtype, shape, data_start + start, data_start + end)


def _naturals(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    # type() and not isinstance: JSON's true is an int to Python
    return tuple(value) if all(type(item) is int and item >= 0 for item in value) else None


def _check_layout(
    entries: dict[str, TensorEntry], file: Path, data_start: int, size_bytes: int
) -> None:
    position, previous = data_start, "the header"
    for name, entry in sorted(entries.items(), key=_by_position):
        if entry.end > size_bytes:
            raise _damaged(
                file,
                f"the file is cut short: the tensor ends at byte {entry.end}, the file has "
                f"{size_bytes}",
                name,
            )
        if entry.start < position:
            raise _damaged(file, f"its bytes overlap those of {previous}", name)
        if entry.start > position:
            raise _damaged(file, f"a hole before it, of bytes {position} to {entry.start}", name)
        position, previous = entry.end, shown(name)
    if position < size_bytes:
        raise _damaged(file, f"the last tensor ends at byte {position}, the file at {size_bytes}")


def _by_position(item: tuple[str, TensorEntry]) -> tuple[int, int]:
    return item[1].start, item[1].end


def _dtype_name(name: str, dtype: np.dtype[Any]) -> str:
    little_endian = dtype.newbyteorder("<")
    assert little_endian in _NAME_OF, f"{name}: safetensors cannot hold {dtype}: this is a bug"
    return _NAME_OF[little_endian]


def _damaged(file: Path, what: str, tensor: str | None = None) -> ModelError:
    return ModelError(what, where=_place(file, tensor), cure=_DOWNLOAD_AGAIN)


def _place(file: Path, tensor: str | None) -> str:
    return str(file) if tensor is None else f"{file}, tensor {shown(tensor)}"
