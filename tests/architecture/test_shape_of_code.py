"""Files and functions stay small, names say something, and nothing private leaks out."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import potstill
from tests.conftest import REPOSITORY

SOURCE = REPOSITORY / "src" / "potstill"
FILES = sorted(SOURCE.rglob("*.py"))

LONGEST_MODULE = 500  # lines
LONGEST_FUNCTION = 80  # lines, docstring included
NINE_IN_TEN_FUNCTIONS = 40  # lines
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc"}
PRINTS = SOURCE / "cli" / "render.py"

# A model folder is data: what can run code while it is read has no place here.
EXECUTES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
EXECUTING_CALLS = {"eval", "exec", "torch.load"}
# Options that would let it run, when they are switched on by a literal.
EXECUTING_OPTIONS = {"allow_pickle", "trust_remote_code"}
# The one place that may read a pickle: a child process, on request, with weights_only=True.
READS_PICKLES = SOURCE / "bundle" / "pickle_child.py"

# Paths of one machine, and the addresses of package registries.
PRIVATE = re.compile(
    r"(?<![\w.*-])/(?:work|opt|root|home|Users)/[\w.]"
    r"|file:/{3}"
    r"|\b(?:index-url|find-links|trusted-host)\b\s*[= ]\s*\S*[/:]"
    r"|https?://[^\s\"'<>)]+/simple\b"
)


def test_the_source_was_found():
    assert len(FILES) >= 15
    assert len(functions()) >= 40


def test_every_module_has_a_docstring():
    assert [place(path) for path in FILES if not ast.get_docstring(tree_of(path))] == []


def test_no_module_is_long():
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_no_function_is_long():
    assert {name: lines for name, lines in functions().items() if lines > LONGEST_FUNCTION} == {}


def test_nine_in_ten_functions_are_short():
    assert statistics.quantiles(functions().values(), n=10)[-1] <= NINE_IN_TEN_FUNCTIONS


def test_file_names_say_what_is_inside():
    names = {place(path): set(path.with_suffix("").name.split("_")) for path in FILES}
    folders = {place(path.parent): set(path.parent.name.split("_")) for path in FILES}
    assert [name for name, words in {**names, **folders}.items() if words & SAYS_NOTHING] == []


def test_only_rendering_prints():
    printing = [place(path) for path in FILES if path != PRINTS and "print" in calls(path)]
    assert printing == []


def test_nothing_that_is_loaded_can_run():
    assert {
        place(path): imports(path) & EXECUTES for path in FILES if imports(path) & EXECUTES
    } == {}
    executing = [path for path in FILES if calls(path) & EXECUTING_CALLS]
    assert executing == [READS_PICKLES]
    assert calls(READS_PICKLES) & EXECUTING_CALLS == {"torch.load"}
    assert READS_PICKLES.read_text().count("weights_only=True") >= 1
    assert [place(path) for path in FILES if options(path) & EXECUTING_OPTIONS] == []


def test_all_lists_what_the_package_offers():
    assert len(potstill.__all__) == len(set(potstill.__all__))
    assert [name for name in potstill.__all__ if not hasattr(potstill, name)] == []
    assert [name for name in offered() if name not in potstill.__all__] == []


def test_no_tracked_file_names_a_machine_or_a_registry():
    found = [
        f"{path}:{number}"
        for path in tracked_files()
        for number, line in enumerate((REPOSITORY / path).read_bytes().splitlines(), start=1)
        if PRIVATE.search(line.decode("utf-8", errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "see /" + "work/main/x.py",
        '"/' + 'root/.cache"',
        "cd /" + "home/anna/data",
        "--find-links" + "=/x",
        "extra-index-url" + " = http://x",
        "https://host.example" + "/simple/torch",
    ],
)
def test_a_private_line_is_seen(line: str):
    assert PRIVATE.search(line)


@pytest.mark.parametrize(
    "line", ["docs/work/plan.md", "https://example.org/opt/x", "./root/x", "a simple/plain one"]
)
def test_a_harmless_line_is_left_alone(line: str):
    assert not PRIVATE.search(line)


def functions() -> dict[str, int]:
    """Return the lines of every function and method, by place."""
    return {
        f"{place(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def calls(path: Path) -> set[str]:
    """Return the dotted names that a file calls."""
    nodes = ast.walk(tree_of(path))
    return {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}


def options(path: Path) -> set[str]:
    """Return the names of the keyword arguments that a file passes as True."""
    return {
        node.arg
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.keyword)
        and node.arg
        and isinstance(node.value, ast.Constant)
        and node.value.value is True
    }


def imports(path: Path) -> set[str]:
    """Return the libraries that a file imports, anywhere in it."""
    return {name.partition(".")[0] for name in _imported(path)}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def offered() -> list[str]:
    """Return the public names that the package's own file binds or imports."""
    bound: set[str] = set()
    for node in ast.walk(tree_of(SOURCE / "__init__.py")):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("potstill"):
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
    return sorted(name for name in bound if not name.startswith("_"))


def tracked_files() -> list[str]:
    """Return the files that git knows or would take in, or skip where git is absent."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a checkout of git, or no git: the tracked files are unknown")
    files = [name for name in listing.decode().split("\0") if (REPOSITORY / name).is_file()]
    assert files, "git knows no file of the checkout"
    return files


def place(path: Path) -> str:
    """Return a file's name as a reader looks for it."""
    return path.relative_to(REPOSITORY).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))
