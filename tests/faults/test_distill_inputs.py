"""Wrong input to a distillation: one line, status 2, and nothing is written or lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command_line import finetuning, said, tree_of, write_jsonl, write_rows
from tests.distilling import distilling, write_encoder, write_teacher
from tests.tiny import WORDS


@dataclass(frozen=True, slots=True)
class Ground:
    """Sound models and rows, shared by all cases, and a place of its own for each case."""

    sound: Path
    path: Path

    @property
    def teacher(self) -> Path:
        return self.sound / "teacher"

    @property
    def encoder(self) -> Path:
        return self.sound / "encoder"

    @property
    def rows(self) -> Path:
        return self.sound / "rows.jsonl"

    @property
    def out(self) -> Path:
        return self.path / "out"

    def wrote(self, name: str, *rows: dict[str, object]) -> Path:
        """Write rows to a file of this case."""
        return write_jsonl(self.path / name, *rows)

    def filled(self, name: str) -> Path:
        """Make a folder that is not empty."""
        (self.path / name).mkdir()
        (self.path / name / "precious.txt").write_text("kept")
        return self.path / name


Words = list[object]
Cases = dict[str, tuple[Callable[[Ground], Words], list[str]]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_teacher(folder / "teacher")
    write_encoder(folder / "encoder")
    write_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture
def ground(sound: Path, tmp_path: Path) -> Ground:
    return Ground(sound, tmp_path)


def with_flags(*flags: object) -> Callable[[Ground], Words]:
    return lambda ground: [
        *distilling(ground.teacher, ground.out),
        *("--train", ground.rows),
        *flags,
    ]


def without_train(*flags: object) -> Callable[[Ground], Words]:
    return lambda ground: [*distilling(ground.teacher, ground.out), *flags]


def with_control(more: Callable[[Ground], Words]) -> Callable[[Ground], Words]:
    return lambda ground: [*with_flags("--control", "pretrained")(ground), *more(ground)]


def label(word: str, text: str = "a good film") -> dict[str, object]:
    return {"text": text, "label": word}


def labels_for_texts(ground: Ground) -> Path:
    texts = [label(word, f"{word} film {n}") for n in range(20) for word in ("praise", "blame")]
    return ground.wrote("labelled.jsonl", *texts)


def second_teacher(ground: Ground) -> Path:
    return write_teacher(ground.path / "other", labels=("praise", "blame"))


TEACHERS: Cases = {
    "a teacher without head": (
        lambda ground: [*distilling(ground.encoder, ground.out), "--train", ground.rows],
        ["encoder: the teacher is a bare encoder", "potstill finetune --model", "potstill shrink"],
    ),
    "a teacher without head and without labels": (
        lambda ground: [*distilling(ground.encoder, ground.out), "--unlabelled", ground.rows],
        ["encoder: the teacher is a bare encoder", "potstill finetune --model"],
    ),
    "a teacher that answers with a number": (
        lambda ground: [
            *distilling(write_teacher(ground.path / "number", labels=("stars",)), ground.out),
            *("--train", ground.rows),
        ],
        ["rows.jsonl, line 1, field 'label': 'praise' is not a number", "a finite number"],
    ),
    "no such teacher": (
        lambda ground: [*distilling("no/such/model", ground.out), "--train", ground.rows],
        ["no/such/model: no such folder", "hub:NAME"],
    ),
    "two teachers of different labels": (
        lambda ground: [
            *with_flags("--teacher", second_teacher(ground))(ground),
        ],
        ["other: its labels are praise, blame, those of teacher are blame, praise", "same order"],
    ),
    "a student deeper than the teacher": (
        with_flags("--layers", "5"),
        ["--layers", "5 layers cannot be cut out of 4", "1 to 4"],
    ),
    "a searched student deeper than the teacher": (
        with_flags("--layers", "5", "--choose", "search"),
        ["--layers", "5 layers cannot be cut out of 4", "1 to 4"],
    ),
    "a layer that the teacher does not have": (
        with_flags("--keep", "0,4"),
        ["--keep", "[0, 4]", "0 to 3"],
    ),
    "layers out of order": (with_flags("--keep", "2,0"), ["--keep", "out of order"]),
    "a layer named twice": (with_flags("--keep", "1,1"), ["--keep", "named twice"]),
    "layers in words": (with_flags("--keep", "first,last"), ["--keep", "'first,last'", "0,2,4"]),
    "layers and a contradicting number": (
        with_flags("--keep", "0,1", "--layers", "3"),
        ["--layers 3 and --keep 0,1 do not fit", "leave --layers out"],
    ),
    "an architecture that cannot hold the teacher": (
        lambda ground: [
            *distilling(write_teacher(ground.path / "rough", norm_epsilon=1e-5), ground.out),
            *("--train", ground.rows, "--architecture", "distilbert"),
        ],
        ["--architecture", "norm_epsilon is 1e-05", "--architecture teacher"],
    ),
}
ROWS: Cases = {
    "nothing to learn from": (
        without_train(),
        ["nothing to learn from", "--train", "--unlabelled"],
    ),
    "a training label that the teacher does not know": (
        lambda ground: [
            *distilling(ground.teacher, ground.out, "--dev", ground.rows),
            *("--train", ground.wrote("train.jsonl", label("blame"), label("blam", "a bad film"))),
        ],
        ["train.jsonl, line 2, field 'label'", "'blam'", "blame, praise"],
    ),
    "a dev label that the teacher does not know": (
        lambda ground: [
            *with_flags()(ground),
            *("--dev", ground.wrote("dev.jsonl", label("praise"), label("prase", "a bad film"))),
        ],
        ["dev.jsonl, line 2, field 'label'", "'prase'", "blame, praise"],
    ),
    "a dev label that the teacher does not know, without training labels": (
        lambda ground: [
            *without_train("--unlabelled", ground.rows)(ground),
            *("--dev", ground.wrote("dev.jsonl", label("prase"))),
        ],
        ["dev.jsonl, line 1, field 'label'", "'prase'"],
    ),
    "a column of labels taken for texts": (
        lambda ground: without_train(
            *("--unlabelled", labels_for_texts(ground), "--text-column", "label")
        )(ground),
        ["labelled.jsonl", "'label'", "2 different values in 40 rows", "--text-column"],
    ),
    "a column that is not there": (
        without_train("--unlabelled", "ROWS", "--text-column", "body"),
        ["rows.jsonl", "no column 'body'", "--text-column"],
    ),
    "three training rows and no dev rows": (
        lambda ground: [
            *distilling(ground.teacher, ground.out, "--train"),
            ground.wrote("few.jsonl", *(label("blame", word) for word in WORDS[5:8])),
        ],
        ["few.jsonl", "3 rows are too few", "--dev"],
    ),
    "no such file of texts": (
        without_train("--unlabelled", "no/texts.jsonl"),
        ["no/texts.jsonl"],
    ),
    "unlabelled texts that all stand in the dev rows": (
        lambda ground: without_train("--unlabelled", ground.rows, "--dev", ground.rows)(ground),
        ["rows.jsonl: every text stands in the dev rows", "leave --dev out"],
    ),
    "a search on hardly any text": (
        lambda ground: [
            *without_train("--choose", "search", "--dev", ground.rows)(ground),
            *("--unlabelled", ground.wrote("few.jsonl", *({"text": word} for word in WORDS[5:8]))),
        ],
        ["3 training texts are too few", "12 or more", "--keep"],
    ),
}
CONTROLS: Cases = {
    "a control without its start": (
        with_flags("--control", "pretrained"),
        ["--control", "--pretrained", "--control tuned"],
    ),
    "an unknown control": (
        with_flags("--control", "placebo"),
        ["control is 'placebo'", "pretrained, tuned"],
    ),
    "a control without labels": (
        without_train("--unlabelled", "ROWS", "--control", "tuned"),
        ["a control learns from labels", "--train"],
    ),
    "a pre-trained model of another depth": (
        with_control(
            lambda ground: ["--pretrained", write_encoder(ground.path / "flat", layers=3)]
        ),
        ["flat: its layers is 3, the teacher's 4", "tuned from"],
    ),
    "a pre-trained model of another width": (
        with_control(
            lambda ground: ["--pretrained", write_encoder(ground.path / "wide", hidden_size=64)]
        ),
        ["wide: its hidden_size is 64, the teacher's 32", "tuned from"],
    ),
    "a pre-trained model that is not there": (
        with_control(lambda ground: ["--pretrained", "no/such/model"]),
        ["no/such/model: no such folder"],
    ),
}
OUTPUTS: Cases = {
    "a folder that is not empty": (
        lambda ground: [*distilling(ground.teacher, ground.filled("out")), "--train", ground.rows],
        ["out: the output folder is not empty", "--out"],
    ),
    "a folder of the control that is not empty": (
        lambda ground: [
            *with_flags("--control", "tuned")(ground),
            *(["--seed", "1"] if ground.filled("out-control") else []),
        ],
        ["out-control: the output folder is not empty"],
    ),
    "a file in the place of the run": (
        lambda ground: [
            *with_flags()(ground),
            *(["--seed", "1"] if (ground.path / "out.run").write_text("kept") else []),
        ],
        ["out.run: cannot write", "File exists"],
    ),
}
SETTINGS: Cases = {
    "rates that are no numbers": (
        with_flags("--set", "learning_rates=abc"),
        ["learning_rates is 'abc'", "1e-4,2e-4"],
    ),
    "a rate of 0 among several": (
        with_flags("--set", "learning_rates=1e-4,0"),
        ["learning_rates is 0", "above 0"],
    ),
    "rates of the control that are no numbers": (
        with_flags("--set", "control_learning_rates=1e-4;2e-4"),
        ["'1e-4;2e-4'", "1e-4,2e-4"],
    ),
    "no temperature": (with_flags("--temperature", "0"), ["temperature is 0", "above 0"]),
    "nothing to lose": (
        with_flags("--set", "soft_targets=0", "--set", "hard_labels=0"),
        ["all losses have weight 0", "--set soft_targets=0.9"],
    ),
    "a negative weight": (
        with_flags("--set", "relations=-1"),
        ["relations is -1", "at least 0"],
    ),
    "an unknown choice of layers": (
        with_flags("--choose", "sideways"),
        ["choose is 'sideways'", "even, distilbert, bottom, top, search"],
    ),
    "an unknown architecture": (
        with_flags("--architecture", "gpt"),
        ["architecture is 'gpt'", "auto, teacher, distilbert"],
    ),
    "unknown signals": (with_flags("--set", "signals=smoke"), ["signals is 'smoke'", "stored"]),
    "a map of layers in words": (
        with_flags("--set", "layer_map=first", "--set", "hidden_cosine=1"),
        ["layer_map is 'first'", "even, last", "1:2,2:4,3:6"],
    ),
    "a map to a layer that is not there": (
        with_flags("--set", "layer_map=1:5", "--set", "hidden_mse=1"),
        ["layer_map '1:5'", "of the teacher", "0 to 4"],
    ),
    "an unknown metric": (with_flags("--primary", "beauty"), ["primary is 'beauty'", "macro_f1"]),
    "a metric of an unknown label": (
        with_flags("--primary", "f1:stars"),
        ["no label 'stars'", "f1:blame, f1:praise"],
    ),
    "an unknown recipe": (
        with_flags("--recipe", "nonsense"),
        ["--recipe", "'nonsense'", "standard, aligned, relations, teacher-only, FILE"],
    ),
    "a recipe with a setting that is not there": (
        lambda ground: with_flags("--recipe", recipe_file(ground, "layer = 3\n"))(ground),
        ["recipe.toml: there is no setting 'layer'", "did you mean layers?"],
    ),
    "a setting asked for twice": (
        with_flags("--layers", "2", "--set", "layers=2"),
        ["layers is asked for twice, by --layers and by --set"],
    ),
    "no threads": (with_flags("--threads", "0"), ["--threads"]),
}


def recipe_file(ground: Ground, content: str) -> Path:
    file = ground.path / "recipe.toml"
    file.write_text(content, encoding="utf-8")
    return file


CASES = TEACHERS | ROWS | CONTROLS | OUTPUTS | SETTINGS


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_told_in_one_line_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], ground: Ground, case: str
) -> None:
    spoil, parts = CASES[case]
    words = [ground.rows if word == "ROWS" else word for word in spoil(ground)]
    before = tree_of(ground.path)
    told = said(capsys, *words)
    assert told.status == 2, told.err
    assert [part for part in parts if part not in told.complaint] == [], told.complaint
    assert tree_of(ground.path) == before


def test_the_sound_ground_is_sound(capsys: pytest.CaptureFixture[str], ground: Ground) -> None:
    words = with_control(lambda ground: ["--pretrained", ground.encoder, "--epochs", "1"])(ground)
    assert said(capsys, *words).status == 0
    assert sorted(path.name for path in ground.path.iterdir()) == ["out", "out-control"]


def test_dev_rows_of_three_are_enough(capsys: pytest.CaptureFixture[str], ground: Ground) -> None:
    rows = [label("blame", "bad film"), label("praise"), label("praise", "great film")]
    words = [*with_flags("--epochs", "1", "--json")(ground), "--dev", ground.wrote("dev", *rows)]
    words[-1] = words[-1].rename(words[-1].with_suffix(".jsonl"))
    answer = said(capsys, *words).answer
    assert answer["metrics"]["accuracy"]["value"] in {0.0, 1 / 3, 2 / 3, 1.0}


def test_training_rows_of_one_class_cannot_be_tuned_on(
    capsys: pytest.CaptureFixture[str], ground: Ground
) -> None:
    rows = ground.wrote("one.jsonl", *(label("praise", word) for word in WORDS[5:30]))
    before = tree_of(ground.path)
    told = said(capsys, *finetuning(ground.encoder, rows, ground.out, "--dev", ground.rows))
    assert told.status == 2
    assert "one.jsonl, field 'label': there is only one class, 'praise'" in told.complaint
    assert tree_of(ground.path) == before


def test_training_rows_of_one_class_can_be_distilled_on(
    capsys: pytest.CaptureFixture[str], ground: Ground
) -> None:
    rows = ground.wrote("one.jsonl", *(label("praise", word) for word in WORDS[5:30]))
    words = distilling(ground.teacher, ground.out, "--train", rows, "--dev", ground.rows)
    answer = said(capsys, *words, "--epochs", "1", "--json").answer
    assert json.loads((ground.out / "config.json").read_bytes())["id2label"]["0"] == "blame"
    assert answer["steps"] == 1
