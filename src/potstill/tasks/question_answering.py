"""Question answering: a part of the context that answers the question, or none (SQuAD 1.1, 2.0).

A long context is read in overlapping windows, the question in each. An answer may begin and end at
context tokens only; the first position stands for "no answer here".

Legend: B questions, W windows, N tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec, Pooling
from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.metric import Metric
from potstill.metrics.per_class import ClassScores
from potstill.metrics.squad import AnswerExact, AnswerF1, normalized_answer
from potstill.tasks.task import CUT, WINDOWS, Lengths
from potstill.text.tokenizer import Tokenizer
from potstill.text.windows import Windows, cut_into_windows, whole_rows

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Int64 = NDArray[np.int64]

NAME = "question-answering"
NULL = "null"  # the name of the threshold
_LONGEST_QUESTION = 64  # tokens, as in Devlin et al.'s run_squad.py
_LONGEST_ANSWER = 30  # tokens
_BEST = 20  # candidates of each window
_CONTEXT = 1  # segment


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """The best span of a context, and how it stands against "no answer"."""

    text: str
    start: int  # characters of the context
    end: int
    score: float  # probability among the best spans and "no answer"
    null_margin: float  # logit of "no answer" minus that of the span; +inf: there is no span
    null_score: float  # probability of "no answer" beside the best spans


@dataclass(frozen=True, slots=True)
class QuestionAnswering:
    """Spans of contexts; answers are a `FoundAnswer` a question."""

    may_be_empty: bool = True  # some questions have no answer (SQuAD 2.0)
    chosen_thresholds: Mapping[str, float] = field(default_factory=dict)

    name = NAME
    loss = "spans"
    long_texts = WINDOWS
    labels = ("start", "end")
    metric_names = (
        *("f1", "exact", "has_answer_f1", "has_answer_exact"),
        *("no_answer_f1", "no_answer_exact"),
    )

    @classmethod
    def from_rows(cls, rows: Rows) -> QuestionAnswering:
        """Find out whether some questions have no answer.

        Raises:
            DataError: no question has an answer.
        """
        answered = [bool(answers) for answers in rows.column("answers")]
        if not any(answered):
            raise DataError("no question has an answer", where=rows.source)
        return cls(may_be_empty=not all(answered))

    @property
    def thresholds(self) -> dict[str, float]:
        """Return the margin above which "no answer" wins; none where every question has one."""
        return dict(self.chosen_thresholds)

    def head(self, pooling: Pooling) -> HeadSpec:
        """Return the head that answers this task."""
        del pooling
        return HeadSpec(kind="question-answering", labels=self.labels)

    def windows(self, tokenizer: Tokenizer, rows: Rows, lengths: Lengths) -> Windows:
        """Turn questions and contexts into tokens."""
        questions = [question.strip() for question in rows.column("question")]
        contexts = rows.column("context")
        if lengths.long_texts == CUT:
            limit = lengths.max_length
            return whole_rows(
                tokenizer.encode(questions, contexts, max_length=limit, with_offsets=True)
            )
        return cut_into_windows(
            tokenizer.encode(questions, contexts, with_offsets=True),
            max_length=lengths.max_length,
            overlap=lengths.shared_tokens,
            are_pairs=True,
            max_first=min(_LONGEST_QUESTION, lengths.max_length // 3),
        )

    def readable(self, windows: Windows) -> Bools:
        """Return the context's tokens and each window's first one, (N,)."""
        assert windows.segments is not None, "segments were asked for"
        return np.asarray((windows.segments == _CONTEXT) | (windows.texts.positions() == 0))

    def targets(self, rows: Rows, windows: Windows) -> Int64:
        """Return the places of the answer's first and last token, (W, 2); 0, 0: none here.

        Of several true answers the first is learned.
        """
        starts = [row[0] if row else -1 for row in rows.column("answer_starts")]
        texts = [row[0] if row else "" for row in rows.column("answers")]
        targets = np.zeros((len(windows.texts), 2), dtype=np.int64)
        for window, row in enumerate(windows.rows):
            if starts[row] >= 0:
                start = starts[row] + len(texts[row]) - len(texts[row].lstrip())
                targets[window] = _places(windows, window, start, start + len(texts[row].strip()))
        return targets

    def unknown_targets(self, windows: Windows) -> Int64:
        """Return -1 for both ends of each window."""
        return np.full((len(windows.texts), 2), -1, dtype=np.int64)

    def answers(self, outputs: Floats, windows: Windows, rows: Rows) -> list[FoundAnswer]:
        """Return the best answer to each question over its windows."""
        spans: list[list[_Span]] = [[] for _ in range(windows.row_count)]
        nulls = np.full(windows.row_count, np.inf)
        for window, row in enumerate(windows.rows):
            part = slice(windows.texts.offsets[window], windows.texts.offsets[window + 1])
            logits_L2 = outputs[part].astype(np.float64)
            if len(logits_L2):
                nulls[row] = min(nulls[row], float(logits_L2[0].sum()))
            spans[row].extend(_best_spans(logits_L2, windows, part))
        contexts = rows.column("context")
        return [
            _found(each, null, context, may_be_empty=self.may_be_empty)
            for each, null, context in zip(spans, nulls, contexts, strict=True)
        ]

    def gold(self, rows: Rows) -> list[list[str]]:
        """Return the true answers of each question; none: it has none."""
        return [list(answers) for answers in rows.column("answers")]

    def as_gold(self, answers: list[FoundAnswer]) -> list[list[str]]:
        """Return the answers given."""
        return [[text] if text else [] for text in self._texts(answers)]

    def primary(self, *, has_gold: bool) -> str:
        """Return F1 of words."""
        del has_gold
        return "f1"

    def metric(self, name: str) -> Metric:
        """Return a metric by its name: f1, exact, and both of has_answer_ and no_answer_.

        Raises:
            RecipeError: no such metric.
        """
        if name not in self.metric_names:
            raise RecipeError(f"primary is {name!r}", allowed=", ".join(self.metric_names))
        part, _, kind = name.rpartition("_")
        return (AnswerF1 if kind == "f1" else AnswerExact)(part or "all", name=name)

    def statistics(
        self, metric: Metric, answers: list[FoundAnswer], gold: list[list[str]]
    ) -> Floats:
        """Return the metric's statistics of each question."""
        given: Any = self._texts(answers)
        true: Any = gold
        return metric.statistics(given, true)

    def trivial(self, gold: list[list[str]]) -> tuple[list[FoundAnswer], str]:
        """Return no answer to every question."""
        nothing = FoundAnswer("", 0, 0, 0.0, np.inf, 1.0)
        return [nothing] * len(gold), "no answer"

    def breakdown(self, answers: Any, gold: Any) -> list[ClassScores]:
        """Return nothing: has_answer_ and no_answer_ metrics tell the parts."""
        del answers, gold
        return []

    def same(self, one: list[FoundAnswer], other: list[FoundAnswer]) -> Bools:
        """Tell where both give the same answer, articles, case and punctuation apart."""
        pairs = zip(self._texts(one), self._texts(other), strict=True)
        return np.array(
            [normalized_answer(a) == normalized_answer(b) for a, b in pairs], dtype=bool
        )

    def right(self, answers: list[FoundAnswer], gold: list[list[str]]) -> Bools:
        """Tell where an answer is exactly one of the true ones."""
        sums = self.statistics(self.metric("exact"), answers, gold)
        return np.asarray(sums[:, 0] > 0)

    def sureness(self, answers: list[FoundAnswer]) -> Floats:
        """Return the probability of each answer, or of there being none."""
        return np.array(
            [
                answer.score if text else answer.null_score
                for answer, text in zip(answers, self._texts(answers), strict=True)
            ]
        )

    def shown(self, answers: list[FoundAnswer]) -> list[str]:
        """Return the answers."""
        return [text or "(no answer)" for text in self._texts(answers)]

    def shown_gold(self, rows: Rows) -> list[str]:
        """Return the first true answer of each question."""
        return [answers[0] if answers else "(no answer)" for answers in rows.column("answers")]

    def items(
        self, answers: list[FoundAnswer], rows: Rows, truncated: Bools
    ) -> list[dict[str, Any]]:
        """Return each answer with its exact place: context[start:end] is the answer; "": none."""
        del rows
        return [
            {
                "answer": text,
                "score": answer.score if text else answer.null_score,
                "start": answer.start if text else 0,
                "end": answer.end if text else 0,
                "truncated": bool(is_cut),
            }
            for answer, text, is_cut in zip(answers, self._texts(answers), truncated, strict=True)
        ]

    def fitted(self, answers: list[FoundAnswer], gold: list[list[str]]) -> QuestionAnswering:
        """Return the task with the null threshold of the best F1 on these questions.

        They must be held out of training; the official script's best_f1, chosen on the questions
        that it judges, is too good.
        """
        if not self.may_be_empty:
            return self
        metric = AnswerF1("all", name="f1")
        texts: Any = [answer.text for answer in answers]
        true: Any = gold
        nothing: Any = [""] * len(answers)
        with_span = metric.statistics(texts, true)[:, 0]
        without = metric.statistics(nothing, true)[:, 0]
        margins = np.array([answer.null_margin for answer in answers])
        order = np.argsort(margins, kind="stable")
        ends = margins[order]
        # With the threshold after k answers, these k are given, all others are empty.
        gains = np.concatenate([[0.0], np.cumsum((with_span - without)[order])])
        can_stand = np.concatenate([[True], ends[1:] > ends[:-1], [True]])  # not amid equal ones
        best = int(np.argmax(np.where(can_stand, gains, -np.inf)))
        low = ends[best - 1] if best else ends[0] - 2.0
        high = ends[best] if best < len(ends) else ends[-1] + 2.0
        if not np.isfinite(high):
            high = low + 2.0
        threshold = float((low + high) / 2) if np.isfinite(low) else 0.0
        return replace(self, chosen_thresholds={NULL: threshold})

    def _texts(self, answers: list[FoundAnswer]) -> list[str]:
        """Return each answer, "" where "no answer" wins."""
        threshold = self.chosen_thresholds.get(NULL, 0.0)
        return [
            "" if self.may_be_empty and answer.null_margin > threshold else answer.text
            for answer in answers
        ]


@dataclass(frozen=True, slots=True)
class _Span:
    score: float
    start: int  # characters
    end: int


def _places(windows: Windows, window: int, start: int, end: int) -> tuple[int, int]:
    """Return the places of the tokens that hold the characters, (0, 0) if not all are there."""
    assert windows.spans is not None
    assert windows.segments is not None
    part = slice(windows.texts.offsets[window], windows.texts.offsets[window + 1])
    spans, context = windows.spans[part], np.flatnonzero(windows.segments[part] == _CONTEXT)
    inside = context[(spans[context, 0] < end) & (spans[context, 1] > start)]
    # An answer may begin or end with what no token holds: the window's own ends count.
    if not len(inside) or spans[context[0], 0] > start or spans[context[-1], 1] < end:
        return 0, 0
    return int(inside[0]), int(inside[-1])


def _best_spans(logits_L2: Floats, windows: Windows, part: slice) -> Iterator[_Span]:
    """Yield the best spans of one window, at most so many starts and ends being looked at."""
    assert windows.spans is not None
    assert windows.segments is not None
    context = np.flatnonzero(windows.segments[part] == _CONTEXT)
    if not len(context):
        return
    spans = windows.spans[part]
    starts = context[np.argsort(-logits_L2[context, 0], kind="stable")[:_BEST]]
    ends = context[np.argsort(-logits_L2[context, 1], kind="stable")[:_BEST]]
    fits = (ends[None, :] >= starts[:, None]) & (ends[None, :] - starts[:, None] < _LONGEST_ANSWER)
    scores = np.where(fits, logits_L2[starts, 0][:, None] + logits_L2[ends, 1][None, :], -np.inf)
    for place in np.argsort(-scores, axis=None, kind="stable")[:_BEST]:
        first, last = divmod(int(place), len(ends))
        if np.isfinite(scores[first, last]):
            yield _Span(
                float(scores[first, last]),
                int(spans[starts[first], 0]),
                int(spans[ends[last], 1]),
            )


def _found(spans: list[_Span], null: float, context: str, *, may_be_empty: bool) -> FoundAnswer:
    """Return the best span with its probability among all candidates."""
    # The same characters may stand in two windows: the better reading counts, once.
    best_of: dict[tuple[int, int], float] = {}
    for span in sorted(spans, key=lambda span: -span.score):
        if context[span.start : span.end].strip():
            best_of.setdefault((span.start, span.end), span.score)
    ranked = list(best_of.items())[:_BEST]
    if not ranked:
        return FoundAnswer("", 0, 0, 0.0, np.inf, 1.0)
    (start, end), score = ranked[0]
    scores = np.array([each for _, each in ranked] + ([null] if may_be_empty else []))
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    return FoundAnswer(
        text=context[start:end],
        start=start,
        end=end,
        score=float(shares[0]),
        null_margin=null - score,
        null_score=float(shares[-1]) if may_be_empty else 0.0,
    )
