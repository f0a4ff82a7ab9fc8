"""Embedding: a vector a text, near to those of texts that mean the same.

Rows of one text have vectors; rows of two texts and a number (sentence similarity) are judged by
the cosine of the two vectors.

Legend: B rows, W texts, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.heads import HeadSpec, Pooling
from potstill.data.rows import Rows
from potstill.errors import DataError, RecipeError
from potstill.metrics.correlation import Pearson, Spearman
from potstill.metrics.cosine import MeanCosine
from potstill.metrics.metric import Metric
from potstill.metrics.per_class import ClassScores
from potstill.tasks.task import Lengths, OfWholeTexts
from potstill.text.ragged import concatenate
from potstill.text.tokenizer import Tokenizer
from potstill.text.windows import Windows, whole_rows

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

NAME = "embedding"
_NEAR = 0.05  # cosines nearer than this count as the same


@dataclass(frozen=True, slots=True)
class Embedding(OfWholeTexts):
    """Vectors; answers are vectors, (B, D), or of pairs their cosines, (B,)."""

    spec: HeadSpec = field(default_factory=lambda: HeadSpec(kind="embedding", pooling="mean"))

    name = NAME
    loss = "vectors"
    labels: tuple[str, ...] = ()
    metric_names = ("spearman", "pearson")

    @classmethod
    def from_rows(cls, rows: Rows) -> Embedding:
        """Check that pairs have numbers to learn from.

        Raises:
            DataError: no second texts, no numbers, or all the same.
        """
        if "text_pair" not in rows or "label" not in rows:
            raise DataError(
                "vectors are fine-tuned on pairs with a number that says how alike they are",
                where=rows.source,
                allowed="the columns text, text_pair and label",
                cure="to learn from a teacher instead, on texts alone: potstill distill",
            )
        if len(set(rows.column("label"))) < 2:
            raise DataError("all numbers are the same", where=f"{rows.source}, field 'label'")
        return cls()

    def likeness(self, rows: Rows) -> NDArray[np.float32]:
        """Return each pair's number, brought to 0 (the least of these rows) to 1, (B,)."""
        numbers = self.gold(rows)
        least, span = numbers.min(), float(np.ptp(numbers)) or 1.0
        return np.asarray((numbers - least) / span, dtype=np.float32)

    def head(self, pooling: Pooling) -> HeadSpec:
        """Return how hidden states become a vector."""
        del pooling
        return self.spec

    def windows(self, tokenizer: Tokenizer, rows: Rows, lengths: Lengths) -> Windows:
        """Turn texts into tokens; of pairs all first texts, then all second ones."""
        limit = lengths.max_length
        first = tokenizer.encode(rows.column("text"), max_length=limit)
        if "text_pair" not in rows:
            return whole_rows(first)
        second = tokenizer.encode(rows.column("text_pair"), max_length=limit)
        numbers = np.arange(len(rows), dtype=np.int64)
        return Windows(
            texts=concatenate([first.batch, second.batch]),
            rows=np.concatenate([numbers, numbers]),
            row_count=len(rows),
            truncated=first.truncated | second.truncated,
            dropped_tokens=int(first.dropped_tokens.sum() + second.dropped_tokens.sum()),
        )

    def targets(self, rows: Rows, windows: Windows) -> Floats:
        """Return nan for each text: only a teacher says where a vector lies."""
        del rows
        return self.unknown_targets(windows)

    def unknown_targets(self, windows: Windows) -> Floats:
        """Return nan for each text."""
        return np.full((len(windows.texts), 1), np.nan, dtype=np.float32)

    def answers(self, outputs: Floats, windows: Windows, rows: Rows) -> Floats:
        """Return vectors, or the cosine of each pair."""
        del windows
        if "text_pair" not in rows:
            return outputs
        return cosines(outputs[: len(rows)], outputs[len(rows) :])

    def gold(self, rows: Rows) -> Floats:
        """Return each pair's number, (B,).

        Raises:
            DataError: texts alone, which nothing but a teacher can judge.
        """
        if "label" not in rows:
            raise DataError(
                "there are no pairs of texts with a number to judge vectors by",
                where=rows.source,
                allowed="the columns text, text_pair and label",
                cure="name yours with --text-column, --text-pair-column and --label-column",
            )
        return np.asarray(rows.column("label"), dtype=np.float64)

    def as_gold(self, answers: Floats) -> Floats:
        """Return the vectors or cosines."""
        return answers

    def primary(self, *, has_gold: bool) -> str:
        """Return Spearman's correlation; without numbers the mean cosine to the teacher."""
        return "spearman" if has_gold else "cosine"

    def metric(self, name: str) -> Metric:
        """Return spearman or pearson of pairs with numbers, or cosine to other vectors.

        Raises:
            RecipeError: no such metric.
        """
        known: dict[str, Metric] = {
            "spearman": Spearman(),
            "pearson": Pearson(),
            "cosine": MeanCosine(),
        }
        if name not in known:
            raise RecipeError(f"primary is {name!r}", allowed=", ".join(known))
        return known[name]

    def statistics(self, metric: Metric, answers: Floats, gold: Floats) -> Floats:
        """Return the metric's statistics of each row."""
        return metric.statistics(answers, gold)

    def trivial(self, gold: Floats) -> tuple[Floats, str]:
        """Return one cosine for all pairs."""
        return np.zeros(len(gold)), "one vector for all"

    def breakdown(self, answers: Floats, gold: Floats) -> list[ClassScores]:
        """Return nothing: vectors have no classes."""
        del answers, gold
        return []

    def same(self, one: Floats, other: Floats) -> Bools:
        """Tell where the cosines are nearly the same."""
        return np.asarray(np.abs(one - other) <= _NEAR)

    def right(self, answers: Floats, gold: Floats) -> Bools:
        """Tell where a pair's place among all is within a tenth of the true one."""
        places = [
            np.argsort(np.argsort(values)) / max(len(values), 1) for values in (answers, gold)
        ]
        return np.asarray(np.abs(places[0] - places[1]) <= 2 * _NEAR)

    def sureness(self, answers: Floats) -> Floats:
        """Return 1 for each: a vector alone does not tell how sure it is."""
        return np.ones(len(answers))

    def shown(self, answers: Floats) -> list[str]:
        """Return the cosines."""
        return [f"{answer:.3f}" for answer in answers]

    def shown_gold(self, rows: Rows) -> list[str]:
        """Return each pair's number."""
        return [f"{number:g}" for number in rows.column("label")]

    def items(self, answers: Floats, rows: Rows, truncated: Bools) -> list[dict[str, Any]]:
        """Return each text's vector, or each pair's cosine."""
        name = "score" if "text_pair" in rows else "embedding"
        return [
            {name: answer.tolist(), "truncated": bool(is_cut)}
            for answer, is_cut in zip(answers, truncated, strict=True)
        ]


def cosines(one_BD: Floats, other_BD: Floats) -> Floats:
    """Return the cosine of each pair of vectors, (B,); 0 where one has no length."""
    products = (one_BD.astype(np.float64) * other_BD).sum(axis=-1)
    lengths = np.linalg.norm(one_BD, axis=-1) * np.linalg.norm(other_BD, axis=-1)
    empty = np.zeros(len(products))
    return np.asarray(np.divide(products, lengths, out=empty, where=lengths > 0))
