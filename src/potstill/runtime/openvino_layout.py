"""Changes to a graph of ours that is about to be compiled by OpenVINO."""

from __future__ import annotations

from typing import Any

from potstill.runtime.graph import SLOTS, TOKENS_OF_SLOTS


def without_layout(model: Any) -> Any:
    """Change a graph of ours so that attention takes tokens as they lie: for one text alone.

    A text alone is its own row; to lay it out would cost what the answer waits for.
    """
    for parameter in model.inputs:
        if parameter.any_name not in (TOKENS_OF_SLOTS, SLOTS):
            continue
        for reader in list(parameter.get_target_inputs()):
            gather = reader.get_node()
            reshaped = gather.input_value(0).get_node()
            gather.output(0).replace(reshaped.input_value(0))
    model.validate_nodes_and_infer_types()
    return model
