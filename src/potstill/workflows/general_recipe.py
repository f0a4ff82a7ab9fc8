"""How a student is taught on a corpus: the settings of `distill --corpus`, and its presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from potstill.distillation.general_objective import TERMS
from potstill.distillation.layers import CHOICES
from potstill.distillation.objective import COSINE, RELATIONS, SOFT
from potstill.distillation.student import ARCHITECTURES
from potstill.recipe import require_choice, require_range, settings_named
from potstill.workflows.corpus_recipe import LARGEST, CorpusRecipe

LIVE, STORED = "live", "stored"
SIGNALS = (LIVE, STORED)
_READ_BY = {  # by terms of some weight
    "temperature": (SOFT,),
    "top_words": (SOFT,),
    "other_share": (SOFT, COSINE),
    "relation_layer": (RELATIONS,),
    "relation_heads": (RELATIONS,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralRecipe(CorpusRecipe):
    """How a student is cut and taught on a corpus.

    The defaults are the preset `relations`: the cheapest of those that no other was found to beat,
    see docs/general-distillation.md.

    Raises:
        RecipeError: a setting outside its range.
    """

    learning_rate: float = 6e-4  # at its peak, after warmup_share of the steps
    layers: int = 0  # of the student; 0: half of the teacher's
    choose: str = "distilbert"  # even, distilbert, bottom, top
    keep: str = ""  # layers by number, counted from 0: "0,2,4"; instead of layers and choose
    width: int = 0  # hidden size of a narrower student; 0: the teacher's
    architecture: str = "auto"  # auto, teacher, distilbert
    soft_targets: float = 0.0  # weight of the teacher's guesses
    masked_lm: float = 0.0  # weight of the hidden tokens
    hidden_cosine: float = 0.0  # weight of 1 - cosine of the last hidden states
    relations: float = 1.0  # weight of KL of query, key and value relations of one layer
    temperature: float = 2.0  # of the soft targets
    other_share: float = 0.1  # of the tokens that are not hidden: soft targets are learned there
    signals: str = "live"  # the teacher's: at every step, or stored on disk once
    top_words: int = 64  # likeliest ones of each guess that are stored
    relation_layer: int = 0  # of the teacher, from 1; 0: the last, of 24 the 21st (RoBERTa's 19th)
    relation_heads: int = 0  # 0: the teacher's attention heads, or fewer that divide both widths

    def __post_init__(self) -> None:
        """Refuse what cannot be run, with the setting's name."""
        CorpusRecipe.__post_init__(self)
        for name in TERMS:
            require_range(name, getattr(self, name), at_least=0.0, at_most=LARGEST)
        for name in ("layers", "width", "relation_layer", "relation_heads"):
            require_range(name, getattr(self, name), at_least=0)
        require_choice("choose", self.choose, CHOICES)
        require_choice("architecture", self.architecture, ARCHITECTURES)
        require_choice("signals", self.signals, SIGNALS)
        require_range("top_words", self.top_words, at_least=1)
        require_range("temperature", self.temperature, above=0.0, at_most=LARGEST)
        require_range("other_share", self.other_share, at_least=0.0, at_most=1.0)

    def idle_settings(self) -> Mapping[str, str]:
        """Return what no term reads as the weights stand, and what would make it read."""
        idle = {} if self.signals == STORED else {"top_words": "add --set signals=stored"}
        for name, terms in _READ_BY.items():
            if not any(getattr(self, term) for term in terms):
                weights = " or ".join(f"--set {term}=…" for term in terms)
                idle[name] = f"add {weights}, or leave {name} out"
        return idle


def distilbert() -> GeneralRecipe:
    """Return the original's losses, masking and optimizer, at the size of run that is usual here.

    Weights 5, 2, 1 (the author's word, not the README's other set), temperature 2, soft targets at
    every token, cosine on the last hidden state, Adam with 0.9 and 0.98, no weight decay, a peak of
    5e-4 after 5 % of the steps, gradients cut at 5, frequent tokens hidden less often (0.7).

    Not the original's, which took eight cards for 90 hours, but settings all the same:
    step_tokens 8,192 (65 to 80 passages; there 2,000 to 4,000 sequences, at the same peak),
    max_length 128 (there 512), epochs 1 (there 3). Not settings: each passage gives its share of
    hidden tokens (there each batch), the vector of token type 0 is folded into the positions (there
    it is dropped), the masked-LM transform is the teacher's (there it begins at random), and terms
    are means over a step's positions (there over its micro-batches, whatever their size).

    Source: Sanh et al. 2019, arXiv 1910.01108; huggingface/transformers issue 2013; the code in
    huggingface/transformers-research-projects, folder distillation.
    """
    return GeneralRecipe(
        soft_targets=5.0,
        masked_lm=2.0,
        hidden_cosine=1.0,
        relations=0.0,
        temperature=2.0,
        other_share=1.0,
        learning_rate=5e-4,
        weight_decay=0.0,
        clip_norm=5.0,
        mask_smoothing=0.7,
    )


def relations() -> GeneralRecipe:
    """Return what the defaults say: relations alone, nothing of the vocabulary; after MiniLMv2.

    Its loss (queries, keys and values of one layer each), its layers (the last; of 24 the 21st, of
    RoBERTa's the 19th), its peak of 6e-4 and its weight decay of 0.01, but

    - relation_heads: as many as the teacher's attention has, 12 or 16; there 48 of a base teacher,
      64 of a large one,
    - adam_beta2 0.98; there 0.999,
    - warmup_share 0.05; there 4,000 of 400,000 steps,
    - step_tokens 8,192 in passages of max_length 128; there 256 sequences of up to 512,
    - the text that both models see has hidden tokens, as for the other terms; there it has none.

    All but the last are settings. Our presets are compared at these values.

    Source: Wang et al. 2020, arXiv 2012.15828, section 4; bloomberg/minilmv2.bb, run.sh.
    """
    return GeneralRecipe()


def potstill() -> GeneralRecipe:
    """Return a combination of both, with the vocabulary asked at few positions.

    Soft targets at the hidden tokens and a tenth of the others, half the weight of hidden tokens
    themselves (DistilBERT's ablation: they are worth 0.3 points, soft targets 3), the cosine, and
    relations. A hypothesis: see docs/general-distillation.md for what is measured of it.
    """
    return GeneralRecipe(
        soft_targets=5.0,
        masked_lm=1.0,
        hidden_cosine=1.0,
        relations=1.0,
        other_share=0.1,
        learning_rate=5e-4,
    )


PRESETS: Mapping[str, Callable[[], GeneralRecipe]] = {
    "distilbert": distilbert,
    "relations": relations,
    "potstill": potstill,
}


def named_recipe(name: str) -> Mapping[str, Any]:
    """Return the settings of a preset that --recipe names; see `settings_named`."""
    return settings_named(name, {known: asdict(make()) for known, make in PRESETS.items()})
