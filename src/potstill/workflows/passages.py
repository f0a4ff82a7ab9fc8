"""From texts to passages: the corpus is built or opened, cut into rows, and some are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.data.contamination import Contamination, find_contamination
from potstill.data.corpus import Corpus, open_corpus
from potstill.data.corpus_build import CorpusSettings, build_corpus
from potstill.data.corpus_manifest import FILE as CORPUS_FILE
from potstill.data.corpus_rows import SHORTEST, CorpusRows, cut_rows
from potstill.errors import InputError
from potstill.text.masking import Masking, MaskingShares, masking_for
from potstill.text.tokenizer import Tokenizer
from potstill.train.progress import Listener, counting
from potstill.train.world import World

_FEW_SHORT = 0.03  # of the documents: so many may be too short without a warning


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSources:
    """What a training on texts reads beside its model."""

    files: Sequence[str | Path]  # texts, or the folder of a corpus that was built before
    folder: Path | None = None  # where the corpus is kept; None: beside what is written
    column: str = "text"
    evaluation: Sequence[object] = ()  # documents that hold texts of these are left out
    probes: Sequence[object] = ()  # labelled rows; the model is probed on them on the way


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where a run stands."""

    out: Path  # the bundle to come
    world: World
    device: torch.device  # of this process
    listeners: tuple[Listener, ...] = ()


class PassageSettings(Protocol):
    """What of a recipe decides the passages and what is hidden in them."""

    @property
    def seed(self) -> int: ...  # noqa: D102 - a field of the recipe
    @property
    def max_length(self) -> int: ...  # noqa: D102
    @property
    def held_out_documents(self) -> int: ...  # noqa: D102
    @property
    def held_out_tokens(self) -> int: ...  # noqa: D102
    @property
    def mask_share(self) -> float: ...  # noqa: D102
    @property
    def mask_hidden(self) -> float: ...  # noqa: D102
    @property
    def mask_random(self) -> float: ...  # noqa: D102
    @property
    def mask_smoothing(self) -> float: ...  # noqa: D102
    @property
    def whole_words(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageSet:
    """Passages to train on, passages to measure on, and how tokens are hidden in both."""

    corpus: Corpus
    train: CorpusRows
    held_out: CorpusRows
    masking: Masking
    warnings: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)  # for the lineage
    left_out: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    short: dict[str, int] = field(default_factory=dict)  # too short for a passage, counted

    @property
    def identity(self) -> str:
        """Return what decides the passages beside the recipe: which documents, not how many."""
        count = f"{self.corpus.identity} without {self.left_out.size}"
        if not self.left_out.size:
            return count
        numbers = np.sort(self.left_out).astype("<i8")
        return f"{count}: {hashlib.sha256(numbers.tobytes()).hexdigest()}"


def read_passages(
    sources: CorpusSources,
    tokenizer: Tokenizer,
    recipe: PassageSettings,
    ground: Ground,
) -> PassageSet:
    """Build the corpus where it is not built yet, and cut it into passages.

    Args:
        sources: where the texts are.
        tokenizer: of the model that reads them.
        recipe: lengths, shares, seed.
        ground: the corpus is kept in `<out>.corpus` unless a folder is named, and used again by the
            next call; the main process builds and searches it, the others wait.

    Raises:
        RecipeError: settings, or a corpus of other files stands in the folder.
        DataError: a file that cannot be read, an empty corpus, one of another tokenizer.
        ModelError: the tokenizer has no mask token.
    """
    shares = MaskingShares(
        chosen=recipe.mask_share,
        hidden=recipe.mask_hidden,
        random=recipe.mask_random,
        smoothing=recipe.mask_smoothing,
        whole_words=recipe.whole_words,
    )
    corpus = _corpus(sources, tokenizer, ground)
    contaminated = np.zeros(0, dtype=np.int64)
    warnings: list[str] = []
    if sources.evaluation:
        found = _contamination(corpus, sources, tokenizer, ground)
        contaminated = np.asarray(found.documents, dtype=np.int64)
        warnings.append(
            f"{len(found.documents):,} of {corpus.documents:,} documents hold evaluation texts: "
            f"left out; {found.short_texts:,} of {found.evaluation_texts:,} evaluation texts are "
            "too short to be looked for"
        )
    rows = cut_rows(corpus, max_length=recipe.max_length, without=contaminated)
    short = _short(rows, documents=corpus.documents - contaminated.size)
    if short["short_documents"] > _FEW_SHORT * (corpus.documents - contaminated.size):
        warnings.append(
            f"{short['short_documents']:,} of {corpus.documents:,} documents have fewer than "
            f"{SHORTEST} tokens: left out"
        )
    train, unseen = rows.split(held_out_documents=recipe.held_out_documents, seed=recipe.seed)
    held_out = unseen.at_most(recipe.held_out_tokens, seed=recipe.seed)
    if len(held_out) < len(unseen):
        warnings.append(
            f"the {recipe.held_out_documents:,} held-out documents have {_tokens(unseen):,} "
            f"tokens: {_tokens(held_out):,} are measured (held_out_tokens), the rest is not read"
        )
    return PassageSet(
        corpus=corpus,
        train=train,
        held_out=held_out,
        masking=masking_for(
            tokenizer, shares, _counts(corpus, tokenizer) if shares.smoothing else None
        ),
        warnings=warnings,
        told={
            "corpus": [Path(str(name)).name for name in sources.files],
            "corpus_documents": corpus.documents,
            "corpus_tokens": corpus.total_tokens,
            "contaminated_documents": len(contaminated),
            "passages": len(train),
            "held_out_passages": len(held_out),
        },
        left_out=contaminated,
        short=short,
    )


def _tokens(rows: CorpusRows) -> int:
    return int(rows.lengths.sum(dtype=np.int64))


def _short(rows: CorpusRows, *, documents: int) -> dict[str, int]:
    """Return what is too short to be a passage; documents are those of which nothing is left."""
    return {
        "short_documents": documents - rows.documents,
        "short_pieces": rows.short_pieces,
        "short_tokens": rows.short_tokens,
    }


def _corpus(sources: CorpusSources, tokenizer: Tokenizer, ground: Ground) -> Corpus:
    if not sources.files:
        raise InputError("there is no corpus", cure="name files of texts")
    built = [Path(name) for name in sources.files if (Path(name) / CORPUS_FILE).is_file()]
    if built:
        if len(sources.files) > 1:
            raise InputError(
                "a corpus that was built before stands alone",
                where=str(built[0]),
                cure="name it alone, or the files that it shall be built of",
            )
        if sources.folder is not None and sources.folder.absolute() != built[0].absolute():
            raise InputError(
                "another folder means nothing for a corpus that was built",
                where=f"--corpus-folder {sources.folder}",
                cure="leave --corpus-folder out, or name the files that it shall be built of",
            )
        corpus = open_corpus(built[0])
        corpus.require_tokenizer(tokenizer)
        if ground.world.is_main:  # it reads all files; building does as well
            corpus.require_whole()
        if sources.column not in {CorpusSettings().column, corpus.manifest.wording.column}:
            raise InputError(
                f"the text column {sources.column!r} means nothing for a corpus that was built",
                where=str(built[0]),
                cure="leave --text-column out, or name the files that it was built of",
            )
        return corpus
    folder = sources.folder or corpus_folder(ground.out)
    settings = CorpusSettings(column=sources.column)

    if ground.world.is_main:
        tell = counting(ground.listeners, "bytes of the corpus read")
        build_corpus(sources.files, folder, tokenizer, settings, tell=tell)
    ground.world.from_main(True, ground.device)  # noqa: FBT003 - the others wait until all is written
    return open_corpus(folder)


def _contamination(
    corpus: Corpus, sources: CorpusSources, tokenizer: Tokenizer, ground: Ground
) -> Contamination:
    """Search in the main process; the others read what it has kept."""
    if ground.world.is_main:
        tell = counting(ground.listeners, "tokens searched for evaluation texts")
        found = find_contamination(corpus, sources.evaluation, tokenizer, tell=tell)
    ground.world.from_main(True, ground.device)  # noqa: FBT003 - the others wait until it is kept
    if not ground.world.is_main:
        found = find_contamination(corpus, sources.evaluation, tokenizer)
    return found


def corpus_folder(out: Path) -> Path:
    """Return where the corpus of a run is kept."""
    return out.with_name(out.name + ".corpus")


def _counts(corpus: Corpus, tokenizer: Tokenizer) -> Any:
    """Return how often each token stands in the corpus, (V,)."""
    counts = np.zeros(tokenizer.vocabulary_size, dtype=np.int64)
    for shard in corpus.shards:
        counts += np.bincount(shard.ids, minlength=tokenizer.vocabulary_size)
    return counts
