"""What is told while a run on texts goes on: the log, probes, TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import said, write_jsonl
from tests.corpora import write_patterns
from tests.folders import write_tiny_model

SMALL = [
    *("--set", "max_length=32", "--set", "step_tokens=256", "--set", "batch_tokens=256"),
    *("--set", "held_out_documents=10", "--set", "scores=2", "--set", "precision=fp32"),
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a masked-LM model, texts, and labelled rows."""
    folder = tmp_path_factory.mktemp("watched")
    write_tiny_model(folder / "teacher", "masked-lm", task="masked-lm")
    write_patterns(folder / "texts.txt")
    rows = [{"text": f"good word{n}", "label": "a"} for n in range(20)]
    rows += [{"text": f"bad word{n} again", "label": "b"} for n in range(20)]
    (folder / "easy").mkdir()
    write_jsonl(folder / "easy" / "train.jsonl", *rows)
    return folder


def trained(ground: Path, out: Path, *more: object) -> list[object]:
    return [
        *("finetune", "--task", "masked-lm", "--model", ground / "teacher", "--out", out),
        *("--train", ground / "texts.txt", "--threads", "1", "--epochs", "2", *SMALL, *more),
    ]


def test_probes_are_told_before_on_the_way_and_in_the_end(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = trained(ground, tmp_path / "out", "--probe", ground / "easy" / "train.jsonl")
    told = said(capsys, *words, "--json")
    assert 0.0 <= told.answer["before"]["probe_easy_train"] <= 1.0
    assert 0.0 <= told.answer["probes"]["probe_easy_train"] <= 1.0
    assert told.err.count("probe_easy_train") == 2  # the scores


def test_a_student_is_probed_beside_its_teacher(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = ["distill", "--teacher", ground / "teacher", "--corpus", ground / "texts.txt"]
    words += ["--out", tmp_path / "out", "--threads", "1", "--epochs", "6", *SMALL]
    words += ["--learning-rate", "2e-2", "--set", "soft_targets=0", "--set", "hidden_cosine=0"]
    told = said(capsys, *words, "--probe", ground / "easy" / "train.jsonl")
    lines = {line.split("\t")[0]: line.split("\t") for line in told.out.splitlines()}
    numbers = [float(cell) for cell in lines["probe_easy_train"][1:]]
    assert len(numbers) == 3  # the cut, student, teacher
    assert all(0.0 <= number <= 1.0 for number in numbers)


def test_event_files_hold_the_numbers_of_the_log(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    words = trained(ground, tmp_path / "out", "--tensorboard", tmp_path / "events")
    assert said(capsys, *words, "--json").status == 0
    found = events.EventAccumulator(str(tmp_path / "events"))
    found.Reload()
    names = set(found.Tags()["scalars"])
    assert {"loss/masked_lm", "dev/score", "tokens_per_second", "peak_bytes"} <= names
    scores = found.Scalars("dev/score")
    assert len(scores) == 2
    assert scores[-1].step > scores[0].step
    assert all(event.value > 0 for event in found.Scalars("peak_bytes"))
    assert all(0.0 <= event.value < 1.0 for event in found.Scalars("padding_share"))


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"text": "a", "label": "x"}] * 10, "a probe needs 6 rows of two classes or more"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}], "a probe needs 6 rows"),
        ([{"text": "a"}] * 10, "a probe has no column 'label'"),
    ],
)
def test_a_probe_that_says_nothing_is_refused(
    rows: list[dict[str, str]],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    ground: Path,
    tmp_path: Path,
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", *rows)
    told = said(capsys, *trained(ground, tmp_path / "out", "--probe", tmp_path / "rows.jsonl"))
    assert told.status == 2
    assert complaint in told.complaint
    assert not (tmp_path / "out").exists()


def test_probes_mean_nothing_for_a_task(
    capsys: pytest.CaptureFixture[str], ground: Path, tmp_path: Path
) -> None:
    words = ["finetune", "--model", ground / "teacher", "--out", tmp_path / "out"]
    words += ["--train", ground / "easy" / "train.jsonl", "--probe", "x.jsonl"]
    assert "--probe means nothing" in said(capsys, *words).complaint


def test_the_log_tells_memory_padding_and_every_term(ground: Path, tmp_path: Path) -> None:
    from potstill.train.progress import Progress
    from potstill.workflows.masked_lm import MaskedLMInputs, MaskedLMRecipe, train_masked_lm
    from potstill.workflows.passages import CorpusSources

    moments: list[Progress] = []
    recipe = MaskedLMRecipe(
        max_length=32, step_tokens=256, batch_tokens=256, held_out_documents=10, scores=2
    )
    train_masked_lm(
        MaskedLMInputs(
            model=ground / "teacher", corpus=CorpusSources(files=[ground / "texts.txt"])
        ),
        recipe,
        out=tmp_path / "out",
        threads=1,
        listeners=(moments.append,),
    )
    last = moments[-1]
    assert last.peak_bytes > 50e6
    assert 0.0 <= last.padding_share < 1.0
    assert last.score is not None
    assert json.dumps(dict(last.losses))
