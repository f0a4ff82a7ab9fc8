"""`finetune --task masked-lm`: a model learns to guess hidden tokens, from scratch or further."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.architectures.presets import PRESETS, preset
from potstill.bundle.manifest import fingerprint
from potstill.bundle.opening import open_model
from potstill.errors import ModelError, RecipeError, RunError
from potstill.files import require_free
from potstill.metrics.bootstrap import joint_interval
from potstill.metrics.mean_loss import Floats, MeanLoss
from potstill.metrics.metric import point
from potstill.models.loading import load_task_model, load_with_new_head
from potstill.models.task_model import TaskModel
from potstill.recipe import settings_named
from potstill.report import Report
from potstill.train.held_out import measured_loss
from potstill.train.masked_lm_objective import MaskedLMObjective
from potstill.train.progress import Listener, Scored
from potstill.workflows.corpus_recipe import CorpusRecipe
from potstill.workflows.corpus_run import CorpusRun, Training, corpus_run, perplexity_of
from potstill.workflows.passages import CorpusSources, Ground
from potstill.workflows.probes import probed
from potstill.workflows.sole_writer import sole_writer
from potstill.workflows.task_rows import joined_world, own_device

HEAD = HeadSpec(kind="masked-lm")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedLMRecipe(CorpusRecipe):
    """How a masked-LM model is trained.

    Raises:
        RecipeError: a setting outside its range.
    """

    scratch: str = ""  # a preset's name, or WIDTHxLAYERS: nothing but the tokenizer is kept


# By name for --recipe; what they leave out is the default.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "standard": {},
    # The masking of the original DistilBERT code, but drawn for each passage by itself.
    "distilbert": {"mask_smoothing": 0.7, "weight_decay": 0.0, "clip_norm": 5.0},
}


def named_recipe(name: str) -> Mapping[str, Any]:
    """Return the settings of a recipe that --recipe names; see `settings_named`."""
    return settings_named(name, RECIPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedLMInputs:
    """What a training reads."""

    model: str | Path  # a folder or "hub:NAME"; from scratch, its tokenizer alone
    corpus: CorpusSources
    allow_pickle: bool = False


def train_masked_lm(
    inputs: MaskedLMInputs,
    recipe: MaskedLMRecipe,
    *,
    out: Path,
    device: str = "auto",
    threads: int | None = None,
    listeners: tuple[Listener, ...] = (),
) -> Report:
    """Train a model to guess hidden tokens and write it as a bundle.

    A model without a masked-LM head gets one; its decoder is the word table itself. The run's state
    stands in `<out>.run` until the bundle is written, the corpus stays in `<out>.corpus`; the same
    call again resumes.

    Raises:
        InputError: wrong model, corpus, settings or output.
        RunError: out of memory, diverged, disk full, or a model worse than its start.
        Stopped: by a signal; resumable.
    """
    require_free(out)
    with joined_world(device, threads) as world:
        ground = Ground(out=out, world=world, device=own_device(device, world), listeners=listeners)
        with sole_writer(out, world):  # the corpus, which others may read, has its own lock
            return MaskedLMTraining(inputs, recipe, ground).run()


class MaskedLMTraining:
    """The parts of one training, made in order."""

    def __init__(self, inputs: MaskedLMInputs, recipe: MaskedLMRecipe, ground: Ground) -> None:
        folder = open_model(inputs.model, allow_pickle=inputs.allow_pickle)
        scratch = scratch_config(
            recipe.scratch, folder.config, vocabulary_size=folder.tokenizer().vocabulary_size
        )
        self.is_anew = scratch is not None
        self.corpus = corpus_run(ground, recipe, folder, scratch or folder.config, inputs.corpus)
        self.held_out = self.corpus.held_out()

    def training(self) -> Training:
        """Return the model before its first step, and how it is trained."""
        corpus = self.corpus
        model = _start(corpus, is_anew=self.is_anew).to(corpus.ground.device)
        return Training(
            model=model,
            objective=MaskedLMObjective(corpus.passages.train, corpus.passages.masking),
            score=lambda: Scored(-self.held_out.of(model), probed(corpus.probes, model)),
            identity={"model": fingerprint(corpus.folder.path)},
        )

    def run(self) -> Report:
        """Train, keep the best, check that it is not worse, write the bundle."""
        corpus, training = self.corpus, self.training()
        model = training.model
        start, probes_before = self.held_out.statistics(model), probed(corpus.probes, model)
        result = corpus.train(training)
        end = self.held_out.statistics(model)
        warnings = self._require_gain(start, end)
        before, loss = measured_loss(start), measured_loss(end)
        return corpus.written(
            model,
            replace(result, warnings=[*result.warnings, *warnings]),
            loss,
            lineage={
                "verb": "finetune",
                "model": corpus.recipe.scratch or corpus.folder.path.name,
                "model_fingerprint": fingerprint(corpus.folder.path),
            },
            measurements={"perplexity": perplexity_of(loss).value},
            details={
                "before": {"held_out_loss": before.to_json(), **probes_before},
                "probes": probed(corpus.probes, model),
            },
            hf_extras={} if self.is_anew else corpus.folder.hf_config,
        )

    def _require_gain(self, before: Floats, after: Floats) -> list[str]:
        """Check that the model is not worse than its start; warn where it is no better.

        Args:
            before: statistics of the held-out passages before the first step.
            after: the same of the best weights.

        Raises:
            RunError: it is worse, by more than the choice of passages explains.
        """
        rise = joint_interval(MeanLoss(), [[before], [after]], lambda old, new: new - old)
        if rise.value < 0.0:
            return []
        was, now = (point(MeanLoss(), each) for each in (before, after))
        told = f"its loss on held-out text was {was:.4f} and is {now:.4f}"
        if rise.low <= 0.0:
            return [f"the model is no better than the one it began from: {told}"]
        state = self.corpus.checkpoints.path
        raise RunError(
            f"the model is worse than the one it began from: {told}",
            where=str(state),
            cure=f"remove {state}, or name another --out, and lower --learning-rate, or train on "
            "more tokens",
        )


def _start(run: CorpusRun, *, is_anew: bool) -> TaskModel:
    """Return the model before its first step."""
    if is_anew:
        model = TaskModel(run.config, HEAD)
        model.initialize(run.recipe.seed)
        return model
    if run.folder.head.kind == HEAD.kind:
        return load_task_model(run.folder)
    return load_with_new_head(run.folder, HEAD, seed=run.recipe.seed)


def scratch_config(word: str, like: EncoderConfig, *, vocabulary_size: int) -> EncoderConfig | None:
    """Return the sizes of a model that is drawn anew; None where an old one is trained further.

    Args:
        word: a preset's name, or WIDTHxLAYERS such as 384x6; empty: nothing is drawn anew.
        like: what WIDTHxLAYERS leaves open is as here; heads are 64 wide where that divides.
        vocabulary_size: of the tokenizer.

    Raises:
        RecipeError: neither, or sizes that no encoder can have.
    """
    if not word:
        return None
    if word in PRESETS:
        return replace(preset(word), vocabulary_size=vocabulary_size)
    width, sign, layers = word.partition("x")
    if not (sign and width.isdecimal() and layers.isdecimal()):
        raise RecipeError(
            f"scratch is {word!r}",
            allowed=f"WIDTHxLAYERS such as 384x6, {', '.join(sorted(PRESETS))}",
        )
    size = int(width)
    heads = size // 64 if size >= 64 and size % 64 == 0 else like.heads
    try:
        return replace(
            like,
            layers=int(layers),
            hidden_size=size,
            heads=heads,
            feed_forward_size=4 * size,
            vocabulary_size=vocabulary_size,
        )
    except ModelError as error:  # it blames a config.json that nobody wrote
        raise RecipeError(f"scratch is {word!r}: {error.what}", allowed=error.allowed) from error
