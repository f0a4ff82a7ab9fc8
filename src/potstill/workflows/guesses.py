"""A teacher's guesses for one run: written by all its processes, or found where a run left them."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from potstill.bundle.manifest import fingerprint
from potstill.distillation.general_objective import GeneralObjective
from potstill.distillation.guessing import Guesser
from potstill.distillation.stored_guesses import (
    PARTS,
    StoredGuesses,
    are_stored,
    require_room,
    store_guesses,
)
from potstill.locks import locked
from potstill.train.progress import counting
from potstill.workflows.corpus_run import CorpusRun

_DECIDING = (  # of the recipe, beside what is kept
    *("seed", "max_length", "held_out_documents", "mask_share", "mask_hidden", "mask_random"),
    *("mask_smoothing", "whole_words", "other_share", "temperature"),
)


def stored_guesses(
    corpus: CorpusRun, objective: GeneralObjective, folder: Path | None
) -> StoredGuesses:
    """Write what the teacher says of the passages, where it does not stand yet, and open it.

    Raises:
        StorageError: the disk has no room.
        OutputError: another run writes to the folder.
        RecipeError: other guesses stand in the folder.
    """
    is_named = folder is not None
    folder = folder or corpus.checkpoints.path / "signals"
    world, lengths = corpus.ground.world, np.asarray(corpus.passages.train.lengths)
    guesser = Guesser(objective, corpus.recipe.top_words)
    shape, identity = guesser.shape(), _identity(corpus, guesser)
    lock: AbstractContextManager[None] = nullcontext()
    if world.is_main:
        tokens = int(lengths.sum(dtype=np.int64))
        places = guesser.expected_places(tokens)
        size = shape.size_bytes(tokens, places, len(lengths))
        require_room(folder, size, is_named=is_named)
        # The run's own folder is held with the run; and where nobody writes, many may read.
        if is_named and not are_stored(folder, lengths, identity=identity):
            lock = locked(folder, flag="--signals-folder")
    with lock:  # of the main process, for all
        world.from_main(True, corpus.ground.device)  # noqa: FBT003 - nobody writes before that
        store_guesses(
            folder,
            guesser.ask,
            lengths,
            shape,
            identity=identity,
            own_parts=range(world.rank, PARTS, world.size),
            tell=counting(
                corpus.ground.listeners if world.is_main else (), "passages the teacher spoke of"
            ),
        )
        world.sum_counts({"written": 1.0}, corpus.ground.device)  # all wait until all have written
    return StoredGuesses(folder, lengths, shape)


def _identity(corpus: CorpusRun, guesser: Guesser) -> str:
    """Return a hash of all that decides what is stored."""
    shape = guesser.shape()
    told = {
        "teacher": fingerprint(corpus.folder.path),
        "corpus": corpus.passages.identity,
        "recipe": {name: getattr(corpus.recipe, name) for name in _DECIDING},
        "words": shape.words,
        "states": list(shape.states),
        "precision": corpus.precision,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
