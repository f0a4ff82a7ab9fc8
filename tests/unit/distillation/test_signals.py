"""What a teacher says is the same live and from disk, alone and averaged, whole and gone on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.distillation import stored_signals
from potstill.distillation.signals import LiveTeacher, Signals
from potstill.distillation.stored_signals import SignalShape, StoredSignals, store_signals
from potstill.errors import StorageError
from potstill.train.answer_losses import average_logits
from potstill.train.objective import Int64
from tests.command_line import tree_of
from tests.distilling import teacher_model
from tests.tiny import random_batch

LENGTHS = np.random.default_rng(1).integers(1, 30, 50)
TEXTS = random_batch(LENGTHS.tolist(), seed=2)
STATES = (0, 2, 4)
SHAPE = SignalShape(lengths=TEXTS.lengths, classes=2, width=32, state_indices=STATES)
CPU = torch.device("cpu")


def live(*seeds: int, states: tuple[int, ...] = STATES, temperature: float = 2.0) -> LiveTeacher:
    return LiveTeacher(
        models=[teacher_model(seed=seed) for seed in seeds],
        texts=[TEXTS] * len(seeds),
        temperature=temperature,
        state_indices=states,
    )


def silent(done: int, total: int) -> None:
    del done, total


@dataclass(slots=True)
class Interrupted:
    """A teacher that is cut off after some batches."""

    teacher: LiveTeacher
    batches: int
    asked: list[Int64] = field(default_factory=list)

    def signals(self, rows: Int64) -> Signals:
        if len(self.asked) == self.batches:
            raise KeyboardInterrupt
        self.asked.append(rows)
        return self.teacher.signals(rows)


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write in many batches, and note every second one."""
    monkeypatch.setattr(stored_signals, "_BATCH_TOKENS", 64)
    monkeypatch.setattr(stored_signals, "_BATCHES_BETWEEN_NOTES", 2)


def stored(folder: Path, teacher: LiveTeacher, shape: SignalShape = SHAPE) -> StoredSignals:
    store_signals(folder, teacher, shape, identity="one", tell=silent)
    return StoredSignals(folder, shape, device=CPU)


@pytest.mark.parametrize("seeds", [(7,), (7, 8, 9)])
@pytest.mark.usefixtures("_small_batches")
def test_stored_signals_are_the_live_ones(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    teacher = live(*seeds)
    kept = stored(tmp_path / "signals", teacher)
    rng = np.random.default_rng(4)
    for size in (1, 7, 50):
        rows = rng.permutation(50)[:size]
        ours, theirs = kept.signals(rows), teacher.signals(rows)
        torch.testing.assert_close(ours.outputs, theirs.outputs, rtol=0, atol=1e-5)
        assert set(ours.states) == set(theirs.states) == set(STATES)
        for index in STATES:
            torch.testing.assert_close(ours.states[index], theirs.states[index], rtol=0, atol=1e-5)
            assert len(ours.states[index]) == LENGTHS[rows].sum()


@pytest.mark.usefixtures("_small_batches")
def test_asked_in_the_same_batches_they_are_the_same_bits(tmp_path: Path) -> None:
    teacher = live(7)
    noting = Interrupted(teacher, batches=10_000)
    kept = stored(tmp_path / "signals", noting)
    assert len(noting.asked) > 10
    assert sorted(np.concatenate(noting.asked)) == list(range(50))  # each row once
    for rows in noting.asked:
        ours, theirs = kept.signals(rows), teacher.signals(rows)
        assert torch.equal(ours.outputs, theirs.outputs)
        assert all(torch.equal(ours.states[index], theirs.states[index]) for index in STATES)


def test_all_rows_in_one_batch_and_row_by_row_say_the_same(tmp_path: Path) -> None:
    kept = stored(tmp_path / "signals", live(7))
    whole = kept.signals(np.arange(50))
    alone = [kept.signals(np.array([row])) for row in range(50)]
    assert torch.equal(whole.outputs, torch.cat([each.outputs for each in alone]))
    assert torch.equal(whole.states[2], torch.cat([each.states[2] for each in alone]))


def test_no_row_has_no_signals(tmp_path: Path) -> None:
    none = stored(tmp_path / "signals", live(7)).signals(np.zeros(0, dtype=np.int64))
    assert none.outputs.shape == (0, 2)
    assert none.states[0].shape == (0, 32)


@pytest.mark.parametrize("batches", [0, 1, 2, 3, 8])
@pytest.mark.usefixtures("_small_batches")
def test_a_writer_that_is_cut_off_goes_on_and_ends_with_the_same_files(
    tmp_path: Path, batches: int
) -> None:
    teacher = live(7)
    stored(tmp_path / "whole", teacher)
    with pytest.raises(KeyboardInterrupt):
        store_signals(
            tmp_path / "cut", Interrupted(teacher, batches), SHAPE, identity="one", tell=silent
        )
    rest = Interrupted(teacher, batches=10_000)
    told: list[tuple[int, int]] = []
    store_signals(
        tmp_path / "cut", rest, SHAPE, identity="one", tell=lambda *each: told.append(each)
    )
    assert tree_of(tmp_path / "cut") == tree_of(tmp_path / "whole")
    assert told[-1] == (50, 50)
    written = batches // 2 * 2  # noted after every second one
    again = Interrupted(teacher, batches=10_000)
    store_signals(tmp_path / "again", again, SHAPE, identity="one", tell=silent)
    assert len(rest.asked) == len(again.asked) - written


def test_what_is_whole_is_not_asked_for_again(tmp_path: Path) -> None:
    stored(tmp_path / "signals", live(7))
    before = tree_of(tmp_path)
    store_signals(
        tmp_path / "signals", Interrupted(live(7), batches=0), SHAPE, identity="one", tell=silent
    )
    assert tree_of(tmp_path) == before


@pytest.mark.usefixtures("_small_batches")
def test_signals_of_another_identity_are_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "signals"
    with pytest.raises(KeyboardInterrupt):
        store_signals(folder, Interrupted(live(7), 6), SHAPE, identity="one", tell=silent)
    fewer = replace(SHAPE, state_indices=(1,))
    store_signals(folder, live(8, states=(1,)), fewer, identity="other", tell=silent)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("done.json", "outputs.npy", "state-1.npy")
    ]
    found = StoredSignals(folder, fewer, device=CPU).signals(np.arange(50))
    expected = live(8, states=(1,)).signals(np.arange(50))
    torch.testing.assert_close(found.outputs, expected.outputs, rtol=0, atol=1e-5)


class Note(NamedTuple):
    name: str
    spoil: Callable[[Path], object]


TORN = [
    Note("cut short", lambda file: file.write_bytes(file.read_bytes()[:5])),
    Note("of another kind", lambda file: file.write_text("[1]")),
    Note("without a number", lambda file: file.write_text(json.dumps({"identity": "one"}))),
    Note("gone", lambda file: file.unlink()),
]


@pytest.mark.parametrize("note", TORN, ids=lambda note: note.name)
def test_a_torn_note_means_to_begin_anew(tmp_path: Path, note: Note) -> None:
    folder = tmp_path / "signals"
    stored(folder, live(7))
    before = tree_of(folder)
    note.spoil(folder / "done.json")
    asking = Interrupted(live(7), batches=10_000)
    store_signals(folder, asking, SHAPE, identity="one", tell=silent)
    assert sum(map(len, asking.asked)) == 50
    assert tree_of(folder) == before


def test_a_disk_without_room_is_told_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = SHAPE.size_bytes
    assert size == 4 * (50 * 2 + int(LENGTHS.sum()) * 32 * 3)
    real = stored_signals.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        stored_signals.shutil, "disk_usage", lambda path: real._replace(free=size + 10)
    )
    with pytest.raises(StorageError, match=r"signals need .* are free.*--set signals=live"):
        store_signals(
            tmp_path / "signals", Interrupted(live(7), 0), SHAPE, identity="one", tell=silent
        )


def test_live_signals_carry_no_gradient_and_are_fp32() -> None:
    found = live(7).signals(np.arange(5))
    for tensor in (found.outputs, *found.states.values()):
        assert not tensor.requires_grad
        assert tensor.dtype == torch.float32


def test_states_are_those_of_the_first_teacher() -> None:
    both, first = (live(*seeds).signals(np.arange(9)) for seeds in ((7, 8), (7,)))
    assert all(torch.equal(both.states[index], first.states[index]) for index in STATES)
    assert not torch.allclose(both.outputs, first.outputs, atol=1e-2)


def test_each_teacher_reads_the_texts_as_its_own_tokenizer_does() -> None:
    other = random_batch(LENGTHS[::-1].tolist(), seed=5)
    models = [teacher_model(seed=7), teacher_model(seed=8)]
    teacher = LiveTeacher(models=models, texts=[TEXTS, other], temperature=1.0)
    rows = np.array([3, 11])
    alone = [
        LiveTeacher(models=[model], texts=[texts], temperature=1.0).signals(rows).outputs
        for model, texts in zip(models, (TEXTS, other), strict=True)
    ]
    expected = (alone[0].softmax(-1) + alone[1].softmax(-1)) / 2
    torch.testing.assert_close(teacher.signals(rows).outputs.softmax(-1), expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 5), st.sampled_from([0.5, 1.0, 2.0, 7.0]), st.integers(0, 99))
def test_averaged_logits_give_the_mean_of_the_softmaxes(
    teachers: int, temperature: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = [4 * torch.randn(6, 3, generator=generator) for _ in range(teachers)]
    averaged = average_logits(logits, temperature=temperature)
    expected = torch.stack([(each / temperature).softmax(-1) for each in logits]).mean(0)
    torch.testing.assert_close((averaged / temperature).softmax(-1), expected)


def test_the_logits_of_one_teacher_are_not_changed() -> None:
    logits = torch.tensor([[3.0, -1.0], [100.0, 0.0]])
    assert average_logits([logits], temperature=3.0) is logits
    same = average_logits([logits, logits], temperature=3.0)
    torch.testing.assert_close((same / 3).softmax(-1), (logits / 3).softmax(-1))
