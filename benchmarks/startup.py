"""What has to start before anything is done."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Comparison, Home, at_most, left_at_most, run
from lakehouse.samples.drives import make_drive_archives

MONTH = "2024-05"
_IMPORT = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def starts() -> Iterator[Comparison]:
    """The command's help, the definitions, and a month that is up to date."""
    lakehouse = str(Path(sys.executable).with_name("lakehouse"))
    bare = min(run([sys.executable, "-c", ""]).seconds for _ in range(5))
    helped = min(run([lakehouse, "--help"]).seconds for _ in range(5))
    yield Comparison("`lakehouse --help` / bare Python", helped, bare, left_at_most(0.5))
    ours, dagster = (importing("lakehouse.definitions"), importing("dagster"))
    yield Comparison("import the definitions / import dagster", ours, dagster, at_most(1.5))
    with tempfile.TemporaryDirectory() as folder:
        make_drive_archives(Path(folder), months=[MONTH], drives=100)
        home = Home(Path(folder), LAKEHOUSE_WITHOUT="bigquery postgres")
        first = home.lakehouse("backfill", "drives", "--from", MONTH)
        again = home.lakehouse("backfill", "drives", "--from", MONTH)
        home.remove()
    what = "a small month again, unchanged: second / first"
    yield Comparison(what, again.seconds, first.seconds, left_at_most(5))


def importing(module: str) -> float:
    """Seconds of an import in a process of its own; the best of five."""
    return min(float(run([sys.executable, "-c", _IMPORT.format(module)]).output) for _ in range(5))
