"""Us beside the original's way and beside the bare bound, in one go: `make bench`.

    python -m benchmarks [drives] [taxi] [retail] [serving]

Prints seconds, peak memory and the ratio of each comparison, beside the ratio aimed at. Needs the
publishers' files in ../shared/mirror or LAKEHOUSE_SOURCE_MIRROR for 2018 Q1 and the workbook.
"""

import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from benchmarks.drives import modern_month, modern_quarter, quarter
from benchmarks.harness import err
from benchmarks.retail import workbook
from benchmarks.serving import api
from benchmarks.taxi import yellow_month

BENCHMARKS: dict[str, list[Callable[[Table], None]]] = {
    "drives": [quarter, modern_quarter, modern_month],
    "taxi": [yellow_month],
    "retail": [workbook],
    "serving": [api],
}


def main() -> None:
    chosen = sys.argv[1:] or list(BENCHMARKS)
    if unknown := [name for name in chosen if name not in BENCHMARKS]:
        sys.exit(f"There is no benchmark {unknown[0]!r}; there is {', '.join(BENCHMARKS)}.")
    table = Table("comparison", "left", "right", "ratio", "aim", title="Seconds, if not said")
    for benchmark in (each for name in chosen for each in BENCHMARKS[name]):
        with err.status(f"{benchmark.__doc__}"):
            benchmark(table)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
