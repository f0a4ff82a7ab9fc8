"""Rows: readers with line-numbered errors, columns, seeded splits, overlap of test and train."""

from potstill.data.columns import Columns, count_empty_texts, select_columns
from potstill.data.overlap import Overlap, SharedText, find_overlap
from potstill.data.readers import READERS, read_rows
from potstill.data.rows import Rows
from potstill.data.splits import split_rows

__all__ = [
    "Rows",
    "read_rows",
    "READERS",
    "Columns",
    "select_columns",
    "count_empty_texts",
    "split_rows",
    "Overlap",
    "SharedText",
    "find_overlap",
]
