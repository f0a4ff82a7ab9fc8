"""Tables of vectors that stay small: rows are taken first, and scaled then.

NNCF scales a table before rows are taken from it. OpenVINO folds that into numbers of 32 bits when
it compiles: of DistilBERT's word table 94 MB and a sixth of a second at each start.
"""

from __future__ import annotations

from typing import Any

from potstill.runtime.openvino_library import openvino

_SMALL = ("i8", "u8")


def scale_taken_rows(graph: Any) -> None:
    """Change a graph so that of each 8-bit table only the rows that are taken are scaled.

    The numbers are the same: each row has its own scale.
    """
    for gather in graph.get_ordered_ops():
        found = _table_and_scales(gather)
        if found is not None:
            made = _scaled_rows(*found, gather.input_value(1), gather.input_value(2))
            made.set_friendly_name(gather.get_friendly_name())
            for reader in list(gather.output(0).get_target_inputs()):
                reader.replace_source_output(made.output(0))
    graph.validate_nodes_and_infer_types()


def _table_and_scales(gather: Any) -> tuple[Any, Any] | None:
    """Return the table (V, D) and the scales (V, 1) of a gather that reads both multiplied."""
    if gather.get_type_name() != "Gather":
        return None
    scaled = gather.input_value(0).get_node()
    if scaled.get_type_name() != "Multiply":
        return None
    converted, scales = (each.get_node() for each in scaled.input_values())
    if converted.get_type_name() != "Convert" or scales.get_type_name() != "Constant":
        return None
    table = converted.input_value(0).get_node()
    is_small = table.get_output_element_type(0).to_string() in _SMALL
    rows = scales.get_output_shape(0)
    if table.get_type_name() != "Constant" or not is_small or tuple(rows[1:]) != (1,):
        return None
    return table, scales


def _scaled_rows(table: Any, scales: Any, numbers: Any, axis: Any) -> Any:
    ops = openvino("quantizing").opset13
    rows = ops.convert(ops.gather(table, numbers, axis), "f32")
    return ops.multiply(rows, ops.gather(scales, numbers, axis))
