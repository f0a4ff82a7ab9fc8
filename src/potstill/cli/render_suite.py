"""How a suite's table is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from potstill.cli.render import print_line, print_table

if TYPE_CHECKING:
    from potstill.workflows.suite_table import SuiteTable


def print_suite(table: SuiteTable) -> None:
    """Print the table, the worst task first, and what stands under it."""
    from potstill.workflows.suite_table import HEADER, summary_lines, table_cells

    print_table(list(HEADER), table_cells(table))
    for line in summary_lines(table):
        print_line(line)
