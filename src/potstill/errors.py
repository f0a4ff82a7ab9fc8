"""The tree of errors that a user can meet.

    PotstillError                 exit  HTTP
    ├── InputError                  2    400   what the user gave us is wrong
    │   ├── RecipeError             2    422   a setting outside its range, or settings that clash
    │   ├── DataError               2    422   a row, column or file of rows
    │   ├── ModelError              2    422   a model folder, its weights or its tokenizer
    │   ├── OutputError             2    409   the place to write to: not empty, not writable
    │   ├── ShapeError              2    422   an array of the wrong shape at a public border
    │   └── MissingExtraError       2    501   an optional dependency is not installed
    ├── RunError                    1    500   the work itself failed while running
    │   ├── OutOfMemory             1    503
    │   ├── Diverged                1    500   a loss that is not finite, or rises and stays up
    │   ├── Collapsed               1    500   a student that gives all texts one vector
    │   └── StorageError            1    507   the disk is full or went away
    ├── GateNotMet                  3    412   a gate or floor was not met
    └── Stopped                   130    503   stopped by a signal; the run can be resumed

Every message is one line: what, where, what is allowed, how to mend it. A fault of ours is an
`assert`, never one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class PotstillError(Exception):
    """Base of all errors that are told to the user in one line."""

    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        allowed: str | None = None,
        cure: str | None = None,
    ) -> None:
        """Compose the line.

        Args:
            what: what is wrong, with the value that was found.
            where: file, line and field, or the setting's name.
            allowed: the values or forms that would be right.
            cure: the command or change that mends it.
        """
        self.what, self.where, self.allowed, self.cure = what, where, allowed, cure
        super().__init__(_one_line(what, where, allowed, cure))

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the four parts, and what was set since, when it crosses a process border."""
        parts = (type(self), self.what, self.where, self.allowed, self.cure)
        return _rebuild, parts, vars(self)


class InputError(PotstillError):
    """The user's input is wrong."""

    exit_status = 2
    http_status = 400


class RecipeError(InputError):
    """A setting is outside its range, or two settings clash."""

    http_status = 422


class DataError(InputError):
    """A file of rows, a row or a field cannot be used."""

    http_status = 422


class ModelError(InputError):
    """A model folder, its weights or its tokenizer cannot be used."""

    http_status = 422


class OutputError(InputError):
    """The place to write to cannot be used."""

    http_status = 409


class ShapeError(InputError):
    """An array has another shape than the function needs."""

    http_status = 422


class MissingExtraError(InputError):
    """An optional dependency is not installed."""

    http_status = 501

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        """Name the package, what needs it and the exact install line."""
        self.package, self.extra, self.needed_for = package, extra, needed_for
        super().__init__(
            f"{needed_for} needs the package '{package}', which is not installed",
            cure=f"pip install 'potstill[{extra}]'",
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the three names rather than from the composed line."""
        return _rebuild_missing_extra, (self.package, self.extra, self.needed_for)


class RunError(PotstillError):
    """The work failed while running."""


class OutOfMemory(RunError):
    """The device or the machine has no memory left for this batch."""

    http_status = 503


class Diverged(RunError):
    """A loss or gradient is no longer finite, or the loss stays far above the start's."""


class Collapsed(RunError):
    """A student gives different texts nearly the same vector."""


class StorageError(RunError):
    """The disk is full or cannot be written; what stood there before is whole."""

    http_status = 507


class GateNotMet(PotstillError):
    """A gate or floor was not met."""

    exit_status = 3
    http_status = 412

    evidence: Mapping[str, Any] | None = None  # what was tried, as plain values, for `--json`


class Stopped(PotstillError):
    """A signal stopped the run; it can be resumed."""

    exit_status = 130
    http_status = 503


def _one_line(what: str, where: str | None, allowed: str | None, cure: str | None) -> str:
    parts = [f"{where}: {what}" if where else what]
    if allowed:
        parts.append(f"allowed: {allowed}")
    if cure:
        parts.append(f"to mend it: {cure}")
    return "; ".join(" ".join(part.split()) for part in parts)


def _rebuild(
    kind: type[PotstillError], what: str, where: str | None, allowed: str | None, cure: str | None
) -> PotstillError:
    return kind(what, where=where, allowed=allowed, cure=cure)


def _rebuild_missing_extra(package: str, extra: str, needed_for: str) -> MissingExtraError:
    return MissingExtraError(package, extra=extra, needed_for=needed_for)
