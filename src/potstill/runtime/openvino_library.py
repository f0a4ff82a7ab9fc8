"""OpenVINO, imported without what it would bring along.

Its package loads a converter of other formats, and with it a telemetry client, whether or not they
are wanted. It is written to do without them: so they are kept out, which also halves its start.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potstill.errors import MissingExtraError, StorageError

_KEPT_OUT = ("openvino.tools.ovc", "openvino_telemetry")
_COUNTED = re.compile(r"\b([A-Z][A-Za-z0-9]*)_\d+")
_LOADING = threading.RLock()  # for whoever finds the module half made


def openvino(needed_for: str) -> Any:
    """Return the module `openvino`.

    Raises:
        MissingExtraError: it is not installed.
    """
    with _LOADING:
        is_new = "openvino" not in sys.modules
        try:
            with without_telemetry() if is_new else contextlib.nullcontext():
                import openvino as found  # where another thread imports it, this waits for it
        except ModuleNotFoundError as error:
            raise MissingExtraError("openvino", extra="cpu", needed_for=needed_for) from error
    return found


def save_graph(graph: Any, file: Path) -> None:
    """Write a graph, its numbers as they are, and its .bin beside it.

    The same graph gives the same bytes, whatever the process made before.

    Raises:
        StorageError: the disk is full.
    """
    _number_names(graph)
    try:
        openvino("writing a graph").save_model(graph, str(file), compress_to_fp16=False)
    except RuntimeError as error:
        if "iostream" not in str(error):  # it tells no more of a write that failed
            raise
        raise StorageError(
            "OpenVINO could not write the graph",
            where=str(file),
            cure="free some space and run the same command again",
        ) from error


def _number_names(graph: Any) -> None:
    """Count in the graph what OpenVINO named by a count over the process ("Add_15183")."""
    counted: dict[str, str] = {}

    def renamed(found: re.Match[str]) -> str:
        return counted.setdefault(found[0], f"{found[1]}_{len(counted)}")

    for node in graph.get_ordered_ops():
        node.set_friendly_name(_COUNTED.sub(renamed, node.get_friendly_name()))


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Keep the converter and the telemetry client out of what is imported meanwhile."""
    kept_out = [name for name in _KEPT_OUT if name not in sys.modules]
    sys.modules |= dict.fromkeys(kept_out)  # type: ignore[arg-type] # None: "there is no such"
    try:
        yield
    finally:
        for name in kept_out:
            del sys.modules[name]
