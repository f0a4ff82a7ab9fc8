"""The machine's facts that stand beside every stored result."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from potstill.hardware import cpu_flags, cpu_name, usable_threads
from potstill.version import __version__

RESULTS = Path(__file__).parent / "results"
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_TOLD_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_TOLD_PACKAGES = (
    *("potstill", "torch", "transformers", "tokenizers", "numpy"),
    *("openvino", "nncf", "onnxruntime"),
)


def machine_facts() -> dict[str, Any]:
    """Return processor, threads, versions, commit and date."""
    return {
        "processor": cpu_name(),
        "flags": [flag for flag in _TOLD_FLAGS if flag in cpu_flags()],
        "threads": usable_threads(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _TOLD_PACKAGES},
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def store(name: str, result: dict[str, Any]) -> None:
    """Print a result as one JSON line and keep it under `results/`."""
    told = {"benchmark": name, "machine": machine_facts(), **result}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told))


def _version(name: str) -> str | None:
    if name == "potstill":  # run from the sources alone, not installed
        return __version__
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"
