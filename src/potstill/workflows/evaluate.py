"""`evaluate`: what a model is worth on labelled rows, with intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from potstill.data.columns import Columns, count_empty_texts, select_columns
from potstill.data.readers import read_rows
from potstill.errors import InputError
from potstill.runtime.model import load
from potstill.tasks.classification import Classification
from potstill.tasks.evaluation import Evaluation, evaluate_classification


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """How rows are read and the model is run."""

    primary: str | None = None  # None: the bundle's own, else accuracy
    columns: Columns = field(default_factory=Columns)
    max_length: int | None = None  # tokens; None: what the folder says
    engine: str = "torch"
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    seed: int = 0  # of the resamples
    allow_pickle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedModel:
    """A model's name and what was found."""

    model: str
    evaluation: Evaluation
    warnings: list[str]
    precision: str

    def to_json(self) -> dict[str, Any]:
        """Return the answer of `evaluate --json`."""
        found = self.evaluation.to_json()
        warnings = [*self.warnings, *found.pop("warnings")]
        return {"model": self.model, **found, "precision": self.precision, "warnings": warnings}


def evaluate(model: str | Path, test: object, options: EvaluateOptions) -> EvaluatedModel:
    """Answer all rows and judge the answers.

    Raises:
        InputError: no classification head, wrong rows, a label that the model does not have.
    """
    loaded = load(
        model,
        engine=options.engine,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        max_length=options.max_length,
        allow_pickle=options.allow_pickle,
    )
    if loaded.task != "classification":
        raise InputError(
            f"the task of this model is {loaded.task or 'none (a bare encoder)'}",
            where=str(model),
            allowed="evaluate judges classification",
            cure="fine-tune it first (potstill finetune)",
        )
    rows = select_columns(read_rows(test), options.columns, required=("text", "label"), optional=())
    task = Classification(loaded.labels)
    targets_B = task.targets(rows)
    manifest = loaded.folder.manifest
    primary = options.primary or (manifest.primary if manifest else None) or "accuracy"
    task.metric(primary)
    encoded = loaded.encode(rows.column("text"))
    logits_BC = loaded.engine.run(encoded.batch)["logits"]
    warnings = []
    cut = int(np.count_nonzero(encoded.truncated))
    if cut:
        warnings.append(f"{cut} of {len(rows)} texts were cut at {loaded.max_length} tokens")
    empty = count_empty_texts(rows)
    if empty:
        warnings.append(f"{empty} of {len(rows)} texts are empty")
    return EvaluatedModel(
        model=str(model),
        evaluation=evaluate_classification(
            task, logits_BC, targets_B, primary=primary, seed=options.seed
        ),
        warnings=warnings,
        precision=loaded.engine.precision,
    )
