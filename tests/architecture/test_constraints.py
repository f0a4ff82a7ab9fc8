"""The pins are exact, usable on any machine, and cover all that is asked for."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import REPOSITORY

PIN = re.compile(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)")
ASKED = re.compile(r"[A-Za-z0-9._-]+")


def test_every_line_is_an_exact_pin_without_a_local_part():
    lines = [line for line in constraints() if not PIN.fullmatch(line)]
    assert lines == []


def test_no_package_is_pinned_twice():
    names = [line.partition("==")[0] for line in constraints()]
    assert len(names) == len({plain(name) for name in names})


def test_everything_asked_for_is_pinned():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    asked = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in installed_extras():
        asked += extras[extra]
    pinned = {plain(line.partition("==")[0]) for line in constraints()}
    names = {plain(ASKED.match(line).group()) for line in asked}
    assert len(names) >= 20
    assert names - pinned == set()


def constraints() -> list[str]:
    """Return the lines of constraints.txt that are no comment."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def installed_extras() -> set[str]:
    """Return the extras that the Makefile installs."""
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return {
        extra for found in re.findall(r"-e '\.\[([a-z,]+)\]'", text) for extra in found.split(",")
    }


def plain(name: str) -> str:
    """Return a package's name in the one spelling that the index compares."""
    return re.sub(r"[-_.]+", "-", name).lower()
