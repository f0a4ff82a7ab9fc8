"""Runs on a corpus as library calls: plain values in, the objects of a workflow made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.errors import InputError
from potstill.report import Report
from potstill.workflows.corpus_recipe import with_meant_settings
from potstill.workflows.general_distill import GeneralInputs, distill_general
from potstill.workflows.general_recipe import GeneralRecipe
from potstill.workflows.masked_lm import MaskedLMInputs, MaskedLMRecipe, train_masked_lm
from potstill.workflows.passages import CorpusSources


def corpus_sources(
    files: Any,
    labelled: tuple[Sequence[Any], Sequence[Any]],
    folder: str | Path | None,
    columns: dict[str, Any],
) -> CorpusSources:
    """Return where texts come from, and the rows (of evaluation, of probes) beside them.

    Raises:
        InputError: a column that no text has.
    """
    for name in columns.keys() - {"text"}:
        raise InputError(f"{name}_column means nothing for a corpus", cure="leave it out")
    return CorpusSources(
        files=[files] if isinstance(files, str | Path) else list(files),
        folder=None if folder is None else Path(folder),
        column=columns.get("text", "text"),
        evaluation=labelled[0],
        probes=labelled[1],
    )


def finetune_on_corpus(
    model: str | Path,
    sources: CorpusSources,
    settings: dict[str, Any],
    out: Path,
    how: dict[str, Any],
) -> Report:
    """Train a masked-LM model."""
    settings = {name: value for name, value in settings.items() if name != "task"}
    recipe = with_meant_settings(MaskedLMRecipe(), settings, where="potstill.finetune")
    inputs = MaskedLMInputs(model=model, corpus=sources, allow_pickle=how.pop("allow_pickle"))
    return train_masked_lm(inputs, recipe, out=out, **how)


def distill_on_corpus(
    teacher: str | Path | Sequence[str | Path],
    sources: CorpusSources,
    settings: dict[str, Any],
    out: Path,
    how: dict[str, Any],
) -> Report:
    """Distil a masked-LM model.

    Raises:
        InputError: several teachers.
    """
    if not isinstance(teacher, str | Path):
        raise InputError("a corpus has one teacher", allowed="a folder or hub:NAME")
    recipe = with_meant_settings(GeneralRecipe(), settings, where="potstill.distill")
    named = {name: how.pop(name) for name in ("allow_pickle", "signals_folder")}
    inputs = GeneralInputs(teacher=teacher, corpus=sources, **named)
    return distill_general(inputs, recipe, out=out, **how)
