"""What fine-tuning and distillation do alike with rows: read, check, encode, hash."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.data.columns import Columns, count_empty_texts
from potstill.data.overlap import find_overlap
from potstill.data.rows import Rows
from potstill.data.splits import split_rows
from potstill.hardware import chosen_threads, require_threads, usable_threads
from potstill.models.memory import told_when_memory_ends
from potstill.models.precision import resolve_device
from potstill.recipe import require_choice, require_range
from potstill.tasks import reading
from potstill.tasks.task import CUT, LONG_TEXTS, Lengths, Task
from potstill.text.tokenizer import Tokenizer
from potstill.text.windows import Windows
from potstill.train.learnable import Learnable
from potstill.train.world import World, join_world, leave_world

_RARE = 0.25  # of an equal share: below it accuracy says little about a class
_MUCH_MORE = 2.0  # times the dev rows that were asked for
_MANY_CLASSES = 50  # up to as many may have a row each without a word
# Columns in which rows say what is to be learned, whatever the task.
_TRUTHS = ("label", "tags", "answers", "answer_starts")


def train_and_dev(  # noqa: PLR0913 - what decides two sets of rows
    task: str,
    train: object,
    dev: object | None,
    columns: Columns,
    *,
    dev_share: float,
    seed: int,
    warnings: list[str],
    attach: Callable[[Rows], Rows] | None = None,
    pose: Callable[[Rows], object] | None = None,
) -> tuple[Rows, Rows]:
    """Read training and dev rows; the latter are carved from the former where none are given.

    What `attach` adds to the training rows, one value a row, goes with them to both sides. `pose`
    is given all training rows before any is carved: it may refuse those that are no task.
    """
    rows = reading.labelled(task, train, columns)
    if pose is not None:
        pose(rows)
    if attach is not None:
        rows = attach(rows)
    if dev is None:
        whole = len(rows)
        rows, dev_rows = carved(task, rows, dev_share=dev_share, seed=seed, has_labels=True)
        if reading.KINDS[task].stratify and len(dev_rows) > _MUCH_MORE * dev_share * whole:
            warnings.append(
                f"{len(dev_rows)} of {whole} rows of {rows.source} are held out as dev rows, "
                f"though dev_share is {dev_share:g}: of each class with two texts one is; to learn "
                "from more rows, name a file of dev rows with --dev"
            )
    else:
        dev_rows = reading.labelled(task, dev, columns)
        reading.require_one_form(rows, dev_rows)
    rows, told = reading.for_training(task, rows)
    warnings.extend(told)
    return rows, dev_rows


def carved(
    task: str, rows: Rows, *, dev_share: float, seed: int, has_labels: bool
) -> tuple[Rows, Rows]:
    """Carve dev rows out of others; what belongs together stays on one side.

    Of labels, classes and tags none is left to dev alone: a model is made to answer those of the
    training rows, and could not be asked for another.
    """
    kind = reading.KINDS[task]
    return split_rows(
        rows,
        fraction=dev_share,
        seed=seed,
        stratify_by="label" if kind.stratify and has_labels else None,
        known_by=kind.names if has_labels else None,
        with_pair=kind.splits_pairs,
    )


def asked_lengths(task: Task, *, max_length: int, long_texts: str, overlap: int) -> Lengths:
    """Return how long texts may be, as a recipe asks; an empty word is the task's own way."""
    return Lengths(max_length=max_length, long_texts=long_texts or task.long_texts, overlap=overlap)


def require_lengths(long_texts: str, overlap: int, max_length: int) -> None:
    """Check a recipe's settings of long texts.

    Raises:
        RecipeError: an unknown word, or an overlap of half a window or more.
    """
    require_choice("long_texts", long_texts, ("", *LONG_TEXTS))
    require_range("overlap", overlap, at_least=0)
    if max_length:
        require_range("overlap", overlap, below=max(max_length // 2, 1))


def windows_of(
    task: Task, tokenizer: Tokenizer, rows: Rows, lengths: Lengths, *, warnings: list[str]
) -> Windows:
    """Turn rows into the texts that a model is given; cut and empty ones go to `warnings`."""
    windows = task.windows(tokenizer, rows, lengths)
    warnings.extend(text_warnings(rows, windows, lengths))
    return windows


def text_warnings(rows: Rows, windows: Windows, lengths: Lengths) -> list[str]:
    """Return what a user should know about long and empty texts."""
    warnings = []
    cut = int(windows.truncated.sum())
    if cut and lengths.long_texts == CUT:
        warnings.append(
            f"{cut} of {len(rows)} texts of {rows.source} were cut at {lengths.max_length} "
            f"tokens; {windows.dropped_tokens:,} tokens were dropped"
        )
    elif cut:
        warnings.append(f"{cut} of {len(rows)} questions of {rows.source} were cut")
    empty = count_empty_texts(rows)
    if empty:
        warnings.append(f"{empty} of {len(rows)} texts of {rows.source} are empty")
    return warnings


def learnable(task: Task, rows: Rows, windows: Windows, *, has_labels: bool) -> Learnable:
    """Return rows as a training reads them."""
    return Learnable(
        windows.texts,
        task.targets(rows, windows) if has_labels else task.unknown_targets(windows),
        task.readable(windows),
        per_token=task.name == "token-classification",
    )


def has_labels(rows: Rows) -> bool:
    """Tell whether rows say what is to be learned."""
    return any(name in rows for name in _TRUTHS)


def warn_of_rows(task: Task, train: Rows, dev: Rows, warnings: list[str]) -> None:
    """Add what a user should know about labelled rows: overlap, classes that are rare."""
    overlap = find_overlap(train, dev)
    if overlap.count:
        warnings.append(overlap.describe(held_out="dev"))
    if task.name != "classification":
        return
    counts = Counter(train.column("label"))
    if len(counts) > max(_MANY_CLASSES, len(train) // 2):
        warnings.append(
            f"{len(counts)} classes in {len(train)} training rows of {train.source}: fewer than "
            "two rows a class; if these are no classes, name their column with --label-column"
        )
    label, rarest = min(counts.items(), key=lambda item: (item[1], item[0]))
    if rarest < _RARE * len(train) / len(counts):
        warnings.append(
            f"the classes are uneven: {label!r} has {rarest} of {len(train)} training rows, so "
            "accuracy says little about it; see --primary macro_f1 and --recipe imbalanced"
        )


def rows_hash(
    texts: Sequence[Windows], rows: Sequence[Rows], given: NDArray[np.float32] | None = None
) -> str:
    """Return the hash of tokens, of what is true and of what a teacher has said already."""
    digest = hashlib.sha256()
    for windows in texts:
        batch = windows.texts
        digest.update(batch.ids.tobytes() + batch.offsets.tobytes())
        if batch.token_types is not None:
            digest.update(batch.token_types.tobytes())
    for part in rows:
        for name in _TRUTHS:
            if name in part:
                digest.update(repr(part.column(name)).encode() + b"\1")
    if given is not None:
        digest.update(given.tobytes())
    return digest.hexdigest()


def run_folder(out: Path) -> Path:
    """Return where a run's state stands until its bundle is written."""
    return out.with_name(out.name + ".run")


@contextlib.contextmanager
def joined_world(device: str, threads: int | None) -> Iterator[World]:
    """Join the processes of a run with one's share of the processor; leave them at the end.

    Raises:
        RecipeError: more threads than make sense here, or torchrun's variables do not fit
            together.
        OutOfMemory: memory ends where no step is done: in a model, a score, a teacher's signals.
    """
    require_threads(threads)
    world = join_world(device)
    # torchrun sets OMP_NUM_THREADS to 1 by itself: among several processes it is nobody's wish.
    alone = world.local_size == 1
    share = chosen_threads() if alone else max(1, usable_threads() // world.local_size)
    torch.set_num_threads(threads or share)
    cure = "use a smaller model, or a machine with more memory"
    try:
        with told_when_memory_ends(None, what="this run", cure=cure):
            yield world
    finally:
        leave_world()


def own_device(device: str, world: World) -> torch.device:
    """Return this process's device: with several cards each has its own."""
    chosen = resolve_device(device)
    if chosen.type == "cuda" and world.size > 1:
        return torch.device("cuda", world.local_rank)
    return chosen
