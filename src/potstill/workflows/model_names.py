"""Short names for the models of a comparison: the last part of a path, more where names clash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from potstill.errors import InputError
from potstill.hub_names import PREFIX, is_hub


def shown_names(models: Sequence[str]) -> list[str]:
    """Return a name for each model: as few of the last parts of its path as tell it apart.

    Raises:
        InputError: a model is there twice.
    """
    parts_of = [_parts(model) for model in models]
    for number, (model, parts) in enumerate(zip(models, parts_of, strict=True)):
        if parts in parts_of[:number]:
            raise InputError(
                f"the model {model} is named twice", cure="name every model of a comparison once"
            )
    return [_shortest(parts, parts_of) for parts in parts_of]


def find_model(asked: str, models: Sequence[str], names: Sequence[str]) -> int:
    """Return the place of the model that is asked for by its shown name or by its path.

    Raises:
        InputError: it is not among them.
    """
    if asked in names:
        return names.index(asked)
    parts_of = [_parts(model) for model in models]
    if _parts(asked) in parts_of:
        return parts_of.index(_parts(asked))
    raise InputError(
        f"the baseline {asked!r} is not among the models",
        where="--baseline",
        allowed=", ".join(names),
    )


def _parts(model: str) -> tuple[str, ...]:
    """Return the parts of a path or hub name; whatever way a folder is written, the same ones."""
    if is_hub(model):
        return (PREFIX, *model.removeprefix(PREFIX).split("/"))
    return Path(model).resolve().parts


def _shortest(parts: tuple[str, ...], parts_of: Sequence[tuple[str, ...]]) -> str:
    for count in range(1, len(parts) + 1):
        ending = parts[-count:]
        if sum(other[-count:] == ending for other in parts_of) == 1:
            return "/".join(ending).replace(f"{PREFIX}/", PREFIX)
    return "/".join(parts)  # one path is the ending of another: it is told in full
