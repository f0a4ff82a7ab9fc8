"""Changes to a graph of ours that is about to be compiled by OpenVINO."""

from __future__ import annotations

from typing import Any

from potstill.runtime.graph import LAYOUT, SLOTS, TEXTS, TEXTS_OF_SLOTS, TOKENS_OF_SLOTS


def without_layout(model: Any) -> Any:
    """Change a graph of ours so that attention takes tokens as they lie: for one text alone.

    A text alone is its own row; to lay it out would cost what the answer waits for, and so would
    three inputs that say nothing then: they are taken out.
    """
    inputs = {each.any_name: each for each in model.inputs}
    for name in (TOKENS_OF_SLOTS, SLOTS):
        for reader in list(inputs[name].get_target_inputs()):
            gather = reader.get_node()
            reshaped = gather.input_value(0).get_node()
            gather.output(0).replace(reshaped.input_value(0))
    inputs[TEXTS_OF_SLOTS].replace(inputs[TEXTS])
    for name in LAYOUT:
        model.remove_parameter(inputs[name].get_node())
    model.validate_nodes_and_infer_types()
    return model
