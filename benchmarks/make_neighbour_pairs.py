"""Pairs that nobody has labelled, for a teacher of pairs to speak about.

Random pairs of sentences have nothing to do with each other, and a teacher says the same of all of
them. So each sentence of the given files is paired with sentences near to it, by the vectors of the
packaged all-MiniLM-L6-v2: a few of the nearest, and one that is farther off (Thakur et al. 2021,
"Augmented SBERT", section 3.1, semantic search sampling). Pairs of the files are left out.

    python benchmarks/make_neighbour_pairs.py 20000 PAIRS.jsonl TRAIN.jsonl [MORE.jsonl …]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from potstill.data.readers import read_rows
from potstill.runtime.model import load
from potstill.search.exact import nearest
from potstill.workflows.demo import packaged_model

NEAREST = 3
FARTHER = range(10, 100)  # ranks from which one more is drawn
SEED = 0

Pair = tuple[str, str]


def main() -> None:
    count, out, *files = sys.argv[1:]
    texts, known = sentences(files)
    pairs = [pair for pair in near_pairs(texts) if frozenset(pair) not in known]
    order = np.random.default_rng(SEED).permutation(len(pairs))[: int(count)]
    with Path(out).open("w", encoding="utf-8") as stream:
        for index in order:
            text, text_pair = pairs[index]
            stream.write(json.dumps({"text": text, "text_pair": text_pair}) + "\n")
    print(f"{len(order):,} of {len(pairs):,} pairs of {len(texts):,} sentences")


def sentences(files: list[str]) -> tuple[list[str], set[frozenset[str]]]:
    """Return each sentence once, and the pairs that they stand in."""
    known = set()
    for file in files:
        rows = read_rows(file)
        known |= {
            frozenset(pair)
            for pair in zip(rows.column("text"), rows.column("text_pair"), strict=True)
        }
    return sorted({sentence for pair in known for sentence in pair}), known


def near_pairs(texts: list[str]) -> list[Pair]:
    """Return every sentence beside near ones and one that is farther off, each pair once."""
    vectors = load(str(packaged_model()), threads=1).embed(texts)
    ranks, _ = nearest(vectors, vectors, top=FARTHER.stop + 1)
    random = np.random.default_rng(SEED)
    found: dict[frozenset[str], Pair] = {}
    for number, near in enumerate(ranks):
        others = near[near != number]
        for other in [*others[:NEAREST], others[random.integers(FARTHER.start, FARTHER.stop)]]:
            pair = (texts[number], texts[int(other)])
            if random.random() < 0.5:  # the teacher shall see both orders
                pair = pair[::-1]
            found.setdefault(frozenset(pair), pair)
    return list(found.values())


if __name__ == "__main__":
    main()
