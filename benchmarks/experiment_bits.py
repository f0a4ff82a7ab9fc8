"""How near int4 and int8 come to fp32, by the settings that NNCF offers.

all-MiniLM-L6-v2, fitted to 300 texts of stsb's training rows, gives the vectors of 300 of its test
texts: squares of differences from fp32 over squares, and cosines. int4 by groups, shifts, scales by
texts and GPTQ; int8 by SmoothQuant's alpha, weights in half their range and in the full one.

    python benchmarks/experiment_bits.py
"""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from facts import SHARED_DATA, store

from potstill.bundle.folder import open_folder
from potstill.compress.nncf_library import nncf
from potstill.compress.quantized_tables import scale_taken_rows
from potstill.compress.quantizer import output_error
from potstill.runtime.graph import POOLING, UNIT_LENGTH
from potstill.workflows.demo import packaged_model
from potstill.workflows.quantize import QuantizeOptions, _Run

FITTED: dict[str, dict[str, bool]] = {
    "rounded": {},
    "scales by texts": {"scale_estimation": True},
    "gptq": {"gptq": True},
}
INT4 = [  # mode, inputs of a group, how it is fitted
    ("INT4_SYM", 64, "rounded"),
    ("INT4_SYM", 32, "rounded"),
    ("INT4_ASYM", 32, "rounded"),
    ("INT4_SYM", 32, "scales by texts"),
    ("INT4_SYM", 64, "gptq"),
    ("INT4_SYM", 32, "gptq"),
    ("INT4_ASYM", 32, "gptq"),
]
ALPHAS = (0.95, 0.9, 0.8, 0.7, 0.6)


def main() -> None:
    run, test = read("train"), read("dev")
    library, calls = nncf(), run.calls
    scope = library.IgnoredScope(names=[POOLING, UNIT_LENGTH], validate=False)
    sides = []

    def told(small: Any, began: float, **settings: Any) -> None:
        seconds = round(time.perf_counter() - began, 1)
        error, cosines = output_error(run.quantizer, small, test.calls), near(run, small, test)
        found = {"mean": float(cosines.mean()), "least": float(cosines.min())}
        sides.append({**settings, "off": error, **found, "seconds": seconds})

    for mode, group, fitted in INT4:
        began = time.perf_counter()
        texts = {"dataset": library.Dataset(list(calls)), "subset_size": len(calls)}
        with contextlib.redirect_stdout(io.StringIO()):
            small = library.compress_weights(
                run.quantizer.graph.clone(),
                mode=getattr(library.CompressWeightsMode, mode),
                group_size=group,
                ratio=1.0,
                all_layers=True,
                ignored_scope=scope,
                **FITTED[fitted],
                **(texts if FITTED[fitted] else {}),
            )
        told(small, began, mode=mode, group=group, fitted=fitted)
    for fix in ("ENABLE", "DISABLE"):
        for alpha in ALPHAS:
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                small = library.quantize(
                    run.quantizer.graph.clone(),
                    library.Dataset(list(calls)),
                    model_type=library.ModelType.TRANSFORMER,
                    subset_size=len(calls),
                    ignored_scope=scope,
                    advanced_parameters=library.AdvancedQuantizationParameters(
                        overflow_fix=getattr(library.OverflowFix, fix),
                        smooth_quant_alphas=library.AdvancedSmoothQuantParameters(matmul=alpha),
                    ),
                )
            scale_taken_rows(small)
            told(small, began, mode="INT8", half_range=fix == "ENABLE", alpha=alpha)
    store("bits", {"sides": sides})


def read(rows: str) -> _Run:
    """Return the model's graph and 300 texts as its calls."""
    options = QuantizeOptions(calibration=SHARED_DATA / "stsb" / f"{rows}.jsonl")
    return _Run(open_folder(Path(packaged_model())), options, Path(), print)


def near(run: _Run, small: Any, test: _Run) -> Any:
    """Return the cosine of each vector to fp32's."""
    exact, rough = (
        np.concatenate([each.reshape(-1, each.shape[-1]) for each in found])
        for found in (
            run.quantizer.outputs(run.quantizer.graph, test.calls),
            run.quantizer.outputs(small, test.calls),
        )
    )
    lengths = np.linalg.norm(exact, axis=-1) * np.linalg.norm(rough, axis=-1)
    return ((exact * rough).sum(axis=-1) / np.maximum(lengths, 1e-9))[lengths > 0.5]  # no padding


if __name__ == "__main__":
    main()
