"""What fine-tuning and distillation do alike with rows: read, check, encode, hash."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from potstill.data.columns import Columns, count_empty_texts, select_columns
from potstill.data.overlap import find_overlap
from potstill.data.readers import read_rows
from potstill.data.rows import Rows
from potstill.data.splits import split_rows
from potstill.errors import DataError
from potstill.hardware import usable_threads
from potstill.models.precision import resolve_device
from potstill.recipe import require_range
from potstill.text.encoded import Encoded
from potstill.text.tokenizer import Tokenizer
from potstill.train.world import World, join_world, leave_world

_RARE = 0.25  # of an equal share: below it accuracy says little about a class
_MOST_UNLABELLED_LABELS = 50  # different texts: below it a column of texts looks like labels


def labelled_rows(source: object, columns: Columns) -> Rows:
    """Read rows of a text and a label.

    Raises:
        DataError: with file, line and field.
    """
    return select_columns(
        read_rows(source), columns, required=("text", "label"), optional=(), label_kind="class"
    )


def train_and_dev(
    train: object, dev: object | None, columns: Columns, *, dev_share: float, seed: int
) -> tuple[Rows, Rows]:
    """Read training and dev rows; the latter are carved from the former where none are given."""
    rows = labelled_rows(train, columns)
    if dev is None:
        return split_rows(rows, fraction=dev_share, seed=seed)
    return rows, labelled_rows(dev, columns)


def unlabelled_rows(source: object, columns: Columns) -> Rows:
    """Read texts without labels.

    Raises:
        DataError: no such column, or a column of labels that is mistaken for one of texts.
    """
    rows = select_columns(read_rows(source), columns, required=("text",), optional=())
    texts = rows.column("text")
    different = set(texts)
    is_few = len(different) <= min(_MOST_UNLABELLED_LABELS, len(texts) // 4)
    if is_few and max(len(text.split()) for text in different) <= 2:
        raise DataError(
            f"column {columns.text!r} holds {len(different)} different values in "
            f"{len(texts):,} rows, such as {min(different)!r}: it looks like labels, not texts",
            where=rows.source,
            cure="name the column of texts with --text-column",
        )
    return rows


def encode_rows(
    tokenizer: Tokenizer, rows: Rows, *, max_length: int, warnings: list[str]
) -> Encoded:
    """Turn texts into tokens; texts that were cut or are empty are added to `warnings`."""
    encoded = tokenizer.encode(rows.column("text"), max_length=max_length)
    cut = int(np.count_nonzero(encoded.truncated))
    if cut:
        warnings.append(
            f"{cut} of {len(rows)} texts of {rows.source} were cut at {max_length} "
            f"tokens; {int(encoded.dropped_tokens.sum()):,} tokens were dropped"
        )
    empty = count_empty_texts(rows)
    if empty:
        warnings.append(f"{empty} of {len(rows)} texts of {rows.source} are empty")
    return encoded


def warn_of_rows(train: Rows, dev: Rows, warnings: list[str]) -> None:
    """Add what a user should know about labelled rows: overlap, classes that are rare."""
    overlap = find_overlap(train, dev)
    if overlap.count:
        warnings.append(overlap.describe())
    counts = Counter(train.column("label"))
    label, rarest = min(counts.items(), key=lambda item: (item[1], item[0]))
    if rarest < _RARE * len(train) / len(counts):
        warnings.append(
            f"the classes are uneven: {label!r} has {rarest} of {len(train)} training rows, so "
            "accuracy says little about it; see --primary macro_f1 and --recipe imbalanced"
        )


def rows_hash(encoded: Sequence[Encoded], labels: Sequence[Sequence[str]]) -> str:
    """Return the hash of tokens and labels: what of the rows decides a result."""
    digest = hashlib.sha256()
    for texts in encoded:
        digest.update(texts.batch.ids.tobytes() + texts.batch.offsets.tobytes())
    for column in labels:
        digest.update("\0".join(column).encode() + b"\1")
    return digest.hexdigest()


def run_folder(out: Path) -> Path:
    """Return where a run's state stands until its bundle is written."""
    return out.with_name(out.name + ".run")


@contextlib.contextmanager
def joined_world(device: str, threads: int | None) -> Iterator[World]:
    """Join the processes of a run with one's share of the processor; leave them at the end.

    Raises:
        RecipeError: threads below 1, or torchrun's variables do not fit together.
    """
    if threads is not None:
        require_range("threads", threads, at_least=1)
    world = join_world(device)
    torch.set_num_threads(threads or max(1, usable_threads() // world.local_size))
    try:
        yield world
    finally:
        leave_world()


def own_device(device: str, world: World) -> torch.device:
    """Return this process's device: with several cards each has its own."""
    chosen = resolve_device(device)
    if chosen.type == "cuda" and world.size > 1:
        return torch.device("cuda", world.local_rank)
    return chosen
