"""Us beside the originals' way and beside the bare bound, in one go: `make bench`.

    python -m benchmarks [startup] [drives] [taxi] [retail] [serving] [growth] [history] ...

Without names all of them, three quarters of an hour. Prints seconds, where it does not say
otherwise, and the ratio of each comparison beside the ratio aimed at; keeps them in
`benchmarks/results/` and in docs/performance.md. Needs the publishers' files in ../shared/mirror or
LAKEHOUSE_SOURCE_MIRROR for 2018 Q1 and the workbook.
"""

import sys
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.table import Table

from benchmarks import (
    drives,
    growth,
    history,
    monthly_run,
    results,
    retail,
    serving,
    small_writes,
    startup,
    taxi,
)
from benchmarks.harness import Comparison, err

BENCHMARKS: dict[str, list[Callable[[], Iterable[Comparison]]]] = {
    "startup": [startup.starts],
    "drives": [drives.quarter, drives.modern_quarter, drives.modern_month],
    "taxi": [taxi.yellow_month],
    "retail": [retail.workbook],
    "serving": [serving.api],
    "growth": [growth.drive_days, growth.trips, growth.sales],
    "history": [history.month_120],
    "maintenance": [small_writes.reads],
    "profile": [monthly_run.shares],
}


def main() -> None:
    chosen = sys.argv[1:] or list(BENCHMARKS)
    if unknown := [name for name in chosen if name not in BENCHMARKS]:
        sys.exit(f"There is no benchmark {unknown[0]!r}; there is {', '.join(BENCHMARKS)}.")
    for name in chosen:
        found: list[Comparison] = []
        for benchmark in BENCHMARKS[name]:
            with err.status(f"{benchmark.__doc__}"):
                found += benchmark()
        results.keep(name, found)
        results.write_page(list(BENCHMARKS))
        table = Table("comparison", "left", "right", "ratio", "aim", title=name)
        for comparison in found:
            table.add_row(*results.cells(comparison))
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
