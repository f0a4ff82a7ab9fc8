"""Train only the rows of the word table that the texts use.

A row that no text uses has no gradient. AdamW would still read and write it and its two running
means at every step, which costs more than the layers of a small model: half of MiniLM's and 70 % of
XLM-R's parameters are word rows. Left out, such a row keeps its pre-trained value exactly (plain
AdamW would shrink it a little by weight decay, without any evidence for that).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from potstill.models.task_model import TaskModel
from potstill.text.ragged import RaggedBatch

Renumber = Callable[[RaggedBatch], RaggedBatch]


@contextlib.contextmanager
def only_words_of(model: TaskModel, texts: Sequence[RaggedBatch]) -> Iterator[Renumber]:
    """Give the model a word table of the used rows alone; put the whole one back at the end.

    Args:
        model: changed in place; its head must not read the word table.
        texts: all that the model will see meanwhile.

    Yields:
        A function that renumbers the ids of a batch for the small table.
    """
    assert model.spec.kind != "masked-lm", "a masked-LM head needs every row"
    embeddings = model.encoder.embeddings
    whole = embeddings.words
    used = np.unique(np.concatenate([batch.ids for batch in texts]))
    rows = torch.from_numpy(used.astype(np.int64)).to(whole.weight.device)
    number_of = np.full(whole.num_embeddings, -1, dtype=np.int32)
    number_of[used] = np.arange(len(used), dtype=np.int32)

    def renumber(batch: RaggedBatch) -> RaggedBatch:
        ids = number_of[batch.ids]
        assert ids.size == 0 or int(ids.min()) >= 0, "a text holds a word that was not announced"
        return replace(batch, ids=ids)

    small = nn.Embedding(len(used), whole.embedding_dim, _weight=whole.weight.detach()[rows])
    embeddings.words = small
    try:
        yield renumber
    finally:
        with torch.no_grad():
            whole.weight.index_copy_(0, rows, embeddings.words.weight)
        embeddings.words = whole
