"""The table at the end: every fault, how often it was tried and survived, and what it did."""

from collections import defaultdict
from collections.abc import Iterable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

_COLUMNS = ("tries", "survived", "rows lost", "rows doubled")


def fault_table(reports: Iterable[Any]) -> str:
    """What the tests that ran say of faults, as text; empty where none did."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for report in reports:
        if isinstance(report, pytest.TestReport) and report.when == "call":
            for name, each in report.user_properties:
                if name == "fault":
                    counted = counts[each["fault"], each["dataset"]]
                    added = (1, each["survived"], each["lost"], each["doubled"])
                    counted[:] = map(sum, zip(counted, added, strict=True))
    if not counts:
        return ""
    table = Table("fault", "data set", title="Faults", title_justify="left", show_footer=True)
    totals = map(sum, zip(*counts.values(), strict=True))
    for column, total in zip(_COLUMNS, totals, strict=True):
        table.add_column(column, justify="right", footer=f"{total:,}")
    for (fault, dataset), numbers in sorted(counts.items()):
        table.add_row(fault, dataset, *(f"{number:,}" for number in numbers))
    console = Console(file=StringIO(), width=100)
    console.print(table)
    return str(console.file.getvalue())
