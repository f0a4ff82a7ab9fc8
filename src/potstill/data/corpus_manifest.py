"""What a corpus folder says of itself: sources, settings, shards and counts, in manifest.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from potstill.errors import DataError, RecipeError
from potstill.files import write_atomically

Entry = TypeVar("Entry", "Tally", "SourceEntry", "ShardEntry", "Wording")

FILE = "manifest.json"
SCHEMA = 1
_LARGEST_16_BIT_VOCABULARY = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of a stretch of documents: read = empty + duplicates + unknown + kept."""

    read: int = 0
    empty: int = 0  # blanks alone, or nothing that gives a token
    duplicates: int = 0  # of an earlier text, differences of case and blanks apart
    mostly_unknown: int = 0  # dropped for their share of unknown tokens
    documents: int = 0  # kept
    tokens: int = 0  # of the kept ones, without special tokens around
    unknown_tokens: int = 0  # among those
    characters: int = 0  # of the kept ones

    def __add__(self, other: Tally) -> Tally:
        """Return the counts of both stretches."""
        return Tally(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEntry:
    """One file, or one data set of the hub."""

    name: str  # without the folder
    size_bytes: int = 0
    sha256: str = ""  # of the file as it lies on the disk; "" for the hub
    revision: str = ""  # the hub's commit; "" for a file
    modified_ns: int = 0  # where size and time are unchanged, a file is not read for its hash

    def same_content(self, other: SourceEntry) -> bool:
        """Say whether both would give the same documents; a pinned revision stays pinned."""
        return (self.name, self.size_bytes, self.sha256) == (
            other.name,
            other.size_bytes,
            other.sha256,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """One shard, and how far the sources are read when it ends."""

    source: int  # place in the list of sources, from 0
    place: int  # line or row of that source, the last that is dealt with
    tally: Tally  # of what was read for this shard
    ids_sha256: str
    ends_sha256: str
    keys_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What turns documents into ids: two corpora of other wording are never mixed."""

    tokenizer_sha256: str
    vocabulary_size: int
    cls_id: int
    sep_id: int
    column: str
    shard_tokens: int
    unknown_share: float

    @property
    def dtype(self) -> str:
        """Return the number format of ids on the disk, always little-endian."""
        return "<u2" if self.vocabulary_size <= _LARGEST_16_BIT_VOCABULARY else "<u4"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusManifest:
    """All that is known of a corpus."""

    wording: Wording
    sources: tuple[SourceEntry, ...]
    shards: tuple[ShardEntry, ...] = ()
    tail: Tally = Tally()  # what was read behind the last shard and not kept
    is_finished: bool = False
    seconds: float = 0.0  # of work, over all sittings

    @property
    def total(self) -> Tally:
        """Return the counts of the whole corpus."""
        return sum((shard.tally for shard in self.shards), self.tail)

    @property
    def is_bare(self) -> bool:
        """Say whether nothing was kept of the sources yet."""
        return not self.is_finished and not self.shards

    def require_same(self, other: CorpusManifest, folder: Path) -> None:
        """Check that `other` asks for this corpus.

        Raises:
            RecipeError: with the first difference.
        """
        difference = next(_differences(self, other), None)
        if difference:
            raise RecipeError(
                f"another corpus stands here: {difference}",
                where=str(folder),
                cure="repeat its sources and settings, remove it, or name another folder",
            )

    def write(self, folder: Path) -> None:
        """Put the manifest in place of the one before.

        Raises:
            StorageError: the disk is full; the one before is whole.
        """
        shown = {
            "schema": SCHEMA,
            "dtype": self.wording.dtype,
            "total": asdict(self.total),
            **asdict(self),
        }
        write_atomically(folder / FILE, json.dumps(shown, indent=1).encode() + b"\n")


def read_manifest(folder: Path) -> CorpusManifest | None:
    """Return what the folder says of itself; None where it says nothing.

    Raises:
        DataError: it is no manifest of a corpus, or that of another version.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] != SCHEMA:
            raise DataError(
                f"the corpus was written in form {content['schema']!r}",
                where=str(path),
                allowed=f"form {SCHEMA}",
                cure="build it again in another folder",
            )
        return _manifest_of(content)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"this is no manifest of a corpus: {error}",
            where=str(path),
            cure="build the corpus again in another folder",
        ) from error


def without_shards(manifest: CorpusManifest, keep: int) -> CorpusManifest:
    """Return the manifest as it was when only the first `keep` shards stood."""
    return replace(manifest, shards=manifest.shards[:keep], tail=Tally(), is_finished=False)


def _manifest_of(content: Mapping[str, Any]) -> CorpusManifest:
    is_finished, seconds = content["is_finished"], content["seconds"]
    _require_kind("is_finished", is_finished, bool)
    _require_kind("seconds", seconds, float)
    if is_finished and not content["shards"]:
        raise ValueError("a finished corpus has a shard")
    return CorpusManifest(
        wording=_entry(Wording, content["wording"]),
        sources=tuple(_entry(SourceEntry, each) for each in content["sources"]),
        shards=tuple(
            _entry(ShardEntry, {**each, "tally": _entry(Tally, each["tally"])})
            for each in content["shards"]
        ),
        tail=_entry(Tally, content["tail"]),
        is_finished=is_finished,
        seconds=seconds,
    )


def _entry(kind: type[Entry], content: Mapping[str, Any]) -> Entry:
    """Return an entry whose fields have their types, and counts that can be counts."""
    entry = kind(**content)
    for name, expected in get_type_hints(kind).items():
        _require_kind(name, getattr(entry, name), expected)
    return entry


def _require_kind(name: str, value: object, expected: type) -> None:
    kinds = (int, float) if expected is float else expected  # JSON writes 1.0 as it likes
    is_right = isinstance(value, kinds) and isinstance(value, bool) == (expected is bool)
    if not is_right or (isinstance(value, int | float) and not value >= 0):
        raise ValueError(f"{name} is {_short(repr(value))}")


def _differences(stored: CorpusManifest, asked: CorpusManifest) -> Iterator[str]:
    for field in fields(Wording):
        before, now = getattr(stored.wording, field.name), getattr(asked.wording, field.name)
        if before != now:
            yield f"its {field.name} is {_short(before)}, asked for is {_short(now)}"
    if len(stored.sources) != len(asked.sources):
        yield (
            f"it has {len(stored.sources)} sources ({_names(stored)}), "
            f"asked for are {len(asked.sources)} ({_names(asked)})"
        )
    pairs = zip(stored.sources, asked.sources, strict=False)
    for number, (old, new) in enumerate(pairs, start=1):
        if not old.same_content(new):
            yield f"its source {number} is {_described(old)}, asked for is {_described(new)}"


def _names(manifest: CorpusManifest) -> str:
    return ", ".join(source.name for source in manifest.sources)


def _described(source: SourceEntry) -> str:
    if not source.sha256:
        return source.name
    return f"{source.name} ({source.size_bytes:,} bytes, sha256 {_short(source.sha256)})"


def _short(value: object) -> str:
    return f"{value:.12}" if isinstance(value, str) else str(value)
