"""The weights of a model folder by our names, one after another: what every engine is built of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.architectures.counting import weight_shapes
from potstill.architectures.heads import HeadSpec
from potstill.architectures.names import VECTOR_MAP
from potstill.architectures.reading import ReadingPlan
from potstill.bundle.folder import ModelFolder
from potstill.bundle.weights import read_tensors, require_finite
from potstill.errors import ModelError

Named = Iterator[tuple[str, NDArray[Any]]]


def answering_plan(folder: ModelFolder) -> ReadingPlan:
    """Return what to read for the folder's encoder and the head that gives its outputs.

    Raises:
        ModelError: missing or misshapen weights, told together.
    """
    folder.require_complete()
    head = folder.answering_head
    return folder.plan if head == folder.head else folder.plan_with(head)


def read_named(folder: ModelFolder, plan: ReadingPlan, *, without_head: bool = False) -> Named:
    """Give (our name, array) of each weight that the folder holds of a plan, as it is stored.

    Raises:
        ModelError: a weight holds what is no finite number.
    """
    ours_of = {
        stored: ours
        for ours, stored in plan.sources.items()
        if not (without_head and ours.startswith("head."))
    }
    for stored, array in read_tensors(folder.weights, list(ours_of)):
        require_finite(array, stored, folder.weights)
        yield ours_of[stored], array


def read_vector_map(folder: ModelFolder, head: HeadSpec) -> Named:
    """Give the dense map of a sentence-transformers folder, which has a file of its own.

    Raises:
        ModelError: its shape is not what the folder declares, or a number is not finite.
    """
    if folder.vector_map is None:
        return
    shapes = weight_shapes(folder.config, head)
    for ours, theirs in VECTOR_MAP.items():
        for stored, array in read_tensors(folder.vector_map, [theirs]):
            require_finite(array, stored, folder.vector_map)
            if array.shape != shapes[ours]:
                raise ModelError(
                    f"{stored} has shape {array.shape}, config.json asks for {shapes[ours]}",
                    where=str(folder.vector_map.files[0]),
                )
            yield ours, array


def require_equal_copies(
    folder: ModelFolder, plan: ReadingPlan, weight_of: Callable[[str], NDArray[Any]]
) -> None:
    """Refuse a second spelling that says something else: which one was trained is unknown.

    Args:
        folder: where both are stored.
        plan: tells what is stored twice.
        weight_of: the weight of ours that was read, in fp32.
    """
    for stored, array in read_tensors(folder.weights, list(plan.copies)):
        ours = plan.copies[stored]
        if not np.array_equal(array.astype(np.float32), weight_of(ours)):
            raise ModelError(
                f"{stored} differs from {plan.sources[ours]}, with which it is tied",
                where=str(folder.path),
                allowed="a decoder tied to the word table, and one bias",
                cure="use the bare encoder: remove architectures and the head from a copy",
            )


def fp32_weights(folder: ModelFolder) -> dict[str, NDArray[np.float32]]:
    """Return all weights of the folder's model in fp32.

    Raises:
        ModelError: missing or misshapen weights, told together, or tied ones that differ.
    """
    plan = answering_plan(folder)
    found = {name: array.astype(np.float32, copy=False) for name, array in read_named(folder, plan)}
    for name, array in read_vector_map(folder, folder.answering_head):
        found[name] = array.astype(np.float32, copy=False)
    require_equal_copies(folder, plan, found.__getitem__)
    return found
