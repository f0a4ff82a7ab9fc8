"""A stored teacher: equal to the live one, written once, going on where a writer was killed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from potstill.distillation.general_objective import (
    COSINE,
    MASKED_LM,
    RELATIONS,
    SOFT,
    GeneralObjective,
    batch_of_stored,
)
from potstill.distillation.guessing import Guesser
from potstill.distillation.stored_guesses import (
    PARTS,
    Guessed,
    GuessShape,
    StoredGuesses,
    are_stored,
    require_room,
    store_guesses,
)
from potstill.errors import RecipeError, StorageError
from potstill.locks import LOCK
from potstill.models import TaskModel
from potstill.models.layout import arrange
from tests.unit.distillation.test_general_objective import asked, student_of
from tests.unit.train.test_masked_lm_objective import tiny_model

ALL_PARTS = range(PARTS)
IDENTITY = "one"
STORED_TO, GRADIENT_TO = 2e-3, 5e-3  # what fp16 may round off a loss and a gradient


def live_objective(**more: Any) -> GeneralObjective:
    teacher = tiny_model()
    teacher.requires_grad_(requires_grad=False)
    return replace(asked(teacher, temperature=2.0, **more), relation_layers=(1, 2))


def student_apart_from(teacher: TaskModel) -> TaskModel:
    """Return a student; both are as decided, and as far apart, as trained models are."""
    student = student_of(teacher)
    student.initialize(seed=9)
    for model in (teacher, student):
        for parameter in model.parameters():
            parameter.data *= 8.0 if parameter.ndim > 1 else 1.0
    return student


def write(folder: Path, guesser: Guesser, *, parts: range = ALL_PARTS, ask: Any = None) -> None:
    store_guesses(
        folder,
        ask or guesser.ask,
        guesser.objective.lengths,
        guesser.shape(),
        identity=IDENTITY,
        own_parts=parts,
        tell=lambda done, total: None,
    )


def stored_objective(folder: Path, guesser: Guesser) -> GeneralObjective:
    live = guesser.objective
    return replace(live, stored=StoredGuesses(folder, live.lengths, guesser.shape()))


def test_stored_is_live_on_the_same_hidden_tokens(tmp_path: Path) -> None:
    live = live_objective(other_share=0.3)
    student = student_apart_from(live.teacher)
    guesser = Guesser(live, top_words=10_000)
    write(tmp_path, guesser)
    stored = stored_objective(tmp_path, guesser)
    batch = stored.prepare(np.array([7, 2, 25, 11]), np.random.default_rng(0))
    ours = stored.loss_sums(student, batch, None)
    theirs = live.loss_sums(student, replace(batch, stored=None), None)
    for name in (SOFT, MASKED_LM, COSINE, RELATIONS):
        torch.testing.assert_close(ours[name], theirs[name], rtol=STORED_TO, atol=0.0)
    assert stored.counts(batch) == live.counts(replace(batch, stored=None))


@pytest.mark.parametrize("kept", [1, 8, 40])
def test_with_some_words_it_is_the_live_teacher_whose_other_words_are_one(
    kept: int, tmp_path: Path
) -> None:
    live = live_objective(other_share=0.3)
    student = student_apart_from(live.teacher)
    guesser = Guesser(live, top_words=kept)
    write(tmp_path, guesser)
    stored = stored_objective(tmp_path, guesser)
    batch = stored.prepare(np.array([7, 2, 25, 11]), np.random.default_rng(0))
    ours = stored.loss_sums(student, batch, None)
    own, its = (
        model(arrange(batch.masked.texts, model.config))[0][torch.from_numpy(batch.places)] / 2.0
        for model in (student, live.teacher)
    )
    theirs = one_word_of_all_others(own, its, kept=kept).sum() * 2.0**2
    assert ours[SOFT].item() == pytest.approx(theirs.item(), rel=STORED_TO)
    whole = live.loss_sums(student, replace(batch, stored=None), None)
    assert ours[SOFT].item() < 0.98 * whole[SOFT].item()  # less is asked than the teacher says
    for name in (MASKED_LM, COSINE, RELATIONS):
        assert ours[name].item() == pytest.approx(whole[name].item(), rel=STORED_TO)
    one, other = (gradient(student, loss) for loss in (ours[SOFT], theirs))
    assert (one - other).norm() <= GRADIENT_TO * other.norm()


def one_word_of_all_others(own_PV: Tensor, its_PV: Tensor, *, kept: int) -> Tensor:
    """Return KL of the teacher's likeliest words and of one outcome for all others, (P,)."""
    words = its_PV.topk(kept, dim=-1).indices
    is_kept_PV = torch.zeros_like(its_PV, dtype=torch.bool).scatter_(-1, words, value=True)
    joined = []
    for logits_PV in (its_PV, own_PV):
        logs_PV = torch.log_softmax(logits_PV, dim=-1)
        rest_P1 = logs_PV.masked_fill(is_kept_PV, -torch.inf).logsumexp(-1, keepdim=True)
        joined.append(torch.cat([logs_PV.gather(-1, words), rest_P1], dim=-1))
    its_log, own_log = joined
    return (its_log.exp() * (its_log - own_log)).sum(dim=-1)


def gradient(model: TaskModel, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(
        loss, list(model.parameters()), retain_graph=True, allow_unused=True
    )
    return torch.cat([each.flatten() for each in found if each is not None])


def test_every_passage_comes_back_as_it_was_hidden_whatever_is_asked_beside_it(
    tmp_path: Path,
) -> None:
    guesser = Guesser(live_objective(other_share=0.2), top_words=5)
    write(tmp_path, guesser)
    stored = stored_objective(tmp_path, guesser).stored
    assert stored is not None
    whole = stored.read(np.arange(30))
    alone = [stored.read(np.array([row])) for row in range(30)]
    np.testing.assert_array_equal(whole.texts.ids, np.concatenate([one.texts.ids for one in alone]))
    np.testing.assert_array_equal(whole.targets, np.concatenate([one.targets for one in alone]))
    np.testing.assert_array_equal(whole.words, np.concatenate([one.words for one in alone]))
    for row, one in enumerate(alone):
        original = guesser.objective.passages.batch(np.array([row])).ids
        hidden = one.targets >= 0
        np.testing.assert_array_equal(original[one.places[hidden]], one.targets[hidden])
        rest = np.setdiff1d(np.arange(len(original)), one.places[hidden])
        np.testing.assert_array_equal(original[rest], one.texts.ids[rest])
        assert hidden.sum() >= 1


def test_two_writers_write_what_one_does(tmp_path: Path) -> None:
    guesser = Guesser(live_objective(), top_words=5)
    write(tmp_path / "one", guesser)
    for rank in range(2):
        write(tmp_path / "two", guesser, parts=range(rank, PARTS, 2))
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize("asks", [1, 3, 9])
def test_a_killed_writer_goes_on_and_ends_with_the_same_bytes(
    asks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from potstill.distillation import stored_guesses

    monkeypatch.setattr(stored_guesses, "_BLOCK_TOKENS", 16)
    monkeypatch.setattr(stored_guesses, "_BLOCKS_BETWEEN_NOTES", 2)
    monkeypatch.setattr(stored_guesses, "PARTS", 2)
    guesser = Guesser(live_objective(), top_words=5)
    write(tmp_path / "whole", guesser, parts=range(2))
    left = [asks]

    def killed(rows: np.ndarray, rng: np.random.Generator) -> Guessed:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return guesser.ask(rows, rng)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "cut", guesser, parts=range(2), ask=killed)
    asked_again: list[int] = []

    def counted(rows: np.ndarray, rng: np.random.Generator) -> Guessed:
        asked_again.append(len(rows))
        return guesser.ask(rows, rng)

    write(tmp_path / "cut", guesser, parts=range(2), ask=counted)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    if asks > 2:
        assert sum(asked_again) < 30
    write(tmp_path / "cut", guesser, parts=range(2), ask=counted)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_another_teacher_or_corpus_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    guesser = Guesser(live_objective(), top_words=5)
    write(tmp_path, guesser)
    before = content(tmp_path)
    with pytest.raises(RecipeError, match=r"another teacher, corpus or settings.*signals-folder"):
        store_guesses(
            *(tmp_path, guesser.ask, guesser.objective.lengths, guesser.shape()),
            identity="other",
            own_parts=ALL_PARTS,
            tell=lambda done, total: None,
        )
    assert content(tmp_path) == before


def test_a_disk_without_room_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    shape = GuessShape(words=64, states=(12,), width=768, vocabulary_size=30_522)
    with pytest.raises(StorageError, match=r"guesses need [\d,.]+ GB, [\d,.]+ GB are free"):
        require_room(tmp_path, shape.size_bytes(10**13, 10**12, 10**10), is_named=True)
    require_room(tmp_path, shape.size_bytes(1_000, 250, 10), is_named=True)


def test_in_the_runs_own_folder_a_part_without_its_mark_is_begun_anew(tmp_path: Path) -> None:
    guesser = Guesser(live_objective(), top_words=5)
    write(tmp_path, guesser)
    whole = content(tmp_path)
    (tmp_path / "part-03" / "done.json").unlink()
    with pytest.raises(RecipeError, match=r"something else.*part-03.*--signals-folder"):
        require_room(tmp_path, 0, is_named=True)
    require_room(tmp_path, 0, is_named=False)
    assert not (tmp_path / "part-03").exists()
    write(tmp_path, guesser)
    assert content(tmp_path) == whole


def test_what_a_system_strews_about_is_no_stranger(tmp_path: Path) -> None:
    (tmp_path / "part-03").mkdir()
    for folder in (tmp_path, tmp_path / "part-03"):
        (folder / ".DS_Store").touch()
    (tmp_path / LOCK).touch()  # of a killed writer
    require_room(tmp_path, 0, is_named=True)
    (tmp_path / "letter").touch()
    with pytest.raises(RecipeError, match="stands here: letter"):
        require_room(tmp_path, 0, is_named=True)


def test_guesses_are_stored_when_every_part_is_whole_and_of_this_teacher(tmp_path: Path) -> None:
    guesser = Guesser(live_objective(), top_words=5)
    lengths = np.asarray(guesser.objective.lengths)
    write(tmp_path, guesser, parts=range(PARTS - 1))
    assert not are_stored(tmp_path, lengths, identity=IDENTITY)
    write(tmp_path, guesser)
    assert are_stored(tmp_path, lengths, identity=IDENTITY)
    assert not are_stored(tmp_path, lengths, identity="other")


def test_the_size_that_is_told_is_the_size_that_is_written(tmp_path: Path) -> None:
    guesser = Guesser(live_objective(other_share=0.2), top_words=5)
    write(tmp_path, guesser)
    lengths = np.asarray(guesser.objective.lengths)
    written = sum(file.stat().st_size for file in tmp_path.rglob("*.bin"))
    tokens = int(lengths.sum())
    told = guesser.shape().size_bytes(tokens, guesser.expected_places(tokens), len(lengths))
    assert told == pytest.approx(written, rel=0.1)


def test_the_hidden_tokens_come_first(tmp_path: Path) -> None:
    guesser = Guesser(live_objective(other_share=0.5), top_words=3)
    write(tmp_path, guesser)
    stored = stored_objective(tmp_path, guesser).stored
    assert stored is not None
    batch = batch_of_stored(np.arange(6), stored.read(np.arange(6), signals=False))
    count = len(batch.masked.places)
    np.testing.assert_array_equal(batch.places[:count], batch.masked.places)
    np.testing.assert_array_equal(batch.targets[:count], batch.masked.targets)
    assert (batch.targets[count:] < 0).all()
    assert len(batch.targets) > count


def test_a_batch_that_waits_for_its_turn_holds_nothing_of_what_the_teacher_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guesser = Guesser(live_objective(other_share=0.5), top_words=3)
    write(tmp_path, guesser)
    objective = stored_objective(tmp_path, guesser)
    read, found = StoredGuesses.read, []

    def noting(self: StoredGuesses, rows: np.ndarray, **options: bool) -> Guessed:
        found.append(read(self, rows, **options))
        return found[-1]

    monkeypatch.setattr(StoredGuesses, "read", noting)
    waiting = [
        objective.prepare(rows, np.random.default_rng(0)) for rows in np.arange(12).reshape(4, 3)
    ]
    assert all(each.words is each.log_p is None and not each.states for each in found)
    objective.loss_sums(student_of(objective.teacher), waiting[0], None)
    assert found[-1].words is not None
    assert found[-1].states


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_a_torn_note_begins_the_part_anew(tmp_path: Path) -> None:
    guesser = Guesser(live_objective(), top_words=5)
    write(tmp_path, guesser)
    before = content(tmp_path)
    (tmp_path / "part-03" / "done.json").write_text('{"identity": "on')
    shutil.rmtree(tmp_path / "part-05")
    write(tmp_path, guesser)
    assert content(tmp_path) == before
