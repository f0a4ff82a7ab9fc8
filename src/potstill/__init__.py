"""potstill: a BERT-family model that is too big, made small, with proof of what was lost.

Names are loaded when they are first used, so that `import potstill` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from potstill.errors import PotstillError
from potstill.version import __version__

if TYPE_CHECKING:
    from potstill.report import Report
    from potstill.runtime.model import Model, load
    from potstill.verbs import (
        compare,
        distill,
        evaluate,
        export,
        finetune,
        forecast,
        info,
        quantize,
        shrink,
        tune,
    )

_HOMES = {
    "Model": "potstill.runtime.model",
    "Report": "potstill.report",
    "compare": "potstill.verbs",
    "distill": "potstill.verbs",
    "evaluate": "potstill.verbs",
    "export": "potstill.verbs",
    "finetune": "potstill.verbs",
    "forecast": "potstill.verbs",
    "info": "potstill.verbs",
    "load": "potstill.runtime.model",
    "quantize": "potstill.verbs",
    "shrink": "potstill.verbs",
    "tune": "potstill.verbs",
}

__all__ = [
    "Model",
    "PotstillError",
    "Report",
    "__version__",
    "compare",
    "distill",
    "evaluate",
    "export",
    "finetune",
    "forecast",
    "info",
    "load",
    "quantize",
    "shrink",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home at first use."""
    if name == "models":  # the networks, where torch is wanted
        return importlib.import_module("potstill.models")
    if name not in _HOMES:
        raise AttributeError(f"module 'potstill' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
