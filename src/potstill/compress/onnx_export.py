"""A model as an ONNX file that others run: padded ids and a mask in, as optimum lays it out.

Inputs are `input_ids`, `attention_mask` and, of models that have them, `token_type_ids`, each
(B, T) in int64, padded at the right. Outputs: `logits`, (B, C) or (B, T, C); of questions
`start_logits` and `end_logits`, each (B, T); of a bare encoder or a model of vectors
`last_hidden_state`, (B, T, D), and of vectors `sentence_embedding`, (B, D).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.architectures.config import EncoderConfig
from potstill.bundle.folder import ModelFolder
from potstill.bundle.named_weights import fp32_weights
from potstill.compress.ort_quantization import write_with_int8_weights
from potstill.runtime.engine import STATE_PREFIX
from potstill.runtime.graph import GraphInputs, GraphWriter, has_token_types
from potstill.runtime.onnx_operators import Axes, OnnxOperators

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
LOGITS, STATES, VECTORS = "logits", "last_hidden_state", "sentence_embedding"
ENDS = ("start_logits", "end_logits")  # of questions: the two columns of the logits, in order

_TEXTS = ["batch_size", "sequence_length"]


def exported(folder: ModelFolder) -> Any:
    """Return an `onnx.ModelProto` of the folder's model, in fp32.

    Raises:
        MissingExtraError: onnx is not installed.
        ModelError: the weights do not fit.
    """
    config, head, ops = folder.config, folder.answering_head, OnnxOperators()
    inputs = _inputs(ops, config)
    writer = GraphWriter(config, head, fp32_weights(folder), inputs, ops, is_whole=True)
    sources = {"none": {STATES: f"{STATE_PREFIX}{config.layers}"}}
    sources["embedding"] = {**sources["none"], VECTORS: "logits"}
    sources["question-answering"] = dict.fromkeys(ENDS, "logits")
    chosen = sources.get(head.kind, {LOGITS: "logits"})
    found = writer.outputs(list(dict.fromkeys(chosen.values())))
    outputs = {name: found[source] for name, source in chosen.items()}
    for name in (LOGITS, VECTORS):
        if name in outputs and head.answers_whole_texts:  # one text a row: (B, 1, C) -> (B, C)
            outputs[name] = ops.made("Squeeze", outputs[name], ops.whole_numbers([1]))
    for place, name in enumerate(ENDS):
        if name in outputs:  # (B, T, 2) -> (B, T)
            column = ops.made("Gather", outputs[name], ops.whole_numbers([place]), axis=2)
            outputs[name] = ops.made("Squeeze", column, ops.whole_numbers([2]))
    width = config.hidden_size
    axes: dict[str, Axes] = {
        **dict.fromkeys(ENDS, _TEXTS),
        LOGITS: _axes_of_logits(folder),
        STATES: [*_TEXTS, width],
        VECTORS: [_TEXTS[0], head.width or width],
    }
    return ops.model(dict.fromkeys(input_names(config), _TEXTS), "INT64", outputs, axes)


def state_nodes(model: Any, config: EncoderConfig) -> list[str]:
    """Return the nodes of a written graph that are hidden states, from the embeddings on.

    Each is what a norm gives, and the norm's weight has a name; a last layer that is computed at
    the first position only is a state of one token, (B, 1, D).
    """
    names = ["embeddings.norm", *(f"layers.{i}.feed_forward_norm" for i in range(config.layers))]
    node_of = {
        node.input[1]: node.output[0]
        for node in model.graph.node
        if node.op_type == "LayerNormalization"
    }
    return [node_of[f"{name}.weight"] for name in names]


def input_names(config: EncoderConfig) -> list[str]:
    """Return the names of the inputs."""
    return [IDS, MASK, *([TYPES] if has_token_types(config) else [])]


def write_quantized(source: Path, target: Path) -> None:
    """Write an ONNX file with int8 weights, whose activations are quantized as they come.

    Weights are without a sign, which no processor saturates on: files go where nobody knows it.
    """
    write_with_int8_weights(source, target, has_signs=False)


def _axes_of_logits(folder: ModelFolder) -> Axes:
    head = folder.answering_head
    wide = len(head.labels) or folder.config.vocabulary_size
    return [*(_TEXTS[:1] if head.answers_whole_texts else _TEXTS), wide]


def _inputs(ops: OnnxOperators, config: EncoderConfig) -> GraphInputs:
    """Return what the graph reads, reckoned from ids and mask: one text a row."""
    first = ops.made("Slice", IDS, *(ops.whole_numbers([value]) for value in (0, 1, 1)))
    return GraphInputs(
        ids_RT=IDS,
        positions_RT=_positions(ops, config),
        texts_RT=MASK,  # 1 the text, 0 an empty slot
        firsts_RF=ops.made("Mul", first, ops.whole_numbers([0])),
        token_types_RT=TYPES if has_token_types(config) else None,
    )


def _positions(ops: OnnxOperators, config: EncoderConfig) -> str:
    """Return each slot's row of the position table; of an empty slot any that there is."""
    counted = ops.made("CumSum", MASK, ops.whole_numbers([1]))
    return ops.made("Add", counted, ops.whole_numbers([config.position_offset - 1]))
