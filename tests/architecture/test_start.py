"""Starting is quick, and training code starts where the CPU extras are absent.

Each measurement is the best of several child processes: the best is what the code costs, the rest
is what the machine was doing besides.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from tests.architecture.import_order import layer_of, modules_of
from tests.conftest import REPOSITORY
from tests.folders import write_tiny_model

IMPORT_S = 0.1
HELP_TIMES = 1.6  # what the smallest program of the same library takes
HEAVY = ("torch", "numpy", "transformers", "tokenizers")

# Absent on the machines where training runs: one has its own Python and only torch's friends.
ABSENT = ("openvino", "orjson")
TRAINING = ("losses", "models", "train", "distillation")
TORCH_ENGINE = "potstill.runtime.torch_engine"

TIMED_IMPORT = f"""
import json, sys, time
began = time.perf_counter()
import potstill
seconds = time.perf_counter() - began
print(json.dumps([seconds, [name for name in {HEAVY} if name in sys.modules]]))
"""

HELP = "import sys; from potstill.cli.main import main; sys.exit(main())"

SMALLEST_HELP = """
import typer
app = typer.Typer()
app.command("one")(lambda: None)
app.command("two")(lambda: None)
app()
"""

WHAT_HELP_LOADS = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps([name for name in {HEAVY} if name in sys.modules])))
{HELP}
"""

BLOCKED_IMPORT = """
import importlib, sys
absent, *modules = [part.split(",") for part in sys.argv[1:]]

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named '{name}' (blocked)", name=name)

sys.meta_path.insert(0, Blocker())
for module in modules[0]:
    importlib.import_module(module)
"""


def test_importing_potstill_is_quick_and_light():
    measured = [json.loads(run_python("-c", TIMED_IMPORT)) for _ in range(5)]
    assert [loaded for _, loaded in measured] == [[]] * 5
    assert min(seconds for seconds, _ in measured) < IMPORT_S


def test_help_is_quick():
    measured = [(seconds_of_help(HELP), seconds_of_help(SMALLEST_HELP)) for _ in range(5)]
    ours, smallest = (min(side) for side in zip(*measured, strict=True))
    assert ours < HELP_TIMES * smallest


def test_help_loads_nothing_heavy():
    assert json.loads(run_python("-c", WHAT_HELP_LOADS, "--help").splitlines()[-1]) == []


def test_training_code_imports_without_the_cpu_extras():
    run_python("-c", BLOCKED_IMPORT, ",".join(ABSENT), ",".join(training_modules()))


def test_an_absent_package_is_really_blocked():
    with pytest.raises(AssertionError, match="No module named 'orjson'"):
        run_python("-c", BLOCKED_IMPORT, ",".join(ABSENT), "orjson")


def test_training_modules_are_found():
    found = training_modules()
    assert {"potstill.losses", "potstill.models", "potstill.train"} <= set(found)
    assert "potstill.cli" not in found


def training_modules() -> list[str]:
    """Return every module of the layers that train, and the torch engine, which scores on dev."""
    return [
        module
        for module in modules_of(REPOSITORY / "src" / "potstill")
        if layer_of(module) in TRAINING or module == TORCH_ENGINE
    ]


def seconds_of_help(code: str) -> float:
    """Return the processor's time for a program's `--help`: what a user waits on an idle machine.

    The clock on the wall would measure the neighbours: tests run several at a time.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_python("-c", code, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def run_python(*arguments: str) -> str:
    """Run a child Python and return its standard output."""
    child = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    return child.stdout


def test_loading_a_model_does_not_load_torchs_compiler(tmp_path) -> None:
    folder = write_tiny_model(tmp_path / "model", "classification")
    code = (
        "import sys, potstill; "
        f"potstill.load({str(folder)!r}, precision='fp32').predict(['the film']); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
