"""How much of a labelling can be read off frozen vectors by one linear map.

Legend: R rows, D dimensions, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_PENALTY = 10.0  # of the squared weights, on dimensions of mean 0 and deviation 1


def linear_probe_accuracy(
    vectors_RD: Floats, labels: Sequence[str], judged_R: NDArray[np.bool_]
) -> float:
    """Fit a linear map on some rows and return the accuracy of its answers on the others.

    Least squares onto one column a class, with a ridge penalty: it has one solution, found at once,
    so that two models, or two moments of a run, differ by their vectors alone.

    Args:
        vectors_RD: one vector a row.
        labels: R classes.
        judged_R: rows that are answered; all others are learned from.

    Source: Alain, Bengio 2016, arXiv 1610.01644 (linear probes); Rifkin et al. 2003, "Regularized
    least-squares classification".
    """
    assert judged_R.any(), "there is nothing to answer"
    assert not judged_R.all(), "there is nothing to learn from"
    classes, numbers_R = np.unique(np.asarray(labels), return_inverse=True)
    known_RD = vectors_RD[~judged_R].astype(np.float64)
    center_D, scale_D = known_RD.mean(axis=0), known_RD.std(axis=0) + 1e-6
    known_RD = (known_RD - center_D) / scale_D
    targets_RC = np.eye(len(classes))[numbers_R[~judged_R]]
    means_C = targets_RC.mean(axis=0)
    gram_DD = known_RD.T @ known_RD + _PENALTY * np.eye(known_RD.shape[1])
    weights_DC = np.linalg.solve(gram_DD, known_RD.T @ (targets_RC - means_C))
    asked_RD = (vectors_RD[judged_R] - center_D) / scale_D
    answers_R = (asked_RD @ weights_DC + means_C).argmax(axis=1)
    return float((answers_R == numbers_R[judged_R]).mean())
