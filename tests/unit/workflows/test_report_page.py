"""The page: whole in itself, harmless whatever the texts say, readable by a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from potstill.errors import MissingExtraError
from potstill.workflows.report_page.page import render_page
from potstill.workflows.report_page.plots import draw_plots
from tests.unit.workflows.comparisons import a_comparison, a_model, unsolved, without_test

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ATTACK = "<script>alert(1)</script>"
# Elements that end themselves, and so have no end tag.
VOID = {"meta", "link", "br", "path", "use", "rect", "circle", "line"}
LOADS = {"script", "img", "iframe", "object", "embed", "video", "audio", "source", "base", "form"}


class Page(HTMLParser):
    """Collects tags, texts and what they refer to; refuses what is not nested."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of that name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        """Return all that can be read."""
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_page(a_comparison()))


def test_it_begins_with_the_sentence_that_one_remembers(page: Page):
    sentence = "student keeps 98.7 % (97.4 to 99.9) of teacher's accuracy at 2.0 times the speed"
    assert page.text.count(sentence) == 2  # title and heading
    assert page.named("html") == [{"lang": "en"}]
    assert len(page.named("h1")) == 1


def test_it_loads_nothing_and_runs_nothing(page: Page):
    assert {name for name, _ in page.tags} & LOADS == set()
    for name, attributes in page.tags:
        for attribute, value in attributes.items():
            assert not attribute.startswith("on"), name
            if attribute in {"href", "src", "xlink:href", "action"}:
                assert (value or "").startswith(("#", "data:,")), (name, value)
    style = "".join(page.texts)
    assert "@import" not in style
    assert re.findall(r"url\((?!#)", style) == []
    policies = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_plots_have_words_and_tables_have_headers(page: Page):
    figures = page.named("figure")
    assert len(figures) == len(page.named("svg")) == 3
    for figure in figures:
        assert len(figure["aria-label"] or "") > 40
    for header in page.named("th"):
        assert header["scope"] in {"col", "row", "rowgroup"}


def test_no_id_is_there_twice_and_every_reference_leads_somewhere(page: Page):
    ids = [value for _, attributes in page.tags if (value := attributes.get("id"))]
    assert len(ids) == len(set(ids))
    references = {
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name == "aria-labelledby"
    }
    assert references <= set(ids)


def test_colors_come_from_the_style_alone(page: Page):
    drawn = [attributes.get("style") or "" for _, attributes in page.tags]
    assert any("var(--series-1)" in style for style in drawn)
    assert [style for style in drawn if re.search(r"#[0-9a-f]{6}", style)] == []


def test_what_came_from_outside_is_text():
    names = {"student": f"$x${ATTACK}&", "text": f"{ATTACK} & 'so' \"on\"\nsecond line"}
    content = render_page(a_comparison(**names, warnings=(ATTACK,), command=f"x {ATTACK}"))
    assert "<script" not in content
    page = Page(content)
    assert page.text.count(ATTACK) >= 6
    assert "$x$" in page.text


def test_every_kind_of_comparison_has_its_page():
    quiet = Page(render_page(without_test(a_comparison())))
    assert "nothing is said about quality" in quiet.text
    assert len(quiet.named("figure")) == 2
    caution = Page(render_page(unsolved(a_comparison())))
    assert "The baseline does not solve this task. No retention is told." in caution.text
    many = [a_model(f"model {number}", 2.0 + number, 0.9, 0.97) for number in range(9)]
    page = Page(render_page(a_comparison(models=tuple(many), agreement={}, flips={})))
    assert page.text.count("model 8 keeps") == 1
    alone = without_test(a_comparison())
    assert Page(render_page(a_comparison(models=alone.models[:1], test=None, flips={})))


def test_the_same_comparison_gives_the_same_plots():
    plots = [plot.words for plot in draw_plots(a_comparison())]
    assert plots == [plot.words for plot in draw_plots(a_comparison())]
    assert "student 0.908 (0.888 to 0.928) at 5.00 ms" in plots[0]


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_library_that_is_absent_is_named_with_its_cure(
    library: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"{library}.*pip install 'potstill\[plots\]'"):
        render_page(a_comparison())


@pytest.fixture(scope="module")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, dict]:
    """Return what a browser made of a page with an attack: its tree, its log, its network log."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no chromium on this machine")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(render_page(a_comparison(text=ATTACK)), encoding="utf-8")
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    log = folder / "network.json"
    done = subprocess.run(
        [
            browser,
            *quiet,
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={log}",
            "--enable-logging=stderr",
            "--dump-dom",
            (folder / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode != 0 or not done.stdout:
        pytest.skip(f"chromium does not run here (status {done.returncode})")
    return done.stdout, done.stderr, json.loads(log.read_text(encoding="utf-8"))


def test_a_browser_shows_it_without_a_complaint(browsed):
    tree, log, _ = browsed
    assert "keeps 98.7 %" in tree
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []


def test_a_browser_shows_the_attack_as_text(browsed):
    tree, _, _ = browsed
    assert "<script" not in tree
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in tree


def test_a_browser_asks_nobody_for_the_page(browsed):
    """Requests of the browser itself (updates) bear no initiator that is a file."""
    _, _, log = browsed
    asked = [
        event["params"]
        for event in log["events"]
        if str(event.get("params", {}).get("initiator", "not an origin")) in {"null", "file://"}
    ]
    urls = [params["url"] for params in asked if "url" in params]
    assert [url for url in urls if not url.startswith(("file:", "data:"))] == []
