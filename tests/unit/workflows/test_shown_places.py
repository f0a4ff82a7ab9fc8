"""Places of a disk are not told in reports."""

from __future__ import annotations

from pathlib import Path

from potstill.workflows.shown_places import shown_models, shown_path, without_places


def test_of_a_place_on_a_disk_only_the_last_part_is_shown() -> None:
    assert shown_path("data/test.jsonl") == "data/test.jsonl"
    assert shown_path(str(Path("data/test.jsonl").resolve())) == "test.jsonl"
    assert shown_path("list") == "list"


def test_models_keep_what_tells_them_apart() -> None:
    assert shown_models(["hub:org/big", "out/small", "/srv/mine/int8"]) == [
        *("hub:org/big", "out/small", "int8")
    ]
    assert shown_models(["/srv/mine/a/small", "/srv/mine/b/small"]) == ["a/small", "b/small"]


def test_texts_of_any_depth_name_files_by_their_last_part() -> None:
    told = {
        "lines": ["5 of /srv/mine/train.jsonl were cut"],
        "count": 5,
        "place": "/srv/mine/small-a",
    }
    places = [Path("/srv/mine/train.jsonl"), "/srv/mine/small", "data/dev.jsonl", [{"text": "a"}]]
    assert without_places(told, places) == {
        "lines": ["5 of train.jsonl were cut"],
        "count": 5,
        "place": "small-a",
    }
    assert without_places(None, places) is None
