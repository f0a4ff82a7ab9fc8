"""DistilBERT, BERT-base and BERT-large at real size, side by side: `compare` on real sentences.

python benchmarks/bench_compare.py         # a few minutes, on a quiet machine; needs ../shared/data

The weights are random, so nothing is said about quality: time and memory do not depend on them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from facts import SHARED_DATA, store

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.architectures.presets import preset
from potstill.bundle.folder import open_folder
from potstill.bundle.manifest import Manifest
from potstill.bundle.write import BundleContent, write_bundle
from potstill.data.readers import read_rows
from potstill.models import TaskModel
from potstill.models.loading import tensors_of
from potstill.text.tokenizer import Tokenizer
from potstill.workflows.compare import CompareOptions, compare
from potstill.workflows.compared_answers import UNSOLVED
from potstill.workflows.demo import packaged_model

PRESETS = ("distilbert-base", "bert-base", "bert-large")
BASELINE = "bert-base"
LABELS = ("negative", "positive")  # of sst2
ROWS = 200


def main() -> None:
    configs = {name: preset(name) for name in PRESETS}
    store("compare_sizes", measured(configs, SHARED_DATA / "sst2" / "test.jsonl"))


def measured(
    configs: dict[str, EncoderConfig], test: Path, *, rows: int = ROWS, rounds: int = 5
) -> dict[str, Any]:
    """Compare models of these sizes on the first rows of a file."""
    tokenizer = open_folder(packaged_model()).tokenizer()
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / name for name in configs]
        for folder, config in zip(folders, configs.values(), strict=True):
            write_random(folder, config, tokenizer)
        chosen = read_rows(test, limit=rows)
        options = CompareOptions(baseline=BASELINE, test=chosen, rounds=rounds, engine="torch")
        found = compare(folders, options, tell=lambda line: print(line, file=sys.stderr))
    told = found.to_json()
    for random_words in ("agreement", "flips", "command"):
        del told[random_words]
    for model in told["models"]:
        for quality in ("metrics", "per_class", "retention", "gain_retained", "note"):
            del model[quality]
    del told["machine"]  # `store` tells it
    told["warnings"] = [warning for warning in told["warnings"] if UNSOLVED not in warning]
    return {"rows": rows, **told}


def write_random(folder: Path, config: EncoderConfig, tokenizer: Tokenizer) -> None:
    """Write a classifier of random weights."""
    model = TaskModel(config, HeadSpec(kind="classification", labels=LABELS))
    model.initialize(seed=0)
    content = BundleContent(
        config=config,
        head=model.spec,
        tensors=tensors_of(model),
        tokenizer=tokenizer,
        manifest=Manifest(task="classification", pooling=model.spec.pooling),
    )
    write_bundle(folder, content)


if __name__ == "__main__":
    main()
