"""The tables of the documents are those that the stored results render."""

from __future__ import annotations

import re
import sys

import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import tables


@pytest.mark.parametrize("path", list(tables.documents()), ids=lambda path: path.name)
def test_no_number_of_a_table_is_typed_by_hand(path) -> None:
    content = path.read_text()
    assert tables.rendered(content) == content, "run: python benchmarks/tables.py"


def test_every_block_has_a_renderer_and_a_stored_result() -> None:
    blocks = [
        name
        for path in tables.documents()
        for name in re.findall(r"<!-- (\w+):begin -->", path.read_text())
    ]
    assert len(blocks) >= 4
    for name in blocks:
        assert name in tables.RENDERERS
        assert (tables.RESULTS / f"{name}.json").is_file(), f"no stored result for {name}"


def test_a_changed_number_is_found() -> None:
    document = "<!-- attention:begin -->\nanything\n<!-- attention:end -->"
    assert tables.rendered(document) != document
