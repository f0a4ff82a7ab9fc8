"""What a masked-LM teacher says of passages, on disk: hidden once, asked once, read in every epoch.

A live teacher sees other tokens hidden at every step. A stored one was asked once, so each passage
has the same tokens hidden in every epoch; where a run sees a passage once there is no difference.

A folder holds parts, each a stretch of the passages, written by one process; a part holds flat
files that grow, and done.json, which stands before they do and says how far its writer came: a
killed one goes on there.

Legend: R passages, N their tokens, P positions at which the vocabulary is asked, K likeliest words,
D the teacher's width.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from potstill.errors import RecipeError, StorageError
from potstill.files import told_in_one_line, write_atomically
from potstill.locks import LOCK
from potstill.stages import TEMPORARY_SUFFIX
from potstill.text.ragged import RaggedBatch, offsets_of, tokens_of
from potstill.train.objective import Int64

Array = NDArray[np.generic]

PARTS = 16  # stretches of passages: so many processes can write at once
_DONE = "done.json"
_BLOCK_TOKENS = 4_096
_BLOCKS_BETWEEN_NOTES = 32
_SPARE = 1.1  # of the disk: the run's checkpoints need room too


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessShape:
    """What is kept of each passage."""

    words: int  # likeliest ones at each position; 0: none
    states: tuple[int, ...]  # hidden states of every token: i is the output after layer i
    width: int  # D
    vocabulary_size: int

    def columns(self) -> dict[str, tuple[DTypeLike, tuple[int, ...]]]:
        """Return type and shape of one entry of each file."""
        token = np.uint16 if self.vocabulary_size <= 2**16 else np.uint32
        columns: dict[str, tuple[DTypeLike, tuple[int, ...]]] = {
            "counts": (np.uint16, ()),  # of a passage: its positions
            "ids": (token, ()),  # of a token, as the models are shown it
            "places": (np.uint16, ()),  # of a position, counted in its passage
            "targets": (np.int32, ()),
        }
        if self.words:
            columns["words"] = (token, (self.words,))
            columns["log_p"] = (np.float16, (self.words,))
        return columns | {f"state-{index}": (np.float16, (self.width,)) for index in self.states}

    def size_bytes(self, tokens: int, places: int, passages: int) -> int:
        """Return what so much takes on disk."""
        counts = {"counts": passages, "places": places, "targets": places}
        counts |= {"words": places, "log_p": places}
        return sum(
            counts.get(name, tokens) * np.dtype(kind).itemsize * int(np.prod(shape))
            for name, (kind, shape) in self.columns().items()
        )


@dataclass(frozen=True, slots=True, eq=False)
class Guessed:
    """Some passages with what is known of them, positions in the order of the passages."""

    texts: RaggedBatch
    counts: Int64  # (R,) positions of each passage
    places: Int64  # (P,) tokens of the batch
    targets: Int64  # (P,) the hidden token, or NO_TARGET
    words: Array | None  # (P, K)
    log_p: Array | None  # (P, K)
    states: Mapping[int, Array]  # (N, D) by index


Ask = Callable[
    [Int64, np.random.Generator], Guessed
]  # passages and what their hiding is drawn from
Tell = Callable[[int, int], None]  # passages done, passages of all


class Guesses(Protocol):
    """What a teacher has said of passages."""

    def read(self, rows: Int64, *, signals: bool = True) -> Guessed:
        """Return what it was asked of some passages, in the order of their numbers, and said."""
        ...


class StoredGuesses:
    """A teacher that is read from disk."""

    def __init__(self, folder: Path, lengths: NDArray[np.integer], shape: GuessShape) -> None:
        """Open what `store_guesses` has written."""
        borders = _borders(len(lengths))
        self._borders = borders
        self._parts = {
            number: _Part(_part_folder(folder, number), lengths[first:last], shape)
            for number, (first, last) in enumerate(pairwise(borders.tolist()))
            if first < last
        }

    def read(self, rows: Int64, *, signals: bool = True) -> Guessed:
        """Read some passages; they come in the order of their numbers.

        Args:
            rows: their numbers.
            signals: read what the teacher says too, which is a hundred times what it was asked.
        """
        rows = np.sort(rows)
        part_R = np.searchsorted(self._borders, rows, side="right") - 1
        found = [
            self._parts[int(part)].read(rows[part_R == part] - self._borders[part], signals=signals)
            for part in np.unique(part_R)
        ]
        return found[0] if len(found) == 1 else _joined(found)


def store_guesses(  # noqa: PLR0913 - all by name
    folder: Path,
    ask: Ask,
    lengths: NDArray[np.integer],
    shape: GuessShape,
    *,
    identity: str,
    own_parts: range,
    tell: Tell,
) -> None:
    """Write what the teacher says of all passages, going on where a killed writer stopped.

    Args:
        folder: where it goes.
        ask: the teacher; called once for each block of passages.
        lengths: tokens of each passage, (R,).
        shape: what is kept.
        identity: a hash of all that decides what is written.
        own_parts: the parts that this process writes.
        tell: called with passages done and passages of all, of the own parts.

    Raises:
        StorageError: the disk is full.
        RecipeError: something of another identity stands there.
    """
    borders = _borders(len(lengths))
    total = sum(int(borders[part + 1] - borders[part]) for part in own_parts)
    before = 0
    for part in own_parts:
        first, last = int(borders[part]), int(borders[part + 1])
        writer = _PartWriter(_part_folder(folder, part), shape, identity)
        with told_in_one_line(folder):
            for done in writer.write(ask, lengths[first:last], first=first):
                tell(before + done, total)
        before += last - first


def are_stored(folder: Path, lengths: NDArray[np.integer], *, identity: str) -> bool:
    """Say whether all passages stand there, so that nobody writes; see `store_guesses`."""
    borders = _borders(len(lengths))
    for part in range(PARTS):
        blocks = len(_block_edges(lengths[borders[part] : borders[part + 1]])) - 1
        done = _done(_part_folder(folder, part))
        if blocks and (done is None or (done.identity, done.blocks) != (identity, blocks)):
            return False
    return True


def require_room(folder: Path, size_bytes: int, *, is_named: bool) -> None:
    """Check that nothing else stands there, and that the disk has room for what is not written yet.

    Args:
        folder: where the guesses go; made where it is missing.
        size_bytes: of all guesses.
        is_named: somebody chose the folder, so that what else stands there is not to be touched.
            In a run's own one a part without its mark is removed: it is of an earlier version.

    Raises:
        RecipeError: something stands there that no writer of ours has left.
        StorageError: the disk has no room.
    """
    with told_in_one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
        strangers = [path for path in sorted(folder.iterdir()) if not _is_ours(path)]
        if is_named and strangers:
            raise RecipeError(
                f"something else than a teacher's guesses stands here: {strangers[0].name}",
                where=str(folder),
                allowed="an absent or empty folder, or one that --signals-folder has made",
                cure="name another --signals-folder",
            )
        for path in strangers:
            if path.is_dir() and path.name in _part_names():
                shutil.rmtree(path)
        free = shutil.disk_usage(folder).free
    there = sum(file.stat().st_size for file in folder.rglob("*.bin"))
    if (size_bytes - there) * _SPARE > free:
        raise StorageError(
            f"the teacher's guesses need {size_bytes / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free",
            where=str(folder),
            cure="use --set signals=live, fewer --set top_words, or fewer texts",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """How far a part is written."""

    identity: str
    blocks: int = 0
    passages: int = 0
    tokens: int = 0
    places: int = 0


class _PartWriter:
    """Writes one stretch of passages."""

    def __init__(self, folder: Path, shape: GuessShape, identity: str) -> None:
        self.folder, self.shape = folder, shape
        self.done = _done(folder) or _Done(identity=identity)
        if self.done.identity != identity:
            raise RecipeError(
                "the guesses of another teacher, corpus or settings stand here",
                where=str(folder.parent),
                cure="name another --signals-folder, or remove this one",
            )

    def write(self, ask: Ask, lengths: NDArray[np.integer], *, first: int) -> Iterator[int]:
        """Write what is missing; yield the passages that stand, now and then."""
        edges = _block_edges(lengths)
        if self.done.blocks == len(edges) - 1:
            yield self.done.passages
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._mark()  # before the first file: what has no mark is not ours
        with ExitStack() as stack:
            files = {name: stack.enter_context(self._opened(name)) for name in self.shape.columns()}
            for block in range(self.done.blocks, len(edges) - 1):
                rows = np.arange(edges[block], edges[block + 1]) + first
                # Seeded by place: what is hidden does not depend on who writes, or how often.
                self._add(files, ask(rows, np.random.default_rng([first, block])))
                if (block + 1) % _BLOCKS_BETWEEN_NOTES == 0 or block == len(edges) - 2:
                    self._note(files)
                    yield self.done.passages

    def _opened(self, name: str) -> BinaryIO:
        """Open a file for more, what a killed writer wrote behind its last note cut away."""
        kind, shape = self.shape.columns()[name]
        entries = {"counts": self.done.passages, "places": self.done.places}
        entries |= dict.fromkeys(("targets", "words", "log_p"), self.done.places)
        size = entries.get(name, self.done.tokens) * np.dtype(kind).itemsize * int(np.prod(shape))
        stream = (self.folder / f"{name}.bin").open("ab")
        stream.truncate(size)
        return stream

    def _add(self, files: Mapping[str, BinaryIO], found: Guessed) -> None:
        starts = np.repeat(found.texts.offsets[:-1], found.counts)
        values: dict[str, Array | None] = {
            "counts": found.counts,
            "ids": found.texts.ids,
            "places": found.places - starts,
            "targets": found.targets,
            "words": found.words,
            "log_p": found.log_p,
        }
        values |= {f"state-{index}": state for index, state in found.states.items()}
        for name, (kind, _) in self.shape.columns().items():
            value = values[name]
            assert value is not None, "what is asked for is there"
            files[name].write(np.ascontiguousarray(value, dtype=kind).tobytes())
        self.done = _Done(
            identity=self.done.identity,
            blocks=self.done.blocks + 1,
            passages=self.done.passages + len(found.texts),
            tokens=self.done.tokens + found.texts.total_tokens,
            places=self.done.places + len(found.places),
        )

    def _note(self, files: Mapping[str, BinaryIO]) -> None:
        for stream in files.values():
            stream.flush()
            os.fsync(stream.fileno())
        self._mark()

    def _mark(self) -> None:
        write_atomically(self.folder / _DONE, json.dumps(asdict(self.done)).encode())


class _Part:
    """Reads one stretch of passages."""

    def __init__(self, folder: Path, lengths: NDArray[np.integer], shape: GuessShape) -> None:
        self.files = {
            name: _mapped(folder, name, *column) for name, column in shape.columns().items()
        }
        self.states = shape.states
        self.tokens_at = _running_sum(lengths)
        self.places_at = _running_sum(self.files["counts"])
        assert len(self.places_at) == len(lengths) + 1, "a part is opened when it is whole"

    def read(self, rows: Int64, *, signals: bool) -> Guessed:
        tokens, offsets = _stretches(self.tokens_at, rows)
        places, firsts = _stretches(self.places_at, rows)
        counts = np.diff(firsts)
        texts = RaggedBatch(self.files["ids"][tokens].astype(np.int32), offsets.astype(np.int32))
        starts = np.repeat(offsets[:-1], counts)
        return Guessed(
            texts,
            counts,
            self.files["places"][places].astype(np.int64) + starts,
            self.files["targets"][places].astype(np.int64),
            self.files["words"][places] if signals and "words" in self.files else None,
            self.files["log_p"][places] if signals and "log_p" in self.files else None,
            {index: self.files[f"state-{index}"][tokens] for index in self.states if signals},
        )


def _joined(found: list[Guessed]) -> Guessed:
    """Return the passages of several parts as one batch."""
    sizes = [each.texts.total_tokens for each in found]
    shifts = np.cumsum([0, *sizes[:-1]])
    lengths = np.concatenate([each.texts.lengths for each in found])
    ids = np.concatenate([each.texts.ids for each in found])

    def all_of(name: str) -> Array | None:
        values = [getattr(each, name) for each in found]
        return None if values[0] is None else np.concatenate(values)

    return Guessed(
        RaggedBatch(ids, offsets_of(lengths)),
        np.concatenate([each.counts for each in found]),
        np.concatenate([each.places + shift for each, shift in zip(found, shifts, strict=True)]),
        np.concatenate([each.targets for each in found]),
        all_of("words"),
        all_of("log_p"),
        {
            index: np.concatenate([each.states[index] for each in found])
            for index in found[0].states
        },
    )


def _stretches(offsets: Int64, rows: Int64) -> tuple[Int64, Int64]:
    """Return the entries of some rows, one row after another, and where each row begins there."""
    counts = offsets[rows + 1] - offsets[rows]
    own = _running_sum(counts)
    return tokens_of(rows, offsets), own


def _running_sum(counts: NDArray[np.generic]) -> Int64:
    """Return the running sum with a leading 0."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _mapped(folder: Path, name: str, kind: DTypeLike, shape: tuple[int, ...]) -> Array:
    file = folder / f"{name}.bin"
    entries = file.stat().st_size // (np.dtype(kind).itemsize * int(np.prod(shape)))
    if not entries:  # an empty file cannot be mapped
        return np.zeros((0, *shape), dtype=kind)
    return np.memmap(file, dtype=kind, mode="r", shape=(entries, *shape))


def _done(folder: Path) -> _Done | None:
    """Return how far a part is written, or None where nothing fitting stands there."""
    try:
        return _Done(**json.loads((folder / _DONE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _is_ours(path: Path) -> bool:
    """Say whether a writer of ours has left this: a part with its mark, or one just begun.

    Files that a system strews about (.DS_Store) are passed over as well.
    """
    if path.name == LOCK or path.name.startswith("."):
        return True
    if path.name not in _part_names() or not path.is_dir():
        return False
    return (path / _DONE).is_file() or all(
        file.name.endswith(TEMPORARY_SUFFIX) or file.name.startswith(".") for file in path.iterdir()
    )


def _part_folder(folder: Path, number: int) -> Path:
    return folder / f"part-{number:02d}"


def _part_names() -> set[str]:
    return {_part_folder(Path(), number).name for number in range(PARTS)}


def _borders(passages: int) -> Int64:
    """Return the first passage of each part, and the end, (PARTS + 1,)."""
    return np.asarray(np.arange(PARTS + 1) * passages // PARTS, dtype=np.int64)


def _block_edges(lengths: NDArray[np.integer]) -> Int64:
    """Return where each block of passages begins, and the end: at most so many tokens in each."""
    before = np.cumsum(lengths.astype(np.int64)) - lengths
    blocks = before // _BLOCK_TOKENS
    starts = np.flatnonzero(np.diff(blocks, prepend=-1))
    return np.asarray([*starts, len(lengths)], dtype=np.int64)
