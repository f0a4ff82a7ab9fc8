"""Which stored tensor becomes which weight: the name table applied to what a checkpoint holds.

Stored names are first brought to the present form (legacy endings, the family's prefix, second
spellings); then each weight needs one, and what is left over is known to be ignorable or told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from potstill.architectures.config import EncoderConfig, Family
from potstill.architectures.heads import HeadSpec
from potstill.architectures.names import (
    ALTERNATIVES,
    IGNORABLE,
    LEGACY_ENDINGS,
    PREFIXES,
    TIED_DECODERS,
    hf_names,
    needs_pooler,
)

_MASKED_LM_NAMES = ("cls.predictions.", "lm_head.", "vocab_transform.")


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """What to read from a checkpoint for one model."""

    config: EncoderConfig  # with the pooler as this checkpoint and head need it
    sources: dict[str, str]  # our name -> stored name
    copies: dict[str, str]  # stored name -> our name of the weight that it must repeat
    missing: list[str]  # Hugging Face's names, prefix left out, sorted
    ignored: list[str]  # stored names that no model here needs, sorted
    unknown: list[str]  # stored names that we have never seen, sorted


def plan_reading(stored: Iterable[str], config: EncoderConfig, head: HeadSpec) -> ReadingPlan:
    """Match stored names with the weights that `config` and `head` need."""
    present = _by_present_name(stored, config.family)
    config = replace(config, pooler=_has_pooler(present, config.family, head))
    needed = {
        _without_prefix(theirs, config.family): ours
        for ours, theirs in hf_names(config, head).items()
    }
    copies = _copies(present, needed, head)
    used = {present[form][0] for form in needed if form in present} | set(copies)
    surplus = sorted(name for names in present.values() for name in names if name not in used)
    return ReadingPlan(
        config=config,
        sources={ours: present[form][0] for form, ours in needed.items() if form in present},
        copies=copies,
        missing=sorted(form for form in needed if form not in present),
        ignored=[name for name in surplus if _is_ignorable(name, config.family)],
        unknown=[name for name in surplus if not _is_ignorable(name, config.family)],
    )


def guess_head(stored: Iterable[str], family: Family) -> HeadSpec:
    """Tell the head from the names alone, for a config.json without `architectures`."""
    present = _by_present_name(stored, family)
    if any(form.startswith(_MASKED_LM_NAMES) for form in present):
        return HeadSpec(kind="masked-lm")
    return HeadSpec()


def _has_pooler(present: Iterable[str], family: Family, head: HeadSpec) -> bool:
    if head.kind != "none":
        return needs_pooler(family, head)
    return family != "distilbert" and "pooler.dense.weight" in present


def _copies(
    present: Mapping[str, list[str]], needed: Mapping[str, str], head: HeadSpec
) -> dict[str, str]:
    """Return second spellings of needed weights and stored decoders, and what each repeats."""
    copies = {name: ours for form, ours in needed.items() for name in present.get(form, [])[1:]}
    if head.kind == "masked-lm":
        decoders = [name for form in TIED_DECODERS for name in present.get(form, [])]
        copies |= dict.fromkeys(decoders, "embeddings.words.weight")
    return copies


def _by_present_name(stored: Iterable[str], family: Family) -> dict[str, list[str]]:
    """Return present form -> stored names, the one to read first."""
    names: dict[str, list[str]] = {}
    for name in sorted(stored):
        names.setdefault(_present_form(name, family), []).append(name)
    return names


def _present_form(name: str, family: Family) -> str:
    present = _without_prefix(name, family)
    for old, new in LEGACY_ENDINGS.items():
        if present.endswith(old):
            present = present.removesuffix(old) + new
    return ALTERNATIVES.get(present, present)


def _is_ignorable(name: str, family: Family) -> bool:
    return _present_form(name, family).startswith(IGNORABLE)


def _without_prefix(name: str, family: Family) -> str:
    return name.removeprefix(PREFIXES[family])
