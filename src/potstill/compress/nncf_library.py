"""NNCF, imported with its telemetry off."""

from __future__ import annotations

import os
from typing import Any

from potstill.errors import MissingExtraError
from potstill.runtime.openvino_library import openvino, without_telemetry

_OFF = "NNCF_CI"  # a variable by which its makers keep their own machines out of their statistics


def nncf() -> Any:
    """Return the module `nncf`.

    Raises:
        MissingExtraError: it is not installed.
    """
    openvino("quantizing")
    os.environ.setdefault(_OFF, "1")
    with without_telemetry():
        try:
            import nncf as found
        except ModuleNotFoundError as error:
            if error.name != "nncf":
                raise
            raise MissingExtraError("nncf", extra="quantize", needed_for="quantizing") from error
    import logging

    found.set_log_level(logging.ERROR)
    return found
