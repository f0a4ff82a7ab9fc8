"""What cutting and compressing vectors costs in what they find: measured, not assumed.

    python benchmarks/experiment_vectors.py STUDENT    # a bundle distilled from the packaged model

For cranfield and cacm: teacher and student over their own index, and the student's queries over
the teacher's; the documents' vectors in each form and cut, the queries' in float32.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from facts import SHARED_DATA, store

from potstill.data.retrieval import Retrieval, read_retrieval
from potstill.runtime.model import load
from potstill.search.vector_forms import bytes_per_vector
from potstill.workflows.demo import packaged_model
from potstill.workflows.retrieval import StoredAs, search_all

WIDTH = 384
KEPT = [
    StoredAs(),
    StoredAs(form="float16"),
    StoredAs(form="int8"),
    StoredAs(form="binary"),
    StoredAs(dimensions=256),
    StoredAs(dimensions=128),
    StoredAs(dimensions=64),
    StoredAs(form="int8", dimensions=128),
]


def main() -> None:
    models = {"teacher": load(packaged_model()), "student": load(sys.argv[1])}
    rows: list[dict[str, Any]] = []
    for name in ("cranfield", "cacm"):
        found = read_retrieval(SHARED_DATA / name)
        retrieval = found.binary() if name == "cranfield" else found
        vectors = {
            side: (model.embed(retrieval.queries), model.embed(retrieval.documents))
            for side, model in models.items()
        }
        sides = {
            "teacher": vectors["teacher"],
            "student": vectors["student"],
            "student over the teacher's index": (vectors["student"][0], vectors["teacher"][1]),
        }
        for side, (queries, documents) in sides.items():
            rows += [judged(name, side, retrieval, queries, documents, kept) for kept in KEPT]
    store("vectors", {"rows": rows})


def judged(
    name: str, side: str, retrieval: Retrieval, queries: Any, documents: Any, kept: StoredAs
) -> dict[str, Any]:
    found = search_all(retrieval, queries, documents, kept)
    return {
        "set": name,
        "side": side,
        "form": kept.form,
        "dimensions": kept.dimensions or WIDTH,
        "bytes": bytes_per_vector(kept.form, kept.dimensions or WIDTH),
        "metrics": {metric: asdict(each) for metric, each in found.intervals().items()},
        "bm25": found.lexical_values(),
    }


if __name__ == "__main__":
    main()
