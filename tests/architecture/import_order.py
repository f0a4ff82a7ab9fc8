"""The import order of the project as data, and the check that holds a source tree to it.

A file imports only from layers above its own, or from its own. What runs only when a function is
called, or only for the type checker, obeys the order too: it is knowledge of another part all the
same. Not covered: names put together at run time (`import_module(f"potstill.{verb}")`).
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

PROJECT = "potstill"

ABOVE_TORCH = (
    "version",
    "errors",
    "shapes",
    "stages",
    "files",
    "locks",
    "hub_names",
    "hardware",
    "held_memory",
    "freed_memory",
    "recipe",
    "text",
    "data",
    "metrics",
    "architectures",
    "tasks",
    "bundle",
    "runtime",
    "report",
    "measure",
    "search",
    "bulk",
)
TORCH_SIDE = ("losses", "models", "train", "distillation", "compress")
BELOW_TORCH = ("workflows", "verbs", "serve", "cli", "__main__")
ORDER = ABOVE_TORCH + TORCH_SIDE + BELOW_TORCH  # from top to bottom

# Torch takes a second to load: only layers that are themselves imported on demand may do it.
LOADS_TORCH = ("torch", "safetensors.torch")
MAY_START_TORCH = {*TORCH_SIDE, "workflows", "verbs"}

# A layer that may reach less far down than its place says: the lowest layer open to it.
# The server ships without anything that trains, or that runs a verb.
REACHES_DOWN_TO = {"serve": "search"}

# A library that src never imports, and the modules excused from that.
IMPORTED_ONLY_BY: Mapping[str, frozenset[str]] = {
    "transformers": frozenset({"potstill.distillation.foreign"}),
    "sentence_transformers": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Allowance:
    """One module that may import one layer below its own, and torch at module level."""

    module: str
    layer: str
    reason: str


# Such a module is itself imported inside functions only, by all but the torch side.
ALLOWANCES = (
    Allowance(
        "potstill.runtime.torch_engine",
        "models",
        "an engine runs a network, and ours in torch is models.Encoder; runtime loads this module "
        "only when the torch engine is chosen, so the layers above stay free of torch",
    ),
)
EXCUSED = {allowance.module for allowance in ALLOWANCES}


class When(Enum):
    """At which moment an import statement runs."""

    START = "when the module is imported"
    CALL = "when a function is called"
    TYPING = "for the type checker only"


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement: who imports what, where and when."""

    module: str  # the importer, "potstill.text.ragged"
    target: str  # a module: "potstill.errors", "numpy.typing"
    line: int
    when: When

    @property
    def place(self) -> str:
        """Return where it stands, as a reader looks for it."""
        return f"{self.module}:{self.line}"


def violations(root: Path) -> list[str]:
    """Return every breach of the order in the package at `root`, one line each."""
    modules = modules_of(root)
    imports = [found for name in modules for found in imports_of(name, modules)]
    return [
        *_strangers(modules),
        *_out_of_order(imports),
        *_torch_at_start(imports),
        *_libraries_out_of_place(imports),
        *_cycles(imports),
    ]


def modules_of(root: Path) -> dict[str, Path]:
    """Return the file of each module of the package at `root`, by dotted name."""
    return {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in sorted(root.rglob("*.py"))
    }


def imports_of(module: str, modules: Mapping[str, Path]) -> list[Import]:
    """Return the imports of one module; `from package import module` names the module."""
    tree = ast.parse(modules[module].read_text(encoding="utf-8"))
    package = module if modules[module].name == "__init__.py" else module.rpartition(".")[0]
    return [
        Import(module, target, node.lineno, when)
        for node, when in _walk(tree, When.START)
        for target in _targets(node, package, modules)
    ]


def layer_of(module: str) -> str:
    """Return the layer of a module of ours, "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def is_ours(module: str) -> bool:
    """Return whether the name is a module of the project."""
    return module.partition(".")[0] == PROJECT


def _walk(node: ast.AST, when: When) -> Iterator[tuple[ast.AST, When]]:
    yield node, when
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        when = When.CALL
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        for child in node.body:
            yield from _walk(child, When.TYPING)
        for child in node.orelse:
            yield from _walk(child, when)
        return
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, when)


def _targets(node: ast.AST, package: str, modules: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        source = _absolute(node, package)
        for alias in node.names:
            inner = f"{source}.{alias.name}"
            yield inner if inner in modules else source
    elif isinstance(node, ast.Call) and "import_module" in ast.dump(node.func):
        yield from (
            argument.value
            for argument in node.args[:1]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        )


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")[: len(package.split(".")) - (node.level - 1)]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _strangers(modules: Iterable[str]) -> Iterator[str]:
    for layer in sorted({layer_of(module) for module in modules} - {"", *ORDER}):
        yield f"{PROJECT}.{layer} has no place in the order: give it one in ORDER"


def _out_of_order(imports: Iterable[Import]) -> Iterator[str]:
    for found in imports:
        if not is_ours(found.target) or layer_of(found.module) not in ORDER:
            continue
        layer, target = layer_of(found.module), layer_of(found.target)
        if target == layer or _may_reach(layer, target) or _is_excused(found):
            continue
        yield f"{found.place} imports {found.target}, which is not open to {layer}"


def _may_reach(layer: str, target: str) -> bool:
    if target not in ORDER:
        return False
    lowest = REACHES_DOWN_TO.get(layer)
    last = ORDER.index(lowest) if lowest else ORDER.index(layer) - 1
    return ORDER.index(target) <= last


def _is_excused(found: Import) -> bool:
    return any(
        found.module == allowance.module and layer_of(found.target) == allowance.layer
        for allowance in ALLOWANCES
    )


def _torch_at_start(imports: Iterable[Import]) -> Iterator[str]:
    for found in imports:
        starts_late = layer_of(found.module) in MAY_START_TORCH or found.module in EXCUSED
        if found.when is When.START and not starts_late and _starts_torch(found.target):
            yield f"{found.place} starts torch by importing {found.target}: do it in the function"


def _starts_torch(target: str) -> bool:
    if is_ours(target):
        return target in EXCUSED or layer_of(target) in MAY_START_TORCH
    return any(target == name or target.startswith(f"{name}.") for name in LOADS_TORCH)


def _libraries_out_of_place(imports: Iterable[Import]) -> Iterator[str]:
    for found in imports:
        library = found.target.partition(".")[0]
        if library in IMPORTED_ONLY_BY and found.module not in IMPORTED_ONLY_BY[library]:
            yield f"{found.place} imports {library}, which is a reference for tests only"


def _cycles(imports: Iterable[Import]) -> Iterator[str]:
    """Yield one cycle between modules and one between layers, where there are any.

    The package's own `__init__` is left out: it may reach everything, on demand.
    """
    edges = [
        (found.module, found.target)
        for found in imports
        if is_ours(found.target) and layer_of(found.module) and layer_of(found.target)
    ]
    between_layers = [(layer_of(module), layer_of(target)) for module, target in edges]
    yield from _cycle("modules", edges)
    yield from _cycle("layers", [(start, end) for start, end in between_layers if start != end])


def _cycle(kind: str, edges: Iterable[tuple[str, str]]) -> Iterator[str]:
    graph: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for start, end in edges:
        graph.add(start, end)
    try:
        graph.prepare()
    except graphlib.CycleError as error:
        yield f"a cycle of {kind}: {' <- '.join(error.args[1])}"
