"""Wrong input: one line, status 2, and nothing is written or lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import potstill
from potstill.bundle.weights import WEIGHTS_FILE
from potstill.errors import DataError, InputError, PotstillError
from potstill.hardware import cpu_has_bf16
from tests.command_line import finetuning, said, tree_of, write_jsonl, write_rows
from tests.folders import write_tiny_model
from tests.tiny import WORDS


@dataclass(frozen=True, slots=True)
class Ground:
    """A folder with a sound model and sound rows, for a case to spoil."""

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def rows(self) -> Path:
        return self.path / "rows.jsonl"

    @property
    def out(self) -> Path:
        return self.path / "out"

    def wrote(self, name: str, content: str | bytes) -> Path:
        """Write a file and return its path."""
        content = content.encode() if isinstance(content, str) else content
        (self.path / name).write_bytes(content)
        return self.path / name


Words = list[object]
Cases = dict[str, tuple[Callable[[Ground], Words], list[str]]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_tiny_model(folder / "model")
    (folder / "model" / "potstill.json").unlink()  # its hashes would tell each change first
    write_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture
def ground(sound: Path, tmp_path: Path) -> Ground:
    shutil.copytree(sound / "model", tmp_path / "model")
    shutil.copy(sound / "rows.jsonl", tmp_path / "rows.jsonl")
    return Ground(tmp_path)


def training_on(content: str | bytes) -> Callable[[Ground], Words]:
    return lambda ground: finetuning(ground.model, ground.wrote("bad.jsonl", content), ground.out)


def with_flags(*flags: object) -> Callable[[Ground], Words]:
    return lambda ground: [*finetuning(ground.model, ground.rows, ground.out), *flags]


def named_model(name: str) -> Callable[[Ground], Words]:
    return lambda ground: finetuning(name, ground.rows, ground.out)


def with_recipe(content: str) -> Callable[[Ground], Words]:
    return lambda ground: [
        *finetuning(ground.model, ground.rows, ground.out),
        *("--recipe", ground.wrote("recipe.toml", content)),
    ]


def writing_to(prepare: Callable[[Ground], Path]) -> Callable[[Ground], Words]:
    return lambda ground: finetuning(ground.model, ground.rows, prepare(ground))


def embedding_to(name: str) -> Callable[[Ground], Words]:
    return lambda ground: [
        *("embed", ground.model, "--input", ground.rows),
        *("--output", ground.path / name),
    ]


def changed_config(**changes: object) -> Callable[[Path], object]:
    def spoil(model: Path) -> None:
        file = model / "config.json"
        config = json.loads(file.read_text(encoding="utf-8")) | changes
        file.write_text(json.dumps(config), encoding="utf-8")

    return spoil


def cut_weights(model: Path) -> None:
    content = (model / WEIGHTS_FILE).read_bytes()
    (model / WEIGHTS_FILE).write_bytes(content[: len(content) // 2])


def endless_header(model: Path) -> None:
    content = (model / WEIGHTS_FILE).read_bytes()
    told = np.array([len(content)], dtype="<u8").tobytes()
    (model / WEIGHTS_FILE).write_bytes(told + content[8:])


def pickle_alone(model: Path) -> None:
    (model / WEIGHTS_FILE).rename(model / "pytorch_model.bin")


def one_more_word(model: Path) -> None:
    file = model / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"]["vocab"]["superfluous"] = len(WORDS)
    file.write_text(json.dumps(content), encoding="utf-8")


def broken_tokenizer(model: Path) -> None:
    content = (model / "tokenizer.json").read_bytes()
    (model / "tokenizer.json").write_bytes(content[:-40])


def full_folder(ground: Ground) -> Path:
    ground.out.mkdir()
    ground.wrote("out/precious.txt", "kept")
    return ground.out


def link_to_nothing(ground: Ground) -> Path:
    ground.out.symlink_to(ground.path / "nothing")
    return ground.out


def run_folder_is_a_file(ground: Ground) -> Path:
    ground.wrote("out.run", "kept")
    return ground.out


PRECISIONS = ("auto", "fp32", "bf16") if cpu_has_bf16() else ("auto", "fp32")
SAME = '{"text": "a film", "label": "x"}\n'

ROWS: Cases = {
    "no such file": (
        lambda ground: finetuning(ground.model, ground.path / "row.jsonl", ground.out),
        ["row.jsonl: there is no such file", "did you mean", "rows.jsonl"],
    ),
    "an empty file": (training_on(""), ["bad.jsonl: the file is empty"]),
    "a file of an unknown kind": (
        lambda ground: finetuning(ground.model, ground.wrote("rows.xls", "x"), ground.out),
        ["rows.xls", ".jsonl"],
    ),
    "a folder for a file": (
        lambda ground: finetuning(ground.model, ground.model, ground.out),
        ["this is a folder", "name one file"],
    ),
    "a wrong column": (
        training_on('{"sentence": "a", "label": "b"}\n'),
        ["bad.jsonl", "no column 'text'", "sentence, label", "--text-column"],
    ),
    "a wrong column of labels": (
        training_on('{"text": "a", "class": "b"}\n'),
        ["bad.jsonl", "no column 'label'", "text, class", "--label-column"],
    ),
    "a column that a flag names": (
        with_flags("--text-column", "body"),
        ["rows.jsonl", "no column 'body'", "text, label", "--text-column"],
    ),
    "bad JSON": (training_on(SAME * 4 + '{"text": }\n'), ["bad.jsonl, line 5, column 10"]),
    "not UTF-8": (
        training_on(SAME.encode() + b'{"text": "b\xe9", "label": "x"}\n'),
        ["bad.jsonl, line 2", "0xe9", "UTF-8", "iconv"],
    ),
    "a row without label": (
        training_on(SAME + '{"text": "a film"}\n'),
        ["bad.jsonl, line 2, field 'label'", "empty", "leave the row out"],
    ),
    "a text that is a number": (
        training_on(SAME + '{"text": 7, "label": "x"}\n'),
        ["bad.jsonl, line 2, field 'text'", "7 is not a string"],
    ),
    "a dev label unknown to train": (
        lambda ground: [
            *finetuning(ground.model, ground.rows, ground.out),
            *("--dev", write_jsonl(ground.path / "dev.jsonl", {"text": "a", "label": "blam"})),
        ],
        ["dev.jsonl, line 1, field 'label'", "'blam'", "blame, praise"],
    ),
    "one class alone": (
        training_on("".join(f'{{"text": "{word}", "label": "x"}}\n' for word in WORDS[5:30])),
        ["bad.jsonl, field 'label'", "only one class, 'x'", "two or more"],
    ),
    "a text of its own on every row as label": (
        training_on("".join(f'{{"text": "{n}", "label": "l{n}"}}\n' for n in range(200))),
        ["bad.jsonl, field 'label'", "200 classes in 200 rows", "--label-column"],
    ),
    "one text alone": (
        training_on((SAME + SAME.replace('"x"', '"y"')) * 15),
        ["bad.jsonl", "same text"],
    ),
}
NAMES_OF_MODELS: Cases = {
    "no such folder": (named_model("no/such/model"), ["no/such/model: no such folder", "hub:"]),
    "a file for a folder": (
        lambda ground: finetuning(ground.rows, ground.rows, ground.out),
        ["rows.jsonl: this is a file", "folder it lies in"],
    ),
    "a hub name without a name": (named_model("hub:"), ["no name of a model", "hub:NAME"]),
    "a hub name with three parts": (named_model("hub:a/b/c"), ["'a/b/c'", "hub:ORGANIZATION/NAME"]),
    "a hub name that climbs": (named_model("hub:../up"), ["'../up'", "hub:NAME"]),
}
OUTPUTS: Cases = {
    "a folder that is not empty": (
        writing_to(full_folder),
        ["out: the output folder is not empty", "--out"],
    ),
    "a file where the folder goes": (
        writing_to(lambda ground: ground.rows),
        ["rows.jsonl: the output is a file", "--out"],
    ),
    "a link where the folder goes": (writing_to(link_to_nothing), ["out: the output is a link"]),
    "the folder one stands in": (
        writing_to(lambda ground: Path()),
        [".: the output is the folder one stands in", "--out"],
    ),
    "below a file": (
        writing_to(lambda ground: ground.rows / "out"),
        ["rows.jsonl is a file, not a folder"],
    ),
    "a file in the place of the run": (
        writing_to(run_folder_is_a_file),
        ["out.run: cannot write", "File exists"],
    ),
    "vectors of an unknown kind": (embedding_to("v.txt"), ["v.txt", "'.txt'", "allowed: .npy"]),
    "vectors below a folder that is not there": (
        embedding_to("no/v.npy"),
        ["no/v.npy", "does not exist", "mkdir -p"],
    ),
}
SETTINGS: Cases = {
    "no epoch": (with_flags("--epochs", "0"), ["epochs is 0", "above 0"]),
    "epochs without end": (with_flags("--epochs", "inf"), ["epochs is inf", "below inf"]),
    "a rate that is no number": (
        with_flags("--learning-rate", "nan"),
        ["learning_rate is nan", "above 0"],
    ),
    "a setting that is not there": (
        with_flags("--set", "nonsense=1"),
        ["--set: there is no setting 'nonsense'", "epochs, rows_per_step", "dev_share"],
    ),
    "a setting spelled wrong": (
        with_flags("--set", "wamup_share=0.1"),
        ["--set: there is no setting 'wamup_share'", "did you mean warmup_share?"],
    ),
    "a word for a number": (
        with_flags("--set", "epochs=abc"),
        ["--set: epochs is 'abc'", "a number"],
    ),
    "a part of a row": (
        with_flags("--set", "rows_per_step=1.5"),
        ["--set: rows_per_step is '1.5'", "a whole number"],
    ),
    "a setting without value": (with_flags("--set", "epochs"), ["--set: 'epochs' is not name="]),
    "a seed that is too great": (with_flags("--seed", 2**63), ["seed is 9223372036854775808"]),
    "an unknown device": (with_flags("--device", "tpu"), ["'tpu'", "auto, cpu, cuda, mps"]),
    "an unknown task": (with_flags("--task", "nonsense"), ["task is 'nonsense'", "classification"]),
    "an unknown pooling": (with_flags("--pooling", "max"), ["pooling is 'max'", "first, mean"]),
    "an unknown precision": (
        lambda ground: [
            *("embed", ground.model, "--input", ground.rows),
            *("--output", ground.path / "v.npy", "--precision", "int3"),
        ],
        ["precision is 'int3' on", f"allowed: {', '.join(PRECISIONS)} with"],
    ),
    "a recipe that is not TOML": (with_recipe("epochs = = 3\n"), ["recipe.toml", "not TOML"]),
    "a recipe with a list": (with_recipe("epochs = [3]\n"), ["recipe.toml: epochs is [3]"]),
    "a recipe with a seed without end": (with_recipe("seed = inf\n"), ["recipe.toml: seed is inf"]),
    "a recipe with a setting that is not there": (
        with_recipe("epoch = 3\n"),
        ["recipe.toml: there is no setting 'epoch'", "did you mean epochs?"],
    ),
    "no such recipe": (
        with_flags("--recipe", "no/recipe.toml"),
        ["no/recipe.toml: no such recipe file"],
    ),
}


CASES = ROWS | NAMES_OF_MODELS | OUTPUTS | SETTINGS

# What was done to the folder of a model, and what is told of it.
DAMAGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no config.json": (
        lambda model: (model / "config.json").unlink(),
        ["config.json is missing", "name the folder"],
    ),
    "no weights": (
        lambda model: (model / WEIGHTS_FILE).unlink(),
        ["model", "model.safetensors"],
    ),
    "cut weights": (cut_weights, ["model.safetensors", "again"]),
    "a header longer than the file": (
        endless_header,
        ["model.safetensors", "header", "bytes", "again"],
    ),
    "pickles alone": (pickle_alone, ["pytorch_model.bin", "pickle", "--allow-pickle"]),
    "code in the config": (
        changed_config(auto_map={"AutoModel": "modeling.Evil"}),
        ["config.json", "auto_map"],
    ),
    "an unknown kind of model": (
        changed_config(model_type="gpt2"),
        ["config.json", "'gpt2'", "bert"],
    ),
    "a config that is not JSON": (
        lambda model: (model / "config.json").write_text("{"),
        ["config.json, line 1", "not JSON"],
    ),
    "weights of another width": (
        changed_config(hidden_size=36),
        ["model", "shape", "(64, 32)"],
    ),
    "more tokens than rows": (
        one_more_word,
        [f"{len(WORDS) + 1} tokens", f"{len(WORDS)} rows", "saved with these weights"],
    ),
    "a broken tokenizer": (broken_tokenizer, ["tokenizer.json", "again"]),
    "no tokenizer": (
        lambda model: [
            (model / name).unlink()
            for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
        ],
        ["model", "vocab.txt"],
    ),
}


# What leaves enough of a model for `info` to describe it, with a warning.
LEFT_TO_DESCRIBE = {
    "weights of another width",
    "more tokens than rows",
    "a broken tokenizer",
    "no tokenizer",
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_told_in_one_line_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], ground: Ground, case: str
) -> None:
    spoil, parts = CASES[case]
    words = spoil(ground)
    before = tree_of(ground.path)
    told = said(capsys, *words)
    assert told.status == 2
    assert [part for part in parts if part not in told.complaint] == [], told.complaint
    assert tree_of(ground.path) == before


@pytest.mark.parametrize("verb", ["finetune", "embed", "info"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_told_by_every_verb(
    capsys: pytest.CaptureFixture[str], ground: Ground, damage: str, verb: str
) -> None:
    spoil, parts = DAMAGES[damage]
    spoil(ground.model)
    before = tree_of(ground.path)
    words: Words = {
        "finetune": finetuning(ground.model, ground.rows, ground.out),
        "embed": ["embed", ground.model, "--input", ground.rows, "--output", ground.path / "v.npy"],
        "info": ["info", ground.model],
    }[verb]
    told = said(capsys, *words)
    if verb == "info" and damage in LEFT_TO_DESCRIBE:
        assert told.status == 0
        assert told.err.startswith("potstill: warning: ")
    else:
        assert told.status == 2
        assert told.complaint
    assert len(told.err.splitlines()) == 1
    assert [part for part in parts if part not in told.err] == [], told.err
    assert tree_of(ground.path) == before


def test_the_sound_ground_is_sound(capsys: pytest.CaptureFixture[str], ground: Ground) -> None:
    words = [*finetuning(ground.model, ground.rows, ground.out), "--epochs", "1"]
    assert said(capsys, *words).status == 0


def test_a_card_that_is_not_there_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ground: Ground
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = tree_of(ground.path)
    told = said(capsys, *with_flags("--device", "cuda")(ground))
    assert told.status == 2
    assert "--device is cuda" in told.complaint
    assert "--device cpu" in told.complaint
    assert tree_of(ground.path) == before


@pytest.mark.parametrize("verb", ["finetune", "embed"])
def test_a_place_without_permission_is_told_before_the_work(
    capsys: pytest.CaptureFixture[str], ground: Ground, locked: Path, verb: str
) -> None:
    words = {
        "finetune": finetuning(ground.model, ground.rows, locked / "out"),
        "embed": ["embed", ground.model, "--input", ground.rows, "--output", locked / "v.npy"],
    }[verb]
    told = said(capsys, *words)
    assert told.status == 2
    assert f"no permission to write in {locked}" in told.complaint
    assert "choose another place" in told.complaint
    assert list(locked.iterdir()) == []


@pytest.fixture(params=["as the system says", "as access says"])
def locked(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Give a folder that cannot be written; root can write all but what is immutable."""
    folder = tmp_path / "locked"
    folder.mkdir()
    if request.param == "as access says":
        real = os.access
        monkeypatch.setattr(
            os, "access", lambda path, mode: Path(path) != folder and real(path, mode)
        )
        yield folder
        return
    is_root = os.geteuid() == 0
    lock, unlock = (
        (["chattr", "+i"], ["chattr", "-i"]) if is_root else (["chmod", "555"], ["chmod", "755"])
    )
    try:
        subprocess.run([*lock, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("root, and a file system without immutable folders")
    try:
        yield folder
    finally:
        subprocess.run([*unlock, folder], check=True)


def test_predict_on_a_bare_encoder_names_the_way_to_a_task(ground: Ground) -> None:
    model = potstill.load(ground.model, precision="fp32")
    with pytest.raises(InputError) as caught:
        model.predict(["a film"])
    line = one_line(caught.value)
    assert str(ground.model) in line
    assert "bare encoder" in line
    assert "potstill finetune" in line


def test_one_string_for_a_list_of_texts_is_refused(ground: Ground) -> None:
    with pytest.raises(DataError, match=r"texts is one string.*a list of strings.*\[text\]"):
        potstill.load(ground.model, precision="fp32").embed("a film")


@pytest.mark.parametrize("item", [7, None, b"a film", ["a", "film"]])
def test_an_item_that_is_not_a_string_is_told_with_its_place(ground: Ground, item: object) -> None:
    with pytest.raises(DataError) as caught:
        potstill.load(ground.model, precision="fp32").embed(["a film", item])
    assert "item 1" in one_line(caught.value)
    assert type(item).__name__ in one_line(caught.value)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"epoch": 3}, "did you mean epochs?"),
        ({"epochs": "three"}, "epochs is 'three'"),
        ({"answers_column": "t"}, "there is no setting 'answers_column'"),
        ({"threads": 0}, "threads is 0"),
        ({"text_column": "body"}, "no column 'body'"),
    ],
)
def test_the_library_says_the_same_of_its_settings(
    ground: Ground, settings: dict[str, object], part: str
) -> None:
    with pytest.raises(InputError) as caught:
        potstill.finetune(ground.model, ground.rows, ground.out, **settings)
    assert part in one_line(caught.value)
    assert not ground.out.exists()


def one_line(error: PotstillError) -> str:
    assert error.exit_status == 2
    (line,) = str(error).splitlines()
    return line
