"""`potstill distill --corpus`: exact start, presets, a run that is worth it, wrong inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import potstill
from potstill.distillation.general_objective import GeneralBatch, GeneralObjective, Heard
from potstill.errors import InputError, RecipeError, Stopped
from potstill.locks import locked
from potstill.losses.vocabulary import Decoder, TopWords
from potstill.recipe import settings_from_toml, with_settings
from potstill.train import loop
from potstill.train.progress import Meter, Progress
from potstill.train.schedule import Schedule
from potstill.workflows.general_distill import GeneralInputs, distill_general
from potstill.workflows.general_recipe import PRESETS, GeneralRecipe
from potstill.workflows.passages import CorpusSources
from tests.command_line import require_undelivered, said
from tests.conftest import REPOSITORY
from tests.corpora import write_patterns
from tests.folders import write_tiny_model

SMALL = {
    "max_length": 32,
    "step_tokens": 512,
    "batch_tokens": 256,
    "held_out_documents": 10,
    "scores": 2,
    "precision": "fp32",
}
FLAGS = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a masked-LM teacher that has learned a little, and its corpus."""
    folder = tmp_path_factory.mktemp("general")
    write_tiny_model(folder / "bare")
    write_patterns(folder / "texts.txt")
    potstill.finetune(
        *(folder / "bare", folder / "texts.txt", folder / "teacher"),
        task="masked-lm",
        threads=1,
        **SMALL | {"epochs": 30, "learning_rate": 5e-3, "step_tokens": 256},
    )
    return folder


def words_of(ground: Path, out: Path, *more: object) -> list[object]:
    return [
        *("distill", "--teacher", ground / "teacher", "--corpus", ground / "teacher.corpus"),
        *("--out", out, "--threads", "1", *FLAGS, *more),
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_teaches_a_student_more_than_its_cut_knew(
    preset: str, capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "out", "--recipe", preset, "--epochs", "6", "--json")
    answer = said(capsys, *words, "--learning-rate", "2e-3").answer
    start, end = answer["start"]["student"], answer["held_out"]
    for name, value in end.items():
        assert value < start[name], name
    assert answer["layers_kept"] == [0]
    facts = said(capsys, "info", tmp_path / "out", "--json").answer
    assert (facts["task"], facts["layers"]) == ("masked-lm", 1)
    assert facts["lineage"]["verb"] == "distill"
    assert facts["fingerprint"] == answer["fingerprint"]


def test_what_comes_out_is_a_distilbert_that_transformers_loads_and_finetune_takes(
    ground: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    potstill.distill(
        *(ground / "teacher", tmp_path / "out"),
        corpus=ground / "texts.txt",
        threads=1,
        **SMALL | {"epochs": 3, "learning_rate": 2e-3},
    )
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "DistilBertForMaskedLM"
    rows = [{"text": f"good word{n}", "label": "a"} for n in range(20)]
    rows += [{"text": f"bad word{n}", "label": "b"} for n in range(20)]
    found = potstill.finetune(tmp_path / "out", rows, tmp_path / "tuned", epochs=1.0, threads=1)
    assert found.task == "classification"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_narrower_student_learns_through_a_map_that_is_not_kept(
    preset: str, capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "out", "--recipe", preset, "--set", "width=16")
    answer = said(capsys, *words, "--epochs", "6", "--learning-rate", "2e-3", "--json").answer
    for name, value in answer["held_out"].items():
        assert value < answer["start"]["student"][name], name
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert not [name for name in tensors if "to_teacher" in name]
    facts = said(capsys, "info", tmp_path / "out", "--json").answer
    assert (facts["layers"], facts["hidden_size"]) == (1, 16)


def test_a_width_that_is_no_multiple_of_the_teachers_heads_asks_for_no_setting(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "out", "--set", "width=24")  # 3 heads, of 32 and 4
    answer = said(capsys, *words, "--epochs", "6", "--learning-rate", "2e-3", "--json").answer
    assert answer["held_out"]["relations"] < answer["start"]["student"]["relations"]


def test_a_distilbert_reads_the_corpus_that_its_bert_has_built(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "student", "masked-lm", task="masked-lm", family="distilbert")
    words = ["finetune", "--task", "masked-lm", "--model", tmp_path / "student", "--threads", "1"]
    words += ["--train", ground / "teacher.corpus", "--out", tmp_path / "out", *FLAGS]
    assert said(capsys, *words, "--json").answer["task"] == "masked-lm"


def test_the_table_shows_cut_student_and_teacher(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    more = ("--recipe", "distilbert", "--epochs", "3", "--learning-rate", "2e-3")
    told = said(capsys, *words_of(ground, tmp_path / "out", *more))
    lines = [line.split("\t") for line in told.out.splitlines()]
    assert ["held-out text", "the cut", "student", "teacher"] in lines
    assert [line[0] for line in lines[1:5]] == [
        *("soft_targets", "masked_lm", "hidden_cosine", "held_out_loss")
    ]


@pytest.mark.parametrize("settings", [{}, {"width": 16}, {"signals": "stored"}], ids=str)
def test_stopped_and_resumed_it_ends_with_the_same_weights(
    settings: dict[str, Any], ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter, "is_due", property(lambda meter: True))
    recipe = replace(PRESETS["potstill"](), epochs=2.0, checkpoint_every_s=0, **SMALL | settings)
    inputs = GeneralInputs(
        teacher=ground / "teacher", corpus=CorpusSources(files=[ground / "teacher.corpus"])
    )

    def stop(progress: Progress) -> None:
        if progress.losses and progress.step == 5:
            raise Stopped("stopped by the test")

    whole = distill_general(inputs, recipe, out=tmp_path / "whole", threads=1)
    with pytest.raises(Stopped):
        distill_general(inputs, recipe, out=tmp_path / "cut", threads=1, listeners=(stop,))
    resumed = distill_general(inputs, recipe, out=tmp_path / "cut", threads=1)
    assert resumed.details["resumed_from"] is not None
    assert resumed.fingerprint == whole.fingerprint


def test_a_stored_teacher_is_asked_once_for_several_runs(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    more = ("--set", "signals=stored", "--signals-folder", tmp_path / "said", "--epochs", "6")
    more += ("--learning-rate", "2e-3", "--recipe", "distilbert")
    first = said(capsys, *words_of(ground, tmp_path / "1", *more, "--json"))
    assert "passages the teacher spoke of" in first.err
    for name, value in first.answer["held_out"].items():
        assert value < first.answer["start"]["student"][name], name
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "said").rglob("*")}
    other = ("--set", "masked_lm=1", "--seed", "0")
    with locked(tmp_path / "said"):  # what is whole is read, whoever holds it
        second = said(capsys, *words_of(ground, tmp_path / "2", *more, *other, "--json"))
    assert second.status == 0
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "said").rglob("*")}
    third = said(capsys, *words_of(ground, tmp_path / "3", *more, "--temperature", "3"))
    assert third.status == 2
    assert "the guesses of another teacher, corpus or settings" in third.err


def test_guesses_of_other_passages_are_refused_and_foreign_files_are_left_alone(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    texts = (ground / "texts.txt").read_text().splitlines()
    signals = tmp_path / "said"
    more = ["--set", "signals=stored", "--signals-folder", signals, "--epochs", "6"]
    more += ["--learning-rate", "2e-3"]
    (signals / "part-00").mkdir(parents=True)
    (signals / "part-00" / "ids.bin").write_bytes(b"my own file")
    told = said(capsys, *words_of(ground, tmp_path / "0", *more))
    assert told.status == 2
    assert "something else than a teacher's guesses stands here: part-00" in told.complaint
    assert (signals / "part-00" / "ids.bin").read_bytes() == b"my own file"
    (signals / "part-00" / "ids.bin").unlink()
    with locked(signals):
        told = said(capsys, *words_of(ground, tmp_path / "0", *more))
    assert told.status == 2
    assert f"said: another run is writing here (process {os.getpid()})" in told.complaint
    assert "wait for it, or name another --signals-folder" in told.complaint
    for name, status in [(5, 0), (80, 2)]:
        (tmp_path / "rows.jsonl").write_text(json.dumps({"text": texts[name]}) + "\n")
        words = words_of(ground, tmp_path / f"{name}", *more)
        told = said(capsys, *words, "--evaluation", tmp_path / "rows.jsonl")
        assert told.status == status, told.err
    assert "the guesses of another teacher, corpus or settings" in told.err


@pytest.mark.parametrize("kept", [8, 64])  # of 64 words
def test_a_stored_teacher_teaches_as_a_live_one_whose_other_words_are_one(
    kept: int,
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def heard(objective: GeneralObjective, batch: GeneralBatch, places: torch.Tensor) -> Heard:
        said_now = objective.ask(batch, places)
        if batch.stored is None:  # held-out text
            return said_now
        assert isinstance(said_now.words, Decoder)
        logits = said_now.words.logits(torch.arange(len(places)), torch.float32)
        found = torch.log_softmax(logits / objective.temperature, dim=-1).topk(kept, dim=-1)
        return replace(said_now, words=TopWords(found.indices, found.values))

    more = ("--recipe", "potstill", "--epochs", "4", "--learning-rate", "2e-3", "--json")
    more += ("--set", "signals=stored", "--set", f"top_words={kept}")
    stored = said(capsys, *words_of(ground, tmp_path / "stored", *more)).answer
    assert not (tmp_path / "stored.run").exists()
    monkeypatch.setattr(GeneralObjective, "_heard", heard)  # at the same hidden tokens
    live = said(capsys, *words_of(ground, tmp_path / "live", *more)).answer
    start = stored["start"]["student"]
    for name, value in stored["held_out"].items():
        assert value == pytest.approx(live["held_out"][name], rel=2e-3), name
        assert value < start[name], name


def test_another_recipe_or_corpus_on_resume_is_refused_with_the_difference(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter, "is_due", property(lambda meter: True))
    recipe = replace(PRESETS["potstill"](), epochs=2.0, checkpoint_every_s=0, **SMALL)
    corpus = CorpusSources(files=[ground / "teacher.corpus"])
    inputs = GeneralInputs(teacher=ground / "teacher", corpus=corpus)

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise Stopped("stopped by the test")

    out = tmp_path / "out"
    with pytest.raises(Stopped):
        distill_general(inputs, recipe, out=out, threads=1, listeners=(stop,))
    kept = {file.name: file.read_bytes() for file in (tmp_path / "out.run").iterdir()}
    other = replace(recipe, learning_rate=1e-3, temperature=3.0)
    with pytest.raises(RecipeError) as told:
        distill_general(inputs, other, out=out, threads=1)
    assert "learning_rate 0.0005 there, 0.001 asked for" in str(told.value)
    assert "temperature 2.0 there, 3.0 asked for" in str(told.value)
    first = (ground / "texts.txt").read_text().splitlines()[0]
    fewer = replace(corpus, evaluation=[[{"text": first}]])
    with pytest.raises(RecipeError, match="another corpus"):
        distill_general(replace(inputs, corpus=fewer), recipe, out=out, threads=1)
    assert {name: (tmp_path / "out.run" / name).read_bytes() for name in kept} == kept


def test_resumed_with_another_number_of_processes_it_says_so(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter, "is_due", property(lambda meter: True))
    recipe = replace(
        PRESETS["potstill"](), epochs=3.0, learning_rate=2e-3, checkpoint_every_s=0.0, **SMALL
    )
    inputs = GeneralInputs(
        teacher=ground / "teacher", corpus=CorpusSources(files=[ground / "teacher.corpus"])
    )

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise Stopped("stopped by the test")

    out = tmp_path / "out"
    with pytest.raises(Stopped):
        distill_general(inputs, recipe, out=out, threads=1, listeners=(stop,))
    more = ("--recipe", "potstill", "--epochs", "3", "--learning-rate", "2e-3", "--json")
    command = [
        *[sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"],
        *["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"],
        *["-m", "potstill", *map(str, words_of(ground, out, *more))],
        *["--set", "checkpoint_every_s=0"],
    ]
    told = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    assert answer["resumed_from"] >= 1
    assert any("processes 2, begun with 1" in warning for warning in answer["warnings"])


@pytest.mark.parametrize(
    ("preset", "setting"),
    [
        ("potstill", "signals=live"),
        ("potstill", "signals=stored"),
        ("relations", "weight_decay=0.5"),  # what is not learned must not decay in either
    ],
)
def test_two_processes_give_the_student_of_one(
    capsys: pytest.CaptureFixture[str],
    preset: str,
    setting: str,
    ground: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = ["--recipe", preset, "--epochs", "3", "--learning-rate", "2e-3", "--set", setting]
    if setting == "signals=stored":  # named: written once, kept, and found again by the second
        more += ["--signals-folder", str(tmp_path / "signals")]
    both = [
        *[sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"],
        *["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"],
        *["-m", "potstill", *map(str, words_of(ground, tmp_path / "2", *more))],
    ]
    told = subprocess.run(both, capture_output=True, text=True, timeout=240)
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "signals").is_dir() == (setting == "signals=stored")
    if setting != "signals=stored":  # hidden anew in each micro-batch: of steps cut as theirs are
        monkeypatch.setattr(loop, "Schedule", lambda *parts: Schedule(*parts[:2], processes=2))
    assert said(capsys, *words_of(ground, tmp_path / "1", *more)).status == 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("1", "2"))
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, atol=1e-5)


def test_a_run_that_is_worse_than_its_cut_fails_loudly(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = words_of(ground, out, "--epochs", "0.5", "--learning-rate", "3")
    worse = "no better than the cut it began from"
    cure = f"remove {out}.run, or name another --out, and lower"
    require_undelivered(capsys, words, out, worse, cure)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--train", "x.jsonl"), "--train means nothing for general distillation"),
        (("--task", "token-classification"), "--task means nothing for general distillation"),
        (("--label-column", "foo"), "--label-column means nothing for general distillation"),
        (("--text-column", "zzz"), "the text column 'zzz' means nothing for a corpus that was"),
        (("--epochs", "1", "--set", "tokens=9"), "epochs and tokens are both asked for"),
        (("--set", "scores_per_epoch=2"), "scores_per_epoch means nothing for a training on a"),
        (
            ("--recipe", "relations", "--set", "relations=0"),
            "all losses have weight 0; allowed: soft_targets, masked_lm, hidden_cosine, relations",
        ),
        (("--control", "tuned"), "--control means nothing"),
        (("--teacher", "other"), "there are 2 teachers"),
        (("--set", "relation_layer=9", "--set", "relations=1"), "relation_layer is 9"),
        (("--set", "relation_heads=7", "--set", "relations=1"), "relation_heads is 7"),
        (("--set", "width=12"), "width is 12"),
        (("--set", "signals=told"), "signals is 'told'"),
        (("--signals-folder", "x"), "a folder of signals is named, but the teacher is live"),
        (("--set", "width=16", "--set", "relation_heads=32", "--recipe", "relations"), "of 16"),
        (("--set", "other_share=2"), "other_share is 2"),
        (("--set", "mask_hidden=nan"), "mask_hidden is nan; allowed: at least 0 and at most 1"),
        (
            ("--set", "relations=1e308"),
            "relations is 1e+308; allowed: at least 0 and at most 1e+06",
        ),
        (("--recipe", "potstill", "--temperature", "1e308"), "temperature is 1e+308"),
        (("--set", "mask_smoothing=1e308"), "mask_smoothing is 1e+308"),
        (("--set", f"tokens={10**30}"), f"tokens is {10**30}; allowed: at least 0 and below"),
        (("--set", "temperature=3"), "temperature means nothing with the other settings"),
        (("--recipe", "potstill", "--set", "top_words=9"), "mend it: add --set signals=stored"),
        (("--recipe", "distilbert", "--set", "relation_layer=1"), "add --set relations=…"),
        (("--layers", "5"), "a student of 5 layers"),
        (("--keep", "0,1", "--layers", "1"), "do not fit together"),
        (("--recipe", "tinybert"), "there is no recipe 'tinybert'"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    more: tuple[str, ...],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
) -> None:
    told = said(capsys, *words_of(ground, tmp_path / "out", *more))
    assert told.status == 2
    assert complaint in told.complaint
    assert not (tmp_path / "out").exists()


def test_a_library_call_refuses_what_means_nothing_but_takes_a_whole_recipe(
    ground: Path, tmp_path: Path
) -> None:
    def asked(**more: Any) -> None:
        paths = (ground / "teacher", tmp_path / "out")
        potstill.distill(*paths, corpus=ground / "teacher.corpus", threads=1, **more)

    whole = asdict(PRESETS["relations"]()) | SMALL
    for more, complaint in [
        (whole | {"tokens": 500, "epochs": 2.0}, "epochs and tokens are both asked for"),
        ({"rows_per_step": 8}, "rows_per_step means nothing"),
        ({"label_column": "kind"}, "label_column means nothing for a corpus"),
        ({"task": "ranking"}, "task means nothing for a corpus"),
        (whole | {"tokens": 500, "width": 12}, "width is 12"),  # all before it is accepted
    ]:
        with pytest.raises(InputError, match=complaint):
            asked(**more)


def test_a_teacher_without_a_head_is_told_how_to_get_one(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "out")
    words[words.index(ground / "teacher")] = ground / "bare"
    told = said(capsys, *words)
    assert told.status == 2
    assert "the teacher has no masked-LM head" in told.complaint
    assert f"potstill finetune --task masked-lm --model {ground / 'bare'} " in told.complaint


def test_flags_of_texts_are_refused_without_a_corpus(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = ["distill", "--teacher", ground / "teacher", "--out", tmp_path / "out"]
    told = said(capsys, *words, "--train", "x.jsonl", "--evaluation", "y.jsonl")
    assert told.status == 2
    assert "--evaluation means nothing for task distillation" in told.complaint


def test_a_corpus_of_other_files_is_refused_with_the_difference(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text("good movie " * 20 + "\n")
    words = words_of(ground, tmp_path / "out", "--corpus-folder", ground / "teacher.corpus")
    words[words.index("--corpus") + 1] = tmp_path / "other.txt"
    told = said(capsys, *words)
    assert told.status == 2
    assert "other.txt" in told.complaint


@pytest.mark.parametrize("name", PRESETS)
def test_the_files_of_the_presets_say_what_the_functions_say(name: str) -> None:
    told = settings_from_toml(REPOSITORY / "recipes" / f"general_{name}.toml")
    assert with_settings(GeneralRecipe(), told) == PRESETS[name]()


def test_the_usual_recipe_is_the_cheapest_preset() -> None:
    assert GeneralRecipe() == PRESETS["relations"]()


# What of a paper a preset has, and in which settings it is not the paper's: ours, and the paper's.
FROM_THE_PAPER = {
    "distilbert": {
        **{"soft_targets": 5.0, "masked_lm": 2.0, "hidden_cosine": 1.0, "relations": 0.0},
        **{"temperature": 2.0, "other_share": 1.0, "mask_share": 0.15, "mask_hidden": 0.8},
        **{"mask_random": 0.1, "mask_smoothing": 0.7, "adam_beta1": 0.9, "adam_beta2": 0.98},
        **{"adam_epsilon": 1e-6, "weight_decay": 0.0, "learning_rate": 5e-4, "warmup_share": 0.05},
        **{"clip_norm": 5.0, "choose": "distilbert"},
    },
    "relations": {
        **{"soft_targets": 0.0, "masked_lm": 0.0, "hidden_cosine": 0.0, "relations": 1.0},
        **{"learning_rate": 6e-4, "weight_decay": 0.01, "adam_beta1": 0.9, "adam_epsilon": 1e-6},
    },
}
NOT_FROM_THE_PAPER = {
    "distilbert": {
        "step_tokens": (8_192, 2_048 * 512),
        "max_length": (128, 512),
        "epochs": (1.0, 3.0),
    },
    "relations": {
        "relation_heads": (0, 48),
        "adam_beta2": (0.98, 0.999),
        "warmup_share": (0.05, 4_000 / 400_000),
        "step_tokens": (8_192, 256 * 512),
        "max_length": (128, 512),
    },
}


@pytest.mark.parametrize("name", FROM_THE_PAPER)
def test_a_preset_has_what_it_says_of_its_paper_and_no_more(name: str) -> None:
    found = asdict(PRESETS[name]())
    expected = FROM_THE_PAPER[name]
    assert {setting: found[setting] for setting in expected} == expected
    ours = {setting: values[0] for setting, values in NOT_FROM_THE_PAPER[name].items()}
    assert {setting: found[setting] for setting in ours} == ours


@pytest.mark.parametrize("name", NOT_FROM_THE_PAPER)
def test_where_a_preset_leaves_its_paper_is_told_with_the_lines_that_mend_it(
    name: str, tmp_path: Path
) -> None:
    told = (REPOSITORY / "recipes" / f"general_{name}.toml").read_text()
    lines = [line.removeprefix("# ") for line in told.splitlines() if " = " in line[2:]]
    (tmp_path / "whole.toml").write_text("\n".join(lines))
    whole = with_settings(GeneralRecipe(), settings_from_toml(tmp_path / "whole.toml"))
    theirs = {setting: values[1] for setting, values in NOT_FROM_THE_PAPER[name].items()}
    assert whole == replace(PRESETS[name](), **theirs)
    page = (REPOSITORY / "docs" / "general-distillation.md").read_text()
    for setting in theirs:
        assert setting in str(PRESETS[name].__doc__), setting
        assert f"`{setting}`" in page, setting
