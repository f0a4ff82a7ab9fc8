"""What a training on texts reads: which passages, and how they are known again."""

from __future__ import annotations

from pathlib import Path

import torch

from potstill.train.world import World
from potstill.workflows.masked_lm import MaskedLMRecipe
from potstill.workflows.passages import CorpusSources, Ground, PassageSet, read_passages
from tests.corpora import sentences, tiny_tokenizer, write_text

TEXTS = sentences(40)


def read(folder: Path, *evaluation: str) -> PassageSet:
    sources = CorpusSources(
        files=[write_text(folder / "texts.txt", TEXTS)],
        evaluation=[[{"text": text} for text in evaluation]] if evaluation else (),
    )
    ground = Ground(out=folder / "out", world=World(), device=torch.device("cpu"))
    recipe = MaskedLMRecipe(max_length=32, held_out_documents=5)
    return read_passages(sources, tiny_tokenizer(), recipe, ground)


def test_passages_are_known_by_the_documents_left_out_not_by_their_number(tmp_path: Path) -> None:
    one, other = read(tmp_path, TEXTS[3]), read(tmp_path, TEXTS[30])
    assert one.told["contaminated_documents"] == other.told["contaminated_documents"] == 1
    assert one.identity != other.identity
    assert one.identity == read(tmp_path, TEXTS[3]).identity


def test_where_nothing_is_left_out_passages_are_known_by_their_corpus(tmp_path: Path) -> None:
    passages = read(tmp_path)
    assert passages.identity == f"{passages.corpus.identity} without 0"
