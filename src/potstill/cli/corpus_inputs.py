"""From flags to what a training on texts reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from potstill.errors import InputError

if TYPE_CHECKING:
    from potstill.workflows.general_distill import GeneralInputs
    from potstill.workflows.passages import CorpusSources


def corpus_sources(
    files: list[str],
    *,
    text_column: str,
    evaluation: list[str] | None,
    probe: list[str] | None,
    corpus_folder: Path | None,
) -> CorpusSources:
    """Return where texts come from."""
    from potstill.workflows.passages import CorpusSources

    return CorpusSources(
        files=files,
        folder=corpus_folder,
        column=text_column,
        evaluation=evaluation or (),
        probes=probe or (),
    )


def general_inputs(
    teachers: list[str],
    corpus: CorpusSources,
    signals_folder: Path | None = None,
    *,
    allow_pickle: bool,
) -> GeneralInputs:
    """Return what a general distillation reads.

    Raises:
        InputError: not one teacher.
    """
    from potstill.workflows.general_distill import GeneralInputs

    if len(teachers) != 1:
        raise InputError(f"there are {len(teachers)} teachers", where="--teacher", allowed="one")
    return GeneralInputs(
        teacher=teachers[0],
        corpus=corpus,
        signals_folder=signals_folder,
        allow_pickle=allow_pickle,
    )
