"""Token classification: entities, as one IOB2 tag a word.

The network answers at the first sub-word of each word; the others are never read, neither in
training nor later. A word that the model did not see (its text was cut, or the tokenizer drops it)
counts as outside.

Legend: B rows, N tokens, C tags.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec, Pooling
from potstill.data.iob2 import entity_types, tag_names
from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.entities import (
    Entity,
    EntityF1,
    EntityPrecision,
    EntityRecall,
    entities_of,
    scores_per_type,
)
from potstill.metrics.metric import Metric
from potstill.metrics.per_class import ClassScores
from potstill.tasks.classification import F1_PREFIX, probabilities
from potstill.tasks.task import CUT, WINDOWS, Lengths
from potstill.text.tokenizer import Tokenizer
from potstill.text.windows import Windows, cut_into_windows, whole_rows
from potstill.text.words import Span, word_spans

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Int64 = NDArray[np.int64]

NAME = "token-classification"
OUTSIDE = "O"
_LABELS_SHOWN = 20


@dataclass(frozen=True, slots=True, eq=False)
class TagAnswer:
    """The tag of each word of a row, and how probable it is."""

    tags: tuple[str, ...]
    scores: Floats  # (words,), 0 to 1


@dataclass(frozen=True, slots=True)
class TokenClassification:
    """Tags of words; answers are a `TagAnswer` a row."""

    labels: tuple[str, ...]  # tags

    name = NAME
    loss = "classes"
    long_texts = WINDOWS
    metric_names = ("entity_f1", "entity_precision", "entity_recall")
    thresholds: ClassVar[dict[str, float]] = {}

    @classmethod
    def from_rows(cls, rows: Rows) -> TokenClassification:
        """Find the types of entities in training rows.

        Raises:
            DataError: there is no entity.
        """
        types = entity_types(rows)
        if not types:
            raise DataError(
                "every tag is O: there is no entity", where=f"{rows.source}, field 'tags'"
            )
        return cls(tag_names(types))

    @property
    def types(self) -> tuple[str, ...]:
        """Return the types of entities."""
        return tuple(dict.fromkeys(_type_of(tag) for tag in self.labels if tag != OUTSIDE))

    def head(self, pooling: Pooling) -> HeadSpec:
        """Return the head that answers this task."""
        del pooling
        return HeadSpec(kind="token-classification", labels=self.labels)

    def windows(self, tokenizer: Tokenizer, rows: Rows, lengths: Lengths) -> Windows:
        """Turn words into tokens."""
        words = rows.column("tokens")
        if lengths.long_texts == CUT:
            encoded = tokenizer.encode_words(
                words, max_length=lengths.max_length, with_offsets=True
            )
            return whole_rows(encoded)
        return cut_into_windows(
            tokenizer.encode_words(words, with_offsets=True),
            max_length=lengths.max_length,
            overlap=lengths.shared_tokens,
        )

    def readable(self, windows: Windows) -> Bools:
        """Return the first sub-word of each word, (N,)."""
        assert windows.begins_word is not None, "words were asked for"
        return windows.begins_word

    def targets(self, rows: Rows, windows: Windows) -> Int64:
        """Return the tag of each first sub-word, (N,); -1 elsewhere."""
        tags = self._tag_indices(rows)
        starts = np.cumsum([0, *(len(row) for row in tags)])
        flat = np.fromiter(itertools.chain.from_iterable(tags), dtype=np.int64)
        assert windows.words is not None, "words were asked for"
        tokens = np.flatnonzero(self.readable(windows))
        targets = self.unknown_targets(windows)
        targets[tokens] = flat[starts[:-1][windows.token_rows[tokens]] + windows.words[tokens]]
        return targets

    def unknown_targets(self, windows: Windows) -> Int64:
        """Return -1 for each token."""
        return np.full(windows.texts.total_tokens, -1, dtype=np.int64)

    def answers(self, outputs: Floats, windows: Windows, rows: Rows) -> list[TagAnswer]:
        """Return the tags of each row's words.

        A word in two windows is read where more text stands on both sides of it.
        """
        assert windows.words is not None, "words were asked for"
        outside = self.labels.index(OUTSIDE) if OUTSIDE in self.labels else 0
        counts = [len(words) for words in rows.column("tokens")]
        starts = np.cumsum([0, *counts])
        tags = np.full(starts[-1], outside)
        scores = np.zeros(starts[-1])
        tokens = np.flatnonzero(self.readable(windows))
        # The last writer of a word wins: the token with the most context, of equal ones the first.
        tokens = tokens[np.lexsort((-tokens, windows.context[tokens]))]
        shares = probabilities(outputs[tokens])
        words = starts[:-1][windows.token_rows[tokens]] + windows.words[tokens]
        tags[words] = shares.argmax(axis=-1)
        scores[words] = shares.max(axis=-1)
        return [
            TagAnswer(tuple(self.labels[tag] for tag in tags[start:end]), scores[start:end])
            for start, end in itertools.pairwise(starts)
        ]

    def gold(self, rows: Rows) -> list[tuple[str, ...]]:
        """Return each row's tags.

        Raises:
            DataError: a tag that was not in the training rows, with its line.
        """
        self._tag_indices(rows)
        return [tuple(tags) for tags in rows.column("tags")]

    def as_gold(self, answers: list[TagAnswer]) -> list[tuple[str, ...]]:
        """Return the tags answered."""
        return [answer.tags for answer in answers]

    def primary(self, *, has_gold: bool) -> str:
        """Return strict F1 of entities."""
        del has_gold
        return "entity_f1"

    def metric(self, name: str) -> Metric:
        """Return a metric by its name: entity_f1, entity_precision, entity_recall, f1:TYPE.

        Raises:
            RecipeError: no such metric or type.
        """
        plain: dict[str, Metric] = {
            "entity_f1": EntityF1(),
            "entity_precision": EntityPrecision(),
            "entity_recall": EntityRecall(),
        }
        kind = name.removeprefix(F1_PREFIX)
        if name.startswith(F1_PREFIX) and kind in self.types:
            return EntityF1(type=kind, name=name)
        if name not in plain:
            types = [F1_PREFIX + each for each in self.types]
            raise RecipeError(f"primary is {name!r}", allowed=", ".join([*plain, *types]))
        return plain[name]

    def statistics(
        self, metric: Metric, answers: list[TagAnswer], gold: list[tuple[str, ...]]
    ) -> Floats:
        """Return the metric's statistics of each row."""
        found: Any = _entities(self.as_gold(answers))
        true: Any = _entities(gold)
        return metric.statistics(found, true)

    def trivial(self, gold: list[tuple[str, ...]]) -> tuple[list[TagAnswer], str]:
        """Return the answer that nothing is an entity."""
        return [TagAnswer((OUTSIDE,) * len(tags), np.ones(len(tags))) for tags in gold], "no entity"

    def breakdown(self, answers: list[TagAnswer], gold: list[tuple[str, ...]]) -> list[ClassScores]:
        """Return precision, recall and F1 of each type."""
        return scores_per_type(_entities(self.as_gold(answers)), _entities(gold))

    def same(self, one: list[TagAnswer], other: list[TagAnswer]) -> Bools:
        """Tell where both find the same entities."""
        pairs = zip(self.as_gold(one), self.as_gold(other), strict=True)
        return np.array([entities_of(a) == entities_of(b) for a, b in pairs], dtype=bool)

    def right(self, answers: list[TagAnswer], gold: list[tuple[str, ...]]) -> Bools:
        """Tell where all entities are right."""
        pairs = zip(self.as_gold(answers), gold, strict=True)
        return np.array([entities_of(a) == entities_of(b) for a, b in pairs], dtype=bool)

    def sureness(self, answers: list[TagAnswer]) -> Floats:
        """Return the probability of each row's least sure tag."""
        return np.array([answer.scores.min(initial=1.0) for answer in answers])

    def shown(self, answers: list[TagAnswer]) -> list[str]:
        """Return each row's entities by the places of their words."""
        return [_in_words(answer.tags) for answer in answers]

    def shown_gold(self, rows: Rows) -> list[str]:
        """Return each row's true entities."""
        return [_in_words(tags) for tags in rows.column("tags")]

    def items(self, answers: list[TagAnswer], rows: Rows, truncated: Bools) -> list[dict[str, Any]]:
        """Return the entities of each row with their exact places: text[start:end] is the word."""
        texts = rows.column("text")
        return [
            {
                "entities": [
                    _item(entity, answer.scores, text, spans)
                    for entity in found_entities(answer.tags)
                ],
                "truncated": bool(is_cut),
            }
            for answer, text, spans, is_cut in zip(
                answers, texts, rows.column("word_spans"), truncated, strict=True
            )
        ]

    def fitted(self, answers: Any, gold: Any) -> Self:
        """Return the task as it is: the most probable tag needs no threshold."""
        del answers, gold
        return self

    def _tag_indices(self, rows: Rows) -> list[list[int]]:
        index_of = {tag: index for index, tag in enumerate(self.labels)}
        found = []
        for row, tags in enumerate(rows.column("tags")):
            for tag in tags:
                if tag not in index_of:
                    raise DataError(
                        f"tag {tag!r} is none of the model's",
                        where=f"{rows.where(row)}, field 'tags'",
                        allowed=", ".join(self.labels[:_LABELS_SHOWN]),
                    )
            found.append([index_of[tag] for tag in tags])
        return found


def with_words(rows: Rows) -> Rows:
    """Return rows with tokens, their text and each token's place in it, from either of the two."""
    if "tokens" not in rows:
        texts: list[str] = rows.column("text")
        spans = [word_spans(text) for text in texts]
        words = [
            [text[start:end] for start, end in each]
            for text, each in zip(texts, spans, strict=True)
        ]
    else:
        words = rows.column("tokens")
        texts = [" ".join(row) for row in words]
        spans = [_joined_spans(row) for row in words]
    return rows.with_columns({"text": texts, "tokens": words, "word_spans": spans})


def found_entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of predicted tags; an I- without its B- begins one here.

    So a reader loses nothing that the model found; the metric is strict, see `entities_of`.
    """
    mended = [
        f"B-{_type_of(tag)}" if tag != OUTSIDE and not _goes_on(before, tag) else tag
        for before, tag in zip([OUTSIDE, *tags], tags, strict=False)
    ]
    return entities_of(mended)


def _goes_on(before: str, tag: str) -> bool:
    return tag.startswith("I-") and before != OUTSIDE and _type_of(before) == _type_of(tag)


def _type_of(tag: str) -> str:
    return tag[2:] if tag[:2] in ("B-", "I-") else tag


def _joined_spans(words: Sequence[str]) -> list[Span]:
    """Return the places of words that are joined by single blanks."""
    spans, start = [], 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


def _entities(rows: Sequence[Sequence[str]]) -> list[list[Entity]]:
    return [entities_of(tags) for tags in rows]


def _item(entity: Entity, scores: Floats, text: str, spans: Sequence[Span]) -> dict[str, Any]:
    kind, first, end_word = entity
    start, end = spans[first][0], spans[end_word - 1][1]
    return {
        "entity": kind,
        "score": float(scores[first:end_word].mean()),
        "word": text[start:end],
        "start": start,
        "end": end,
    }


def _in_words(tags: Sequence[str]) -> str:
    found = [f"{kind} {first + 1}-{end}" for kind, first, end in entities_of(tags)]
    return ", ".join(found) or "(none)"
