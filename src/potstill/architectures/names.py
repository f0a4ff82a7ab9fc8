"""The names of weights: ours and Hugging Face's, as one reversible table per family and head.

A table entry is (our module, their module, its parameters). `{i}` stands for the layer. The names
of a concrete model are the table written out, so reading and writing use the same lines and
`from_hf(to_hf(x)) == x` holds by construction. Legacy forms are data too: see LEGACY_ENDINGS,
PREFIXES, ALTERNATIVES and IGNORABLE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from potstill.architectures.config import EncoderConfig, Family
from potstill.architectures.heads import HeadSpec

Entry = tuple[str, str, str]
BOTH = "weight bias"
WEIGHT = "weight"
BIAS = "bias"

_BERT_EMBEDDINGS: Sequence[Entry] = (
    ("embeddings.words", "embeddings.word_embeddings", WEIGHT),
    ("embeddings.positions", "embeddings.position_embeddings", WEIGHT),
    ("embeddings.token_types", "embeddings.token_type_embeddings", WEIGHT),
    ("embeddings.norm", "embeddings.LayerNorm", BOTH),
)
_BERT_LAYER: Sequence[Entry] = (
    ("layers.{i}.attention.query", "encoder.layer.{i}.attention.self.query", BOTH),
    ("layers.{i}.attention.key", "encoder.layer.{i}.attention.self.key", BOTH),
    ("layers.{i}.attention.value", "encoder.layer.{i}.attention.self.value", BOTH),
    ("layers.{i}.attention.output", "encoder.layer.{i}.attention.output.dense", BOTH),
    ("layers.{i}.attention_norm", "encoder.layer.{i}.attention.output.LayerNorm", BOTH),
    ("layers.{i}.feed_forward.up", "encoder.layer.{i}.intermediate.dense", BOTH),
    ("layers.{i}.feed_forward.down", "encoder.layer.{i}.output.dense", BOTH),
    ("layers.{i}.feed_forward_norm", "encoder.layer.{i}.output.LayerNorm", BOTH),
)
_DISTILBERT_LAYER: Sequence[Entry] = (
    ("layers.{i}.attention.query", "transformer.layer.{i}.attention.q_lin", BOTH),
    ("layers.{i}.attention.key", "transformer.layer.{i}.attention.k_lin", BOTH),
    ("layers.{i}.attention.value", "transformer.layer.{i}.attention.v_lin", BOTH),
    ("layers.{i}.attention.output", "transformer.layer.{i}.attention.out_lin", BOTH),
    ("layers.{i}.attention_norm", "transformer.layer.{i}.sa_layer_norm", BOTH),
    ("layers.{i}.feed_forward.up", "transformer.layer.{i}.ffn.lin1", BOTH),
    ("layers.{i}.feed_forward.down", "transformer.layer.{i}.ffn.lin2", BOTH),
    ("layers.{i}.feed_forward_norm", "transformer.layer.{i}.output_layer_norm", BOTH),
)
_LAYER: Mapping[Family, Sequence[Entry]] = {
    "bert": _BERT_LAYER,
    "distilbert": _DISTILBERT_LAYER,
    "roberta": _BERT_LAYER,
    "xlm-roberta": _BERT_LAYER,
}
_POOLER: Entry = ("pooler", "pooler.dense", BOTH)

# Heads stand beside the encoder, whose names then carry the family's prefix.
_BERT_MASKED_LM: Sequence[Entry] = (
    ("head.transform", "cls.predictions.transform.dense", BOTH),
    ("head.norm", "cls.predictions.transform.LayerNorm", BOTH),
    ("head.decoder", "cls.predictions", BIAS),
)
_DISTILBERT_MASKED_LM: Sequence[Entry] = (
    ("head.transform", "vocab_transform", BOTH),
    ("head.norm", "vocab_layer_norm", BOTH),
    ("head.decoder", "vocab_projector", BIAS),
)
_ROBERTA_MASKED_LM: Sequence[Entry] = (
    ("head.transform", "lm_head.dense", BOTH),
    ("head.norm", "lm_head.layer_norm", BOTH),
    ("head.decoder", "lm_head", BIAS),
)
_ROBERTA_CLASSIFIER: Sequence[Entry] = (
    ("head.dense", "classifier.dense", BOTH),
    ("head.output", "classifier.out_proj", BOTH),
)
_HEADS: Mapping[str, Mapping[Family, Sequence[Entry]]] = {
    "classification": {
        "bert": (("head.output", "classifier", BOTH),),
        "distilbert": (
            ("head.dense", "pre_classifier", BOTH),
            ("head.output", "classifier", BOTH),
        ),
        "roberta": _ROBERTA_CLASSIFIER,
        "xlm-roberta": _ROBERTA_CLASSIFIER,
    },
    "token-classification": dict.fromkeys(_LAYER, (("head.output", "classifier", BOTH),)),
    "question-answering": dict.fromkeys(_LAYER, (("head.output", "qa_outputs", BOTH),)),
    "masked-lm": {
        "bert": _BERT_MASKED_LM,
        "distilbert": _DISTILBERT_MASKED_LM,
        "roberta": _ROBERTA_MASKED_LM,
        "xlm-roberta": _ROBERTA_MASKED_LM,
    },
}
# The mean-pooled classifier has no name of Hugging Face's; this one collides with none of theirs.
_MEAN_POOLED_CLASSIFIER: Sequence[Entry] = (
    ("head.dense", "potstill_classifier.dense", BOTH),
    ("head.output", "potstill_classifier.output", BOTH),
)

# Of sentence-transformers' Dense, in the folder of that step.
VECTOR_MAP: Mapping[str, str] = {
    "head.output.weight": "linear.weight",
    "head.output.bias": "linear.bias",
}

PREFIXES: Mapping[Family, str] = {
    "bert": "bert.",
    "distilbert": "distilbert.",
    "roberta": "roberta.",
    "xlm-roberta": "roberta.",
}
# TensorFlow's names of a norm's two vectors, as bert-base-uncased still stores them.
LEGACY_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}
# One weight stored under a second name: the decoder's bias, and the tied decoder itself.
ALTERNATIVES = {
    "cls.predictions.decoder.bias": "cls.predictions.bias",
    "lm_head.decoder.bias": "lm_head.bias",
}
TIED_DECODERS = (
    "cls.predictions.decoder.weight",
    "lm_head.decoder.weight",
    "vocab_projector.weight",
)
# Beginnings of names that real checkpoints carry and that no model here needs.
IGNORABLE = (
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "cls.seq_relationship.",
    "pooler.",
    "cls.predictions.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "lm_head.",
)


def hf_names(config: EncoderConfig, head: HeadSpec) -> dict[str, str]:
    """Return every weight's name: ours -> Hugging Face's, as transformers writes them."""
    prefix = "" if _is_bare(head) else PREFIXES[config.family]
    names = _written_out(encoder_entries(config), prefix)
    return names | _written_out(head_entries(config.family, head), "")


def encoder_entries(config: EncoderConfig) -> list[Entry]:
    """Return the encoder's table lines, layers written out."""
    entries = [
        entry
        for entry in _BERT_EMBEDDINGS
        if config.token_types or entry[0] != "embeddings.token_types"
    ]
    for layer in range(config.layers):
        entries += [
            (ours.format(i=layer), theirs.format(i=layer), parts)
            for ours, theirs, parts in _LAYER[config.family]
        ]
    return [*entries, _POOLER] if config.pooler else entries


def head_entries(family: Family, head: HeadSpec) -> Sequence[Entry]:
    """Return the head's table lines."""
    if head.kind in {"none", "embedding"}:  # an embedding's map stands in a file of its own
        return ()
    if head.is_mean_classifier:
        return _MEAN_POOLED_CLASSIFIER
    return _HEADS[head.kind][family]


def needs_pooler(family: Family, head: HeadSpec) -> bool:
    """Tell whether the head stands on BERT's pooler."""
    return family == "bert" and head.kind == "classification" and head.pooling == "first"


def _is_bare(head: HeadSpec) -> bool:
    return head.kind in {"none", "embedding"} or head.is_mean_classifier


def _written_out(entries: Sequence[Entry], prefix: str) -> dict[str, str]:
    return {
        f"{ours}.{part}": f"{prefix}{theirs}.{part}"
        for ours, theirs, parts in entries
        for part in parts.split()
    }
