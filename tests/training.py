"""A tiny training run; as a script, one that can be killed: python -m tests.training FOLDER.

With names of `CASES` behind it, the script does these runs one after another, each in a folder of
its own.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from potstill.models import TaskModel
from potstill.recipe import TrainingRecipe
from potstill.runtime.torch_engine import TorchEngine
from potstill.train.checkpoints import CheckpointFolder
from potstill.train.label_objective import LabelObjective
from potstill.train.learnable import Learnable
from potstill.train.loop import TrainingResult, train
from potstill.train.world import World, join_world, leave_world
from tests.tiny import random_batch, tiny_config, tiny_head

ROWS = 60
RECIPE = TrainingRecipe(
    epochs=4,
    rows_per_step=8,
    batch_tokens=64,
    learning_rate=1e-3,
    scores_per_epoch=2,
    seed=5,
    precision="fp32",
    checkpoint_every_s=0,
)


def tiny_objective() -> LabelObjective:
    """Return a task that can be learned: the class is the first id modulo 3."""
    lengths = np.random.default_rng(1).integers(2, 20, ROWS).tolist()
    texts = random_batch(lengths, seed=2)
    targets = (texts.ids[texts.offsets[:-1]] % 3).astype(np.int64)
    return LabelObjective(Learnable(texts, targets))


def tiny_model(dropout: float = 0.1) -> TaskModel:
    model = TaskModel(
        tiny_config(dropout=dropout, attention_dropout=dropout), tiny_head("classification")
    )
    model.initialize(seed=4)
    return model


def tiny_run(folder: Path, model: TaskModel | None = None, **options: Any) -> TrainingResult:
    """Train in `folder`, resuming what stands there."""
    model = model or tiny_model()
    objective = options.pop("objective", None) or tiny_objective()
    recipe = replace(RECIPE, **options.pop("changes", {}))
    engine = TorchEngine(model)

    def score() -> float:
        logits = engine.run(objective.rows.texts)["logits"]
        return float((logits.argmax(-1) == objective.rows.targets).mean())

    return train(
        model,
        objective,
        recipe,
        checkpoints=CheckpointFolder(folder),
        score=options.pop("score", score),
        **options,
    )


def weights_of(model: TaskModel) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


# What is tried in several processes: the dropout of the model, and what the recipe changes.
CASES: dict[str, tuple[float, dict[str, Any]]] = {
    "dropout": (0.1, {}),
    "dry": (0.0, {}),
    "scarce": (0.0, {"rows_per_step": 1, "epochs": 0.2}),
}


def main(folder: Path, *cases: str) -> None:
    torch.set_num_threads(1)
    world = join_world("cpu")
    try:
        for case in cases or ("dropout",):
            _run_case(case, folder / case if cases else folder, world)
    finally:
        leave_world()


def _run_case(case: str, folder: Path, world: World) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"process-{world.rank}").write_text(str(os.getpid()))  # so that it can be killed
    dropout, changes = CASES[case]
    model = tiny_model(dropout)
    result = tiny_run(folder, model, changes=changes, world=world)
    if world.is_main:
        save_file(weights_of(model), folder / "final.safetensors")
        told = {"resumed_from": result.resumed_from, "warnings": result.warnings}
        (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
