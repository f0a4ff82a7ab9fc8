"""Flags that mean nothing for what is asked are refused, not ignored."""

from __future__ import annotations

from collections.abc import Mapping

from potstill.errors import InputError


def require_none(unfit: Mapping[str, object], asked: str) -> None:
    """Check that none of the flags was given.

    Args:
        unfit: values of flags by the names of their parameters; None where not given.
        asked: for what they mean nothing.

    Raises:
        InputError: naming the first one.
    """
    for name, value in unfit.items():
        if value is not None:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag} means nothing for {asked}", cure=f"leave {flag} out")
