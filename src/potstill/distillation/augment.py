"""More rows for a teacher to speak of: words replaced by others that a masked-LM model expects.

In each copy of a text a share of its words is hidden at once, and each one is drawn from the
likeliest candidates of a model with a masked-LM head. Nothing says that the label stays true, so
these rows have none: the teacher alone speaks of them.

Source: Jiao et al. 2019, arXiv 1909.10351 (TinyBERT), algorithm 1, which hides one word at a time
and takes neighbours in GloVe for words of several pieces; such words are left as they are here.

Legend: N tokens of a batch, P hidden words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.bundle.folder import ModelFolder
from potstill.data.rows import Rows
from potstill.distillation.signals import Tell
from potstill.errors import ModelError, RecipeError
from potstill.models.layout import arrange
from potstill.models.loading import load_task_model
from potstill.models.task_model import TaskModel
from potstill.text.batching import batches_by_tokens
from potstill.text.ragged import RaggedBatch
from potstill.text.tokenizer import Tokenizer
from potstill.text.windows import Windows, whole_rows
from potstill.text.words import word_spans

Int64 = NDArray[np.int64]

_BATCH_TOKENS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How many copies, and how different."""

    copies: int
    share: float = 0.4  # of the words of a copy, TinyBERT's
    candidates: int = 15  # from which a word is drawn, TinyBERT's
    seed: int = 0


def augmented(
    folder: ModelFolder, rows: Rows, how: Augmentation, *, device: torch.device, tell: Tell
) -> Rows:
    """Return copies of rows with other words, without labels.

    Args:
        folder: a model with a masked-LM head.
        rows: with `text` and perhaps `text_pair`, or with `tokens`.
        how: see `Augmentation`.
        device: where the model runs.
        tell: called with the copies done and the copies of all.

    Raises:
        ModelError: the model has no masked-LM head.
        RecipeError: rows of questions, whose answers have places in the text.
    """
    if folder.head.kind != "masked-lm":
        raise ModelError(
            "this model has no masked-LM head, so it expects no words",
            where=str(folder.path),
            allowed="a model of ForMaskedLM",
        )
    if "context" in rows:
        raise RecipeError("questions cannot be augmented", cure="leave --augment-with out")
    replacer = _Replacer(folder, how, device)
    names = ["tokens"] if "tokens" in rows else [n for n in ("text", "text_pair") if n in rows]
    columns: dict[str, list[object]] = {name: [] for name in names}
    for copy in range(how.copies):
        for name in names:
            columns[name].extend(replacer.column(rows.column(name), copy))
        tell(copy + 1, how.copies)
    return Rows(columns, f"{rows.source}, words replaced")


class _Replacer:
    """Draws other words."""

    def __init__(self, folder: ModelFolder, how: Augmentation, device: torch.device) -> None:
        self.how, self.device = how, device
        self.tokenizer: Tokenizer = folder.tokenizer()
        self.model: TaskModel = load_task_model(folder).to(device)
        self.max_length = folder.max_length
        self.is_word = np.array(
            [self._is_word(index) for index in range(folder.config.vocabulary_size)]
        )

    def column(self, values: Sequence[object], copy: int) -> list[object]:
        """Return texts, or lists of words, with some words replaced."""
        are_texts = bool(values) and isinstance(values[0], str)
        spans = [word_spans(str(text)) if are_texts else [] for text in values]
        words: list[list[str]] = [
            [str(text)[start:end] for start, end in each] if are_texts else list(text)  # type: ignore[call-overload]
            for text, each in zip(values, spans, strict=True)
        ]
        others = self._replaced(words, copy)
        if not are_texts:
            return list(others)
        return [
            _rebuilt(str(text), each, new)
            for text, each, new in zip(values, spans, others, strict=True)
        ]

    @torch.inference_mode()
    def _replaced(self, words: list[list[str]], copy: int) -> list[list[str]]:
        rng = np.random.default_rng((self.how.seed, copy))
        windows = whole_rows(self.tokenizer.encode_words(words, max_length=self.max_length))
        hidden = self._hidden_places(windows, rng)
        ids = windows.texts.ids.copy()
        ids[hidden] = self.tokenizer.mask_id
        masked = RaggedBatch(ids, windows.texts.offsets)
        drawn = self._drawn(masked, hidden, rng)
        new = [list(row) for row in words]
        assert windows.words is not None, "words were asked for"
        rows = windows.token_rows
        for place, token in drawn.items():
            row, word = int(rows[place]), int(windows.words[place])
            new[row][word] = _cased_as(self.tokenizer.id_to_token(token), new[row][word])
        return new

    def _hidden_places(self, windows: Windows, rng: np.random.Generator) -> Int64:
        """Choose a share of the words that are one token and one that the model could give."""
        assert windows.words is not None, "words were asked for"
        keys = windows.token_rows * (int(windows.words.max(initial=0)) + 2) + windows.words
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        is_whole = (counts[inverse] == 1) & (windows.words >= 0)
        is_whole &= self.is_word[windows.texts.ids]
        return np.flatnonzero(is_whole & (rng.random(len(keys)) < self.how.share))

    def _drawn(
        self, masked: RaggedBatch, hidden: Int64, rng: np.random.Generator
    ) -> dict[int, int]:
        """Return a token for each hidden place."""
        drawn: dict[int, int] = {}
        is_hidden = np.zeros(masked.total_tokens, dtype=bool)
        is_hidden[hidden] = True
        forbidden = torch.from_numpy(~self.is_word).to(self.device)
        for texts in batches_by_tokens(masked.lengths, max_tokens=_BATCH_TOKENS):
            places = np.concatenate(
                [np.arange(masked.offsets[text], masked.offsets[text + 1]) for text in texts]
            )
            inside = np.flatnonzero(is_hidden[places])
            if not len(inside):
                continue
            layout = arrange(masked.take(texts), self.model.config, device=self.device)
            states = self.model.encode(layout).last[torch.from_numpy(inside).to(self.device)]
            assert self.model.head is not None, "checked at the beginning"
            logits_PV = self.model.head(states, None).masked_fill(forbidden, -torch.inf)
            best = logits_PV.topk(self.how.candidates, dim=-1).indices.cpu().numpy()
            chosen = rng.integers(0, self.how.candidates, len(inside))
            found = best[np.arange(len(inside)), chosen]
            drawn.update(zip(places[inside].tolist(), found.tolist(), strict=True))
        return drawn

    def _is_word(self, index: int) -> bool:
        """Tell whether a token is a word by itself: letters, not special, no continuation."""
        if index >= self.tokenizer.vocabulary_size or index in self.tokenizer.special_ids:
            return False
        return _plain(self.tokenizer.id_to_token(index)).isalpha()


def _plain(token: str) -> str:
    return token.removeprefix("Ġ").removeprefix("▁") if not token.startswith("##") else ""


def _cased_as(token: str, word: str) -> str:
    plain = _plain(token)
    return plain.capitalize() if word[:1].isupper() and plain.islower() else plain


def _rebuilt(text: str, spans: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    """Return the text with each span replaced by its word."""
    parts, last = [], 0
    for (start, end), word in zip(spans, words, strict=True):
        parts += [text[last:start], word]
        last = end
    return "".join([*parts, text[last:]])
