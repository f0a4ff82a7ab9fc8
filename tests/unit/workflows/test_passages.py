"""What a training on texts reads: which passages, and how they are known again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from potstill.data import contamination
from potstill.errors import DataError, InputError
from potstill.train.world import World
from potstill.workflows.masked_lm import MaskedLMRecipe
from potstill.workflows.passages import CorpusSources, Ground, PassageSet, read_passages
from tests.corpora import sentences, tiny_tokenizer, write_text

TEXTS = sentences(40)


def read(
    folder: Path, *evaluation: str, held_out_tokens: int = 10_000, world: World | None = None
) -> PassageSet:
    sources = CorpusSources(
        files=[write_text(folder / "texts.txt", TEXTS)],
        evaluation=[[{"text": text} for text in evaluation]] if evaluation else (),
    )
    ground = Ground(out=folder / "out", world=world or World(), device=torch.device("cpu"))
    recipe = MaskedLMRecipe(max_length=32, held_out_documents=5, held_out_tokens=held_out_tokens)
    return read_passages(sources, tiny_tokenizer(), recipe, ground)


def test_passages_are_known_by_the_documents_left_out_not_by_their_number(tmp_path: Path) -> None:
    one, other = read(tmp_path, TEXTS[3]), read(tmp_path, TEXTS[30])
    assert one.told["contaminated_documents"] == other.told["contaminated_documents"] == 1
    assert one.identity != other.identity
    assert one.identity == read(tmp_path, TEXTS[3]).identity


def test_where_nothing_is_left_out_passages_are_known_by_their_corpus(tmp_path: Path) -> None:
    passages = read(tmp_path)
    assert passages.identity == f"{passages.corpus.identity} without 0"


class SecondOfTwo(World):
    """A stand-in for the second process: while it waits, the first one does its work."""

    def from_main(self, value: Any, device: torch.device) -> Any:
        del device
        main_work.pop(0)()
        return value


main_work: list[Any] = []


def test_one_process_searches_for_evaluation_texts_and_the_others_read_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, searches = contamination._found, []

    def counted(*parts: Any) -> contamination.Contamination:
        searches.append(parts)
        return search(*parts)

    monkeypatch.setattr(contamination, "_found", counted)
    main_work[:] = [lambda: read(tmp_path), lambda: read(tmp_path, TEXTS[3])]  # builds, searches
    second = read(tmp_path, TEXTS[3], world=SecondOfTwo(rank=1, size=2))
    assert second.told["contaminated_documents"] == 1
    assert second.identity == read(tmp_path, TEXTS[3]).identity
    assert (len(searches), main_work) == (1, [])


def test_held_out_text_beyond_its_tokens_is_left_unread_and_told(tmp_path: Path) -> None:
    whole, part = read(tmp_path), read(tmp_path, held_out_tokens=60)
    assert whole.warnings == []
    assert part.held_out.lengths.sum() <= 60 < whole.held_out.lengths.sum()
    assert part.train.document_R.tolist() == whole.train.document_R.tolist()
    tokens = whole.held_out.lengths.sum()
    (told,) = part.warnings
    assert told.startswith(f"the 5 held-out documents have {tokens} tokens: ")
    assert "are measured (held_out_tokens)" in told


def test_a_corpus_that_was_damaged_is_not_trained_on_and_is_mended_from_its_texts(
    tmp_path: Path,
) -> None:
    whole = read(tmp_path)
    file = whole.corpus.folder / "ids-00000.bin"
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    ground = Ground(out=tmp_path / "other", world=World(), device=torch.device("cpu"))
    recipe = MaskedLMRecipe(max_length=32, held_out_documents=5)
    named = CorpusSources(files=[whole.corpus.folder])
    with pytest.raises(DataError, match=r"ids-00000\.bin: the corpus is damaged: its sha256"):
        read_passages(named, tiny_tokenizer(), recipe, ground)
    assert read(tmp_path).identity == whole.identity
    assert file.read_bytes() == content


def test_a_folder_for_a_corpus_that_is_built_already_is_refused(tmp_path: Path) -> None:
    built = read(tmp_path).corpus.folder
    ground = Ground(out=tmp_path / "other", world=World(), device=torch.device("cpu"))
    recipe = MaskedLMRecipe(max_length=32, held_out_documents=5)
    told = r"--corpus-folder \S+zzz: another folder means nothing for a corpus that was built"
    with pytest.raises(InputError, match=told):
        read_passages(
            CorpusSources(files=[built], folder=tmp_path / "zzz"), tiny_tokenizer(), recipe, ground
        )
    same = CorpusSources(files=[built], folder=built)
    assert read_passages(same, tiny_tokenizer(), recipe, ground).corpus.folder == built
