"""The source tree keeps the import order, and the check of that order can fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture import import_order
from tests.architecture.import_order import ABOVE_TORCH, ALLOWANCES, ORDER, violations
from tests.conftest import REPOSITORY

SOURCE = REPOSITORY / "src" / "potstill"

GOOD_TREE = {
    "__init__.py": "def load():\n    from potstill.models import Encoder",
    "errors.py": "",
    "text/__init__.py": "",
    "text/ragged.py": "from potstill.errors import InputError",
    "text/packing.py": "from potstill.text import ragged\nfrom potstill.text.ragged import B",
    "runtime/__init__.py": "",
    "runtime/choose.py": "def choose():\n    from potstill.runtime import torch_engine",
    "runtime/torch_engine.py": "import torch\nfrom potstill.models.encoder import Encoder",
    "models/__init__.py": "",
    "models/encoder.py": "import torch\nfrom potstill.text.ragged import RaggedBatch",
    "workflows/__init__.py": "",
    "workflows/distill.py": "import torch\nfrom potstill.models.encoder import Encoder",
    "cli/__init__.py": "",
    "cli/main.py": "def main():\n    from potstill.workflows import distill",
}

TYPING_CYCLE = (
    "from typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    from potstill.text.packing import Packed"
)

# what is wrong, the files that differ from the good tree, what the complaint must say
BREACHES = {
    "upwards": (
        {"text/ragged.py": "from potstill.models.encoder import Encoder"},
        "potstill.text.ragged:1 imports potstill.models.encoder, which is not open to text",
    ),
    "upwards, inside a function": (
        {"text/ragged.py": "def f():\n    import potstill.cli.main"},
        "potstill.text.ragged:2 imports potstill.cli.main",
    ),
    "upwards, by name": (
        {"text/ragged.py": "import importlib\nimportlib.import_module('potstill.models')"},
        "potstill.text.ragged:2 imports potstill.models",
    ),
    "upwards, relative": (
        {"text/ragged.py": "from ..models.encoder import Encoder"},
        "potstill.text.ragged:1 imports potstill.models.encoder",
    ),
    "upwards, a package as a name": (
        {"text/ragged.py": "from potstill import models"},
        "potstill.text.ragged:1 imports potstill.models",
    ),
    "the package itself": (
        {"text/ragged.py": "import potstill"},
        "potstill.text.ragged:1 imports potstill, which is not open to text",
    ),
    "a layer without a place": (
        {"misc/__init__.py": ""},
        "potstill.misc has no place in the order",
    ),
    "the server imports a workflow": (
        {"serve/app.py": "def f():\n    from potstill.workflows import distill"},
        "potstill.serve.app:2 imports potstill.workflows.distill, which is not open to serve",
    ),
    "the server imports the network": (
        {"serve/app.py": "from potstill.models import encoder"},
        "potstill.serve.app:1 imports potstill.models.encoder, which is not open to serve",
    ),
    "another module of runtime imports the network": (
        {"runtime/choose.py": "def f():\n    from potstill.models import encoder"},
        "potstill.runtime.choose:2 imports potstill.models.encoder, which is not open to runtime",
    ),
    "the torch engine imports more than the network": (
        {"runtime/torch_engine.py": "def f():\n    import potstill.workflows.distill"},
        "potstill.runtime.torch_engine:2 imports potstill.workflows.distill",
    ),
    "torch at start above the line": (
        {"text/ragged.py": "import torch.nn.functional as F"},
        "potstill.text.ragged:1 starts torch by importing torch.nn.functional",
    ),
    "torch at start, inside try": (
        {"text/ragged.py": "try:\n    import torch\nexcept ImportError:\n    torch = None"},
        "potstill.text.ragged:2 starts torch by importing torch",
    ),
    "torch at start through safetensors": (
        {"text/ragged.py": "from safetensors.torch import load_file"},
        "potstill.text.ragged:1 starts torch by importing safetensors.torch",
    ),
    "the torch engine at start": (
        {"runtime/choose.py": "from potstill.runtime import torch_engine"},
        "potstill.runtime.choose:1 starts torch by importing potstill.runtime.torch_engine",
    ),
    "a workflow at start of the command line": (
        {"cli/main.py": "from potstill.workflows import distill"},
        "potstill.cli.main:1 starts torch by importing potstill.workflows.distill",
    ),
    "the package starts the network": (
        {"__init__.py": "from potstill.models import encoder"},
        "potstill:1 starts torch by importing potstill.models.encoder",
    ),
    "transformers, even on demand": (
        {"models/encoder.py": "def f():\n    from transformers import BertModel"},
        "potstill.models.encoder:2 imports transformers",
    ),
    "a cycle of modules": (
        {"text/ragged.py": "def f():\n    from potstill.text.packing import pack"},
        "a cycle of modules: potstill.text.",
    ),
    "a cycle of modules for the type checker": (
        {"text/ragged.py": TYPING_CYCLE},
        "a cycle of modules: potstill.text.",
    ),
    "a cycle of layers through an allowance": (
        {"models/encoder.py": "from potstill.runtime.choose import choose"},
        "a cycle of layers: ",
    ),
}


def test_the_source_keeps_the_import_order():
    assert violations(SOURCE) == []


def test_the_check_reads_every_file_of_the_source():
    modules = import_order.modules_of(SOURCE)
    assert sorted(modules.values()) == sorted(SOURCE.rglob("*.py"))
    assert {"potstill", "potstill.errors", "potstill.text.ragged"} <= modules.keys()


def test_a_tree_in_order_has_no_violation(tmp_path: Path):
    assert violations(write_tree(tmp_path, {})) == []


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_reported_with_its_place(tmp_path: Path, breach: str):
    changed, complaint = BREACHES[breach]
    found = violations(write_tree(tmp_path, changed))
    assert any(line.startswith(complaint) for line in found), found


def test_types_of_torch_may_be_named_anywhere(tmp_path: Path):
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"
    assert violations(write_tree(tmp_path, {"text/ragged.py": typed})) == []


def test_a_foreign_teacher_may_use_transformers(tmp_path: Path):
    foreign = {"distillation/foreign.py": "def f():\n    import transformers"}
    assert violations(write_tree(tmp_path, foreign)) == []


def test_every_allowance_gives_its_reason_and_is_still_needed():
    modules = import_order.modules_of(SOURCE)
    for allowance in ALLOWANCES:
        assert allowance.reason, allowance.module
        if allowance.module in modules:
            imports = import_order.imports_of(allowance.module, modules)
            assert allowance.layer in {import_order.layer_of(found.target) for found in imports}


def test_the_order_names_no_layer_twice():
    assert len(ORDER) == len(set(ORDER))
    assert len(ABOVE_TORCH) == 22


def test_the_picture_in_the_docs_shows_the_same_order():
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = page.split("```")[1]
    assert (
        tuple(re.findall(r"(?<!\w)([a-z_]+)(?:\.py|/)", picture.partition("src/potstill/")[2]))
        == ORDER
    )


def write_tree(folder: Path, changed: dict[str, str]) -> Path:
    """Write the good tree with some files changed, and return the package's folder."""
    root = folder / "potstill"
    for name, text in {**GOOD_TREE, **changed}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root
