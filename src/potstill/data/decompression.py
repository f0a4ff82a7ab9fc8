"""Read compressed files as they stand, a stretch at a time: `.gz`, `.xz` and `.zst`."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from potstill.errors import DataError, MissingExtraError

_PIECE_BYTES = 1 << 17
_LARGEST_WINDOW = 1 << 31  # of zstd: files that were packed with --long=31 open too


def plain_stream(stream: BinaryIO, suffix: str, source: str) -> BinaryIO:
    """Return what an archive holds; a file of another suffix is returned as it is.

    Raises:
        MissingExtraError: `.zst` without the package zstandard.
    """
    opener = ARCHIVES.get(suffix)
    return stream if opener is None else opener(stream, source)


@contextlib.contextmanager
def archive_faults_told(where: Callable[[], str]) -> Iterator[None]:
    """Turn what a torn or damaged archive raises into one line.

    Args:
        where: tells how far the reading has come.

    Raises:
        DataError: the archive ends too early, or is none.
    """
    try:
        yield
    except EOFError as error:
        raise DataError(
            "the archive is torn: it ends before its end",
            where=where(),
            cure="fetch or write the file again",
        ) from error
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, _ZstdFault) as error:
        raise DataError(
            f"the archive is damaged, or not of the kind that its name says: {error}",
            where=where(),
            cure="fetch or write the file again, or name it by what it holds",
        ) from error


class _ZstdFault(Exception):
    """What the package says of a damaged archive: its own error is not known without it."""


class _ZstdReader(io.RawIOBase):
    """Frames of zstd laid end to end; unlike the package's own reader it notices a torn one."""

    def __init__(self, stream: BinaryIO, zstandard: Any) -> None:
        self._stream = stream
        self._fault: type[Exception] = zstandard.ZstdError
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        self._frame: Any = None  # the frame that is being read
        self._packed = b""  # read from the file, and of the next frame
        self._plain = memoryview(b"")  # unpacked, and not yet asked for

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            packed = self._packed or self._stream.read(_PIECE_BYTES)
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._unpack(packed)
        count = min(len(buffer), len(self._plain))
        buffer[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def _unpack(self, packed: bytes) -> None:
        if self._frame is None:
            self._frame = self._unpacker.decompressobj()
        try:
            self._plain = memoryview(self._frame.decompress(packed))
        except self._fault as error:
            raise _ZstdFault(str(error)) from error
        self._packed = b""
        if self._frame.eof:
            self._packed = self._frame.unused_data
            self._frame = None


def _gzip_stream(stream: BinaryIO, source: str) -> BinaryIO:
    del source
    return cast("BinaryIO", gzip.GzipFile(fileobj=stream, mode="rb"))


def _xz_stream(stream: BinaryIO, source: str) -> BinaryIO:
    del source
    return cast("BinaryIO", lzma.LZMAFile(stream))


def _zstd_stream(stream: BinaryIO, source: str) -> BinaryIO:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError(
            "zstandard", extra="corpus", needed_for=f"reading {source}"
        ) from error
    return io.BufferedReader(_ZstdReader(stream, zstandard), _PIECE_BYTES)


ARCHIVES: dict[str, Callable[[BinaryIO, str], BinaryIO]] = {
    ".gz": _gzip_stream,
    ".xz": _xz_stream,
    ".zst": _zstd_stream,
}
