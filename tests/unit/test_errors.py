"""The tree of errors: one line each, the drawn statuses, whole in every process."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill import errors
from potstill.errors import GateNotMet, MissingExtraError, PotstillError, RecipeError

DRAWN = re.compile(r"^ {4}([│├└─ ]*)([A-Za-z]+) +(\d+) +(\d+)(?:  |$)", re.MULTILINE)
INDENT = 4  # characters of the drawing for each level

ANY_TEXT = st.text(st.characters())
ANY_PART = st.none() | ANY_TEXT


def kinds(base: type[PotstillError] = PotstillError) -> Iterator[type[PotstillError]]:
    """Return the whole tree, each class after its parent."""
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def instance(kind: type[PotstillError]) -> PotstillError:
    if kind is MissingExtraError:
        return MissingExtraError("torch", extra="train", needed_for="training")
    return kind("it is 7", where="file, line 3", allowed="1 to 5", cure="write 5")


def test_the_drawing_shows_every_class_with_its_place_and_statuses() -> None:
    drawn, path = {}, ["PotstillError"]
    for indent, name, exit_status, http_status in DRAWN.findall(errors.__doc__ or ""):
        level = len(indent) // INDENT
        path[level:] = [name]
        drawn[name] = (path[level - 1], int(exit_status), int(http_status))
    actual = {
        kind.__name__: (kind.__bases__[0].__name__, kind.exit_status, kind.http_status)
        for kind in kinds()
        if kind is not PotstillError
    }
    assert drawn == actual


@settings(deadline=None)
@given(what=ANY_TEXT, where=ANY_PART, allowed=ANY_PART, cure=ANY_PART)
def test_a_message_is_one_line_whatever_its_parts_hold(
    what: str, where: str | None, allowed: str | None, cure: str | None
) -> None:
    line = str(RecipeError(what, where=where, allowed=allowed, cure=cure))
    assert len(line.splitlines()) <= 1
    for part in (what, where, allowed, cure):
        assert all(word in line for word in (part or "").split())


def test_the_parts_stand_in_order_with_their_names() -> None:
    line = str(instance(RecipeError))
    assert line == "file, line 3: it is 7; allowed: 1 to 5; to mend it: write 5"
    assert str(RecipeError("it is 7")) == "it is 7"


@pytest.mark.parametrize("kind", list(kinds()))
def test_an_error_comes_whole_out_of_another_process(kind: type[PotstillError]) -> None:
    error = instance(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_refusal_keeps_its_evidence_on_the_way() -> None:
    error = GateNotMet("the gate fails", where="int8")
    assert error.evidence is None
    error.evidence = {"tried": [{"kept": []}]}
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.evidence) == (str(error), {"tried": [{"kept": []}]})


def test_an_error_raised_in_a_real_process_arrives() -> None:
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            "import pickle, sys; from potstill.errors import DataError\n"
            "try: raise DataError('bad', where='line 3', cure='mend')\n"
            "except DataError as error: sys.stdout.buffer.write(pickle.dumps(error))",
        ],
        capture_output=True,
        check=True,
    )
    error = pickle.loads(child.stdout)
    assert isinstance(error, errors.DataError)
    assert (error.what, error.where, error.allowed, error.cure) == ("bad", "line 3", None, "mend")


def test_a_missing_extra_names_its_install_line() -> None:
    line = str(instance(MissingExtraError))
    assert line == (
        "training needs the package 'torch', which is not installed; "
        "to mend it: pip install 'potstill[train]'"
    )
