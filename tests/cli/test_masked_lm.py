"""`potstill finetune --task masked-lm`: a head where there is none, from scratch, wrong inputs."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill.errors import Stopped
from potstill.train.held_out import HeldOutLoss
from potstill.train.progress import Meter, Progress
from potstill.workflows.masked_lm import MaskedLMInputs, MaskedLMRecipe, train_masked_lm
from potstill.workflows.passages import CorpusSources
from tests.command_line import require_undelivered, said
from tests.corpora import write_patterns
from tests.folders import write_tiny_model

SMALL = (
    *("--set", "max_length=32", "--set", "step_tokens=256", "--set", "batch_tokens=128"),
    *("--set", "held_out_documents=10", "--set", "scores=3", "--set", "precision=fp32"),
    *("--threads", "1"),
)
LEARNS = ("--epochs", "8", "--learning-rate", "5e-3")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a bare encoder, and texts that repeat a few patterns."""
    folder = tmp_path_factory.mktemp("masked-lm")
    write_tiny_model(folder / "model")
    write_patterns(folder / "texts.txt")
    with lzma.open(folder / "packed.txt.xz", "wt") as stream:
        stream.write("".join((folder / "texts.txt").read_text().splitlines(keepends=True)[::-1]))
    return folder


def words_of(ground: Path, out: Path, *more: object) -> list[object]:
    model, train = ground / "model", ground / "texts.txt"
    return [
        *("finetune", "--task", "masked-lm", "--model", model, "--train", train),
        *("--out", out, *SMALL, *more),
    ]


def test_a_bare_encoder_gets_a_head_that_guesses(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    answer = said(capsys, *words_of(ground, tmp_path / "out", *LEARNS, "--json")).answer
    assert answer["task"] == "masked-lm"
    before, after = answer["before"]["held_out_loss"], answer["metrics"]["held_out_loss"]
    assert after["high"] < before["low"]
    assert answer["metrics"]["perplexity"]["value"] == pytest.approx(np.exp(after["value"]))
    facts = said(capsys, "info", tmp_path / "out", "--json").answer
    assert facts["task"] == "masked-lm"
    assert facts["lineage"]["corpus"] == ["texts.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.corpus"]


def test_transformers_loads_what_was_trained(ground: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    potstill.finetune(
        *(ground / "model", ground / "texts.txt", tmp_path / "out"),
        task="fill-mask",
        threads=1,
        **{"max_length": 32, "step_tokens": 1024, "batch_tokens": 128, "held_out_documents": 10},
    )
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "BertForMaskedLM"


def test_the_corpus_is_used_again_and_further_training_goes_on(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "one", "--epochs", "2", "--json")
    first = said(capsys, *words).answer
    more = ["finetune", "--task", "masked-lm", "--model", tmp_path / "one", "--epochs", "1"]
    more += ["--train", tmp_path / "one.corpus", "--out", tmp_path / "two", *SMALL, "--json"]
    second = said(capsys, *more).answer
    assert second["corpus"] == str(tmp_path / "one.corpus")
    began, ended = second["before"]["held_out_loss"], first["metrics"]["held_out_loss"]
    assert began["value"] == pytest.approx(ended["value"], abs=1e-4)


def test_from_scratch_only_the_tokenizer_is_kept(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "out", "--set", "scratch=16x1", "--epochs", "1")
    said(capsys, *words)
    facts = said(capsys, "info", tmp_path / "out", "--json").answer
    assert (facts["hidden_size"], facts["layers"]) == (16, 1)
    assert facts["lineage"]["model"] == "16x1"


def test_documents_that_hold_evaluation_texts_are_left_out(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    text = (ground / "texts.txt").read_text().splitlines()[3]
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": text, "label": "a"}) + "\n")
    words = words_of(
        ground, tmp_path / "out", "--epochs", "1", "--evaluation", tmp_path / "test.jsonl", "--json"
    )
    answer = said(capsys, *words).answer
    assert any("documents hold evaluation texts" in each for each in answer["warnings"])
    facts = said(capsys, "info", tmp_path / "out", "--json").answer
    assert facts["lineage"]["contaminated_documents"] >= 1


def test_stopped_and_resumed_it_ends_with_the_same_weights(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter, "is_due", property(lambda meter: True))
    recipe = MaskedLMRecipe(
        epochs=2,
        max_length=32,
        step_tokens=256,
        batch_tokens=128,
        held_out_documents=10,
        scores=2,
        checkpoint_every_s=0,
        precision="fp32",
    )
    inputs = MaskedLMInputs(
        model=ground / "model", corpus=CorpusSources(files=[ground / "packed.txt.xz"])
    )

    def stop(progress: Progress) -> None:
        if progress.step == 7 and not progress.run:
            raise Stopped("stopped by the test")

    whole = train_masked_lm(inputs, recipe, out=tmp_path / "whole", threads=1)
    with pytest.raises(Stopped):
        train_masked_lm(inputs, recipe, out=tmp_path / "cut", threads=1, listeners=(stop,))
    resumed = train_masked_lm(inputs, recipe, out=tmp_path / "cut", threads=1)
    assert resumed.details["resumed_from"] is not None
    assert resumed.fingerprint == whole.fingerprint


def test_a_model_too_large_for_any_machine_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    told = said(capsys, *words_of(ground, tmp_path / "out", "--set", "scratch=100000000x2"))
    assert told.status == 1
    assert told.err.splitlines()[-1].startswith("potstill: the machine has no memory left for this")
    assert "Traceback" not in told.err


@pytest.mark.parametrize("error", [RuntimeError("can't allocate memory"), MemoryError()])
def test_memory_that_ends_in_a_score_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def of(*_: object) -> None:
        raise error

    monkeypatch.setattr(HeldOutLoss, "of", of)
    told = said(capsys, *words_of(ground, tmp_path / "out"))
    assert told.status == 1
    assert "potstill: the machine has no memory left for this run; to mend it: use" in told.err


def test_a_model_that_training_made_worse_is_not_delivered(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = words_of(ground, out, "--epochs", "1", "--learning-rate", "1")
    worse = "the model is worse than the one it began from"
    cure = f"remove {out}.run, or name another --out, and lower"
    require_undelivered(capsys, words, out, worse, cure)


def test_a_model_that_is_no_better_by_chance_is_delivered_with_a_warning(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "out", "--epochs", "1", "--learning-rate", "1e-12")
    answer = said(capsys, *words, "--json").answer
    assert any("no better than the one it began from" in each for each in answer["warnings"])


def test_a_run_that_diverges_with_finite_losses_is_stopped_at_a_step(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = words_of(ground, out, "--epochs", "4", "--learning-rate", "3")
    diverged = "the run has diverged: from step"
    require_undelivered(capsys, words, out, diverged, "lower --learning-rate")


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--dev", "x.jsonl"), "--dev means nothing for the task masked-lm"),
        (("--label-column", "zzz"), "--label-column means nothing for the task masked-lm"),
        (("--epochs", "2", "--set", "tokens=9"), "epochs and tokens are both asked for"),
        (("--set", "rows_per_step=2"), "rows_per_step means nothing for a training on a corpus"),
        (("--set", "length_pools=2"), "length_pools means nothing for a training on a corpus"),
        (("--set", "scratch=384x0"), "scratch is '384x0': layers is 0"),
        (("--set", "scratch=101x2"), "scratch is '101x2': hidden_size 101 is not a multiple"),
        (("--set", "scratch=big"), "scratch is 'big'"),
        (("--set", "mask_share=1.5"), "mask_share is 1.5"),
        (("--max-length", "600"), "--max-length"),
        (("--recipe", "unknown"), "there is no recipe 'unknown'"),
        (("--train", "gone.txt"), "gone.txt"),
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
    assert complaint.removeprefix("--") in told.complaint or complaint in told.complaint
    assert "config.json" not in told.complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "more", "complaint"),
    [
        ("rows_per_step = 7\n", (), "rows_per_step means nothing for a training on a corpus"),
        ("tokens = 5_000\n", ("--epochs", "1"), "epochs and tokens are both asked for"),
    ],
)
def test_what_means_nothing_is_refused_in_a_recipe_file_too(
    content: str,
    more: tuple[str, ...],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "own.toml").write_text(content)
    words = words_of(ground, tmp_path / "out", "--recipe", str(tmp_path / "own.toml"), *more)
    told = said(capsys, *words)
    assert told.status == 2
    assert complaint in told.complaint


def test_more_documents_held_out_than_there_are_names_the_setting(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "out")
    words[words.index("held_out_documents=10")] = "held_out_documents=5000"
    told = said(capsys, *words)
    assert told.status == 2
    assert "5,000 of" in told.err
    assert "--set held_out_documents=N" in told.err


def test_texts_too_short_for_a_passage_are_counted_and_told(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    texts = (ground / "texts.txt").read_text().splitlines()
    short = [" ".join(line.split()[:7]) for line in texts[:20]]
    (tmp_path / "some.txt").write_text("\n".join([*texts, *short]) + "\n")
    words = words_of(ground, tmp_path / "out", "--epochs", "1", "--json")
    words[words.index(ground / "texts.txt")] = tmp_path / "some.txt"
    answer = said(capsys, *words).answer
    assert answer["short_documents"] == 20
    assert answer["short_pieces"] == 20
    assert answer["short_tokens"] == 140
    assert any("20 of" in each and "fewer than 12 tokens" in each for each in answer["warnings"])


def test_loss_and_perplexity_are_printed_with_their_intervals_and_the_log_is_kept(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    told = said(capsys, *words_of(ground, tmp_path / "out", "--epochs", "1"))
    lines = dict(line.split("\t") for line in told.out.splitlines())
    for name in ("held_out_loss", "perplexity"):
        value, low, _, high = lines[f"{name} (held-out documents)"].split()
        assert float(low.strip("(")) <= float(value) <= float(high.strip(")"))
    log = (tmp_path / "out" / "training-log.jsonl").read_text().splitlines()
    moments = [json.loads(line) for line in log]
    assert moments[-1]["step"] == moments[-1]["total_steps"]
    before = said(capsys, "info", tmp_path / "out", "--json").answer
    (tmp_path / "out" / "training-log.jsonl").unlink()
    assert said(capsys, "info", tmp_path / "out", "--json").answer == before


def test_a_mended_corpus_is_built_where_the_broken_one_was(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    texts = (ground / "texts.txt").read_text().splitlines()
    rows = [json.dumps({"text": text}) for text in texts]
    file = tmp_path / "some.jsonl"
    file.write_text("\n".join([rows[0], '{"txt": "a"}', *rows[1:]]) + "\n")
    words = words_of(ground, tmp_path / "out", "--epochs", "1")
    words[words.index(ground / "texts.txt")] = file
    told = said(capsys, *words)
    assert "line 2: there is no column 'text'" in told.err
    file.write_text("\n".join(rows) + "\n")
    assert said(capsys, *words).status == 0


def test_a_budget_smaller_than_a_row_is_refused(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = words_of(ground, tmp_path / "out")
    words[words.index("step_tokens=256")] = "step_tokens=8"
    told = said(capsys, *words)
    assert told.status == 2
    assert "step_tokens is 8" in told.complaint


def test_an_empty_corpus_is_refused(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    words = words_of(ground, tmp_path / "out")
    words[words.index(ground / "texts.txt")] = tmp_path / "empty.txt"
    told = said(capsys, *words)
    assert told.status == 2
    assert "potstill: empty.txt: no document can be kept of the 2 that were read" in told.err


def test_several_files_of_rows_and_flags_of_texts_are_refused_for_other_tasks(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = ["finetune", "--model", ground / "model", "--out", tmp_path / "out"]
    told = said(capsys, *words, "--train", "a.jsonl", "--train", "b.jsonl")
    assert (told.status, "2 files of rows" in told.complaint) == (2, True)
    told = said(capsys, *words, "--train", "a.jsonl", "--evaluation", "c.jsonl")
    assert told.status == 2
    assert "--evaluation means nothing for the task classification" in told.complaint
