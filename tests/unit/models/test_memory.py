"""The end of memory is one line with a way out; other faults pass as they are."""

from __future__ import annotations

import pytest
import torch

from potstill.errors import OutOfMemory
from potstill.models.memory import told_when_memory_ends


def test_an_allocation_that_cannot_be_had_is_told_in_one_line() -> None:
    with (
        pytest.raises(OutOfMemory, match=r"cpu has no memory left.*--batch-tokens"),
        told_when_memory_ends("cpu"),
    ):
        torch.empty(2**60)


def test_python_running_out_is_told_the_same_way() -> None:
    with (
        pytest.raises(OutOfMemory, match="lower it"),
        told_when_memory_ends("cpu", cure="lower it"),
    ):
        raise MemoryError


def test_other_faults_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shapes"), told_when_memory_ends("cpu"):
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "the card"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "the machine"),
        (RuntimeError("MPS backend out of memory"), "the machine"),
        (MemoryError(), "the machine"),
    ],
)
def test_where_no_device_is_named_the_error_tells_it(error: Exception, whose: str) -> None:
    with (
        pytest.raises(OutOfMemory, match=f"^{whose} has no memory left for this run"),
        told_when_memory_ends(None, what="this run"),
    ):
        raise error
