"""Which stored tensor becomes which weight: the name table applied to what a checkpoint holds.

Stored names are first brought to the present form (legacy endings, the family's prefix, second
spellings); then each weight needs one, and what is left over is known to be ignorable or told.
"""

from __future__ import annotations

from collections.abc import Iterable
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


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """What to read from a checkpoint for one model."""

    config: EncoderConfig  # with the pooler as this checkpoint and head need it
    sources: dict[str, str]  # our name -> stored name
    missing: list[str]  # Hugging Face's names, prefix left out, sorted
    ignored: list[str]  # stored names that no model here needs, sorted
    unknown: list[str]  # stored names that we have never seen, sorted
    tied_decoder: str | None  # stored copy of the word table, to be checked for equality


def plan_reading(stored: Iterable[str], config: EncoderConfig, head: HeadSpec) -> ReadingPlan:
    """Match stored names with the weights that `config` and `head` need."""
    present = _present_names(stored, config.family)
    has_pooler = "pooler.dense.weight" in present
    wants_pooler = has_pooler if head.kind == "none" else needs_pooler(config.family, head)
    config = replace(config, pooler=wants_pooler)
    needed = {
        ours: _without_prefix(theirs, config.family)
        for ours, theirs in hf_names(config, head).items()
    }
    surplus = [name for name in present if name not in set(needed.values())]
    tied = next((name for name in TIED_DECODERS if name in surplus), None)
    return ReadingPlan(
        config=config,
        sources={ours: present[theirs] for ours, theirs in needed.items() if theirs in present},
        missing=sorted(theirs for theirs in needed.values() if theirs not in present),
        ignored=sorted(present[name] for name in surplus if name.startswith(IGNORABLE)),
        unknown=sorted(present[name] for name in surplus if not name.startswith(IGNORABLE)),
        tied_decoder=present[tied] if tied and head.kind == "masked-lm" else None,
    )


def guess_head(stored: Iterable[str], family: Family) -> HeadSpec:
    """Tell the head from the names alone, for a config.json without `architectures`."""
    present = _present_names(stored, family)
    if any(
        name.startswith(("cls.predictions.", "lm_head.", "vocab_transform.")) for name in present
    ):
        return HeadSpec(kind="masked-lm")
    return HeadSpec()


def _present_names(stored: Iterable[str], family: Family) -> dict[str, str]:
    """Return present form -> stored name; of two spellings the first one listed wins."""
    names: dict[str, str] = {}
    for name in sorted(stored):
        present = _without_prefix(name, family)
        for old, new in LEGACY_ENDINGS.items():
            if present.endswith(old):
                present = present.removesuffix(old) + new
        names.setdefault(ALTERNATIVES.get(present, present), name)
    return names


def _without_prefix(name: str, family: Family) -> str:
    return name.removeprefix(PREFIXES[family])
