"""Student from teacher: layer choice, exact start, signals, objectives.

The verb `potstill.distill` has the name of this package, which takes its place as soon as anything
here is imported. So the package can be called, and is the verb.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Distil a teacher: see `potstill.verbs.distill`."""
        from potstill.verbs import distill

        return distill(*arguments, **settings)


sys.modules[__name__].__class__ = _Callable
