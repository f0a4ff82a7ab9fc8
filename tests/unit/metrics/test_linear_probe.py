"""A linear probe: what it reads off, equal to scikit-learn's ridge, blind to scale and shift."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from potstill.metrics.linear_probe import linear_probe_accuracy


def rows(seed: int = 0, classes: int = 3, count: int = 120) -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(seed)
    numbers = random.integers(classes, size=count)
    vectors = random.normal(size=(count, 8)) + 0.7 * np.eye(8)[numbers]
    return vectors, [f"class {number}" for number in numbers]


JUDGED = np.arange(120) % 3 == 0


@pytest.mark.parametrize("seed", range(5))
def test_it_answers_as_scikit_learns_ridge(seed: int) -> None:
    vectors, labels = rows(seed)
    scaler = StandardScaler().fit(vectors[~JUDGED])
    names = sorted(set(labels))
    targets = np.array([[float(label == name) for name in names] for label in labels])
    ridge = Ridge(alpha=10.0).fit(scaler.transform(vectors[~JUDGED]), targets[~JUDGED])
    answers = ridge.predict(scaler.transform(vectors[JUDGED])).argmax(1)
    right = [names[answer] for answer in answers] == np.array(labels)[JUDGED]
    assert linear_probe_accuracy(vectors, labels, JUDGED) == pytest.approx(float(right.mean()))


def test_classes_that_a_line_parts_are_all_found_and_noise_is_not() -> None:
    _, labels = rows()
    clear = np.eye(8)[[int(label[-1]) for label in labels]]
    assert linear_probe_accuracy(clear, labels, JUDGED) == 1.0
    noise = np.random.default_rng(1).normal(size=(120, 8))
    assert linear_probe_accuracy(noise, labels, JUDGED) < 0.6


def test_scale_and_shift_of_a_dimension_change_nothing() -> None:
    vectors, labels = rows()
    moved = vectors * np.geomspace(0.1, 100, 8) + np.arange(8)
    assert linear_probe_accuracy(vectors, labels, JUDGED) == linear_probe_accuracy(
        moved, labels, JUDGED
    )


def test_a_dimension_that_never_moves_is_harmless() -> None:
    vectors, labels = rows()
    vectors[:, 2] = 5.0
    assert np.isfinite(linear_probe_accuracy(vectors, labels, JUDGED))
