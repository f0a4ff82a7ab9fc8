"""`evaluate`: what a model is worth on labelled rows, with intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from potstill.data.columns import Columns
from potstill.data.retrieval import read_retrieval
from potstill.errors import RecipeError
from potstill.metrics.bootstrap import Drawn
from potstill.recipe import require_choice
from potstill.runtime.model import Model, load
from potstill.search.vector_forms import FORMS
from potstill.tasks import reading
from potstill.tasks.embedding import Embedding
from potstill.tasks.evaluation import (
    Evaluation,
    evaluate_answers,
    is_metric_of_rows,
    require_value,
    warnings_of_few,
)
from potstill.workflows.retrieval import METRICS, USUAL_METRIC, StoredAs, judge_retrieval
from potstill.workflows.task_rows import text_warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """How rows are read and the model is run."""

    primary: str | None = None  # None: the bundle's own, else accuracy
    columns: Columns = field(default_factory=Columns)
    max_length: int | None = None  # tokens; None: what the folder says
    engine: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    seed: int = 0  # of the resamples
    index: str | Path | None = None  # of retrieval: the model of the documents; None: the same
    dimensions: int | None = None  # of retrieval: the first so many of each vector; None: all
    form: str = "float32"  # of retrieval: how the documents' vectors are kept
    allow_pickle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedModel:
    """A model's name and what was found."""

    model: str
    evaluation: Evaluation
    warnings: list[str]
    engine: str
    precision: str
    engine_reason: str  # why this engine answered

    def to_json(self) -> dict[str, Any]:
        """Return the answer of `evaluate --json`."""
        found = self.evaluation.to_json()
        warnings = [*self.warnings, *found.pop("warnings")]
        how = {
            "engine": self.engine,
            "precision": self.precision,
            "engine_reason": self.engine_reason,
        }
        return {"model": self.model, **found, **how, "warnings": warnings}


def evaluate(model: str | Path, test: object, options: EvaluateOptions) -> EvaluatedModel:
    """Answer all rows and judge the answers.

    Raises:
        InputError: no task head, wrong rows, a label that the model does not have.
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
    task = loaded.answered_task
    if task.name == Embedding.name and isinstance(test, str | Path) and Path(test).is_dir():
        return _evaluate_retrieval(loaded, str(model), Path(test), options)
    _require_no_index(options, str(test))
    rows = reading.labelled(task.name, test, options.columns)
    gold = task.gold(rows)
    manifest = loaded.folder.manifest
    primary = options.primary or (manifest.primary if manifest else None)
    if options.primary is None and not is_metric_of_rows(task, primary):
        primary = task.primary(has_gold=True)
    assert primary is not None, "every task has a metric"
    task.metric(primary)
    require_value(task, primary, gold, source=rows.source)
    answered = loaded.answer(rows)
    return EvaluatedModel(
        model=str(model),
        evaluation=evaluate_answers(
            task, answered.answers, gold, rows=len(rows), primary=primary, seed=options.seed
        ),
        warnings=[
            *loaded.folder.warnings(),
            *text_warnings(rows, answered.windows, loaded.lengths),
        ],
        engine=loaded.engine.name,
        precision=loaded.engine.precision,
        engine_reason=loaded.engine.reason,
    )


def _require_no_index(options: EvaluateOptions, test: str) -> None:
    """Refuse what would change nothing where no document is searched for."""
    usual = EvaluateOptions()
    for name in ("index", "dimensions", "form"):
        if getattr(options, name) != getattr(usual, name):
            raise RecipeError(
                f"{name} is {getattr(options, name)!r}, and {test:.80} is no retrieval set",
                where=f"--{name}",
                allowed="a model of vectors, and --test with a folder of corpus.jsonl, "
                "queries.jsonl and qrels.tsv",
                cure=f"leave --{name} out",
            )


def _evaluate_retrieval(
    loaded: Model, name: str, folder: Path, options: EvaluateOptions
) -> EvaluatedModel:
    """Judge vectors by the documents that they find; the trivial answer is BM25's."""
    require_choice("form", options.form, FORMS)
    primary = options.primary or USUAL_METRIC
    require_choice("primary", primary, METRICS)
    retrieval = read_retrieval(folder)
    documents, model_warnings = None, loaded.folder.warnings()
    if options.index is not None:
        documents = load(
            options.index,
            engine=options.engine,
            device=options.device,
            precision=options.precision,
            threads=options.threads,
            allow_pickle=options.allow_pickle,
        )
        model_warnings += (f"--index: {warning}" for warning in documents.folder.warnings())
    form: Any = options.form
    found = judge_retrieval(
        loaded,
        retrieval,
        documents=documents,
        stored=StoredAs(form=form, dimensions=options.dimensions),
        seed=options.seed,
    )
    drawn = Drawn(len(retrieval.queries) - retrieval.unjudged, "queries")
    warnings = warnings_of_few(drawn)
    if retrieval.unjudged:
        warnings.append(
            f"{retrieval.unjudged} of {len(retrieval.queries)} queries have no relevant document "
            "and are left out"
        )
    return EvaluatedModel(
        model=name,
        evaluation=Evaluation(
            examples=drawn.count,
            metrics=found.intervals(),
            primary=primary,
            majority_label="BM25",
            majority=found.lexical_values(),
            per_class=[],
            warnings=warnings,
            drawn=drawn,
        ),
        warnings=model_warnings,
        engine=loaded.engine.name,
        precision=loaded.engine.precision,
        engine_reason=loaded.engine.reason,
    )
