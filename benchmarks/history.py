"""Whether a month costs the same however many months there are before it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.drives import ALONE, MONTHLY
from benchmarks.harness import Comparison, Home, Run, at_most
from lakehouse.samples.drives import make_drive_archives

MONTHS = [f"{year}-{month:02d}" for year in range(2014, 2024) for month in range(1, 13)]
DRIVES = 300


def month_120() -> Iterator[Comparison]:
    """The last month of ten years after all others, and after the first alone."""
    with tempfile.TemporaryDirectory() as folder:
        make_drive_archives(Path(folder), months=MONTHS, drives=DRIVES)
        late = _last_month(Path(folder), until=MONTHS[-2])
        early = _last_month(Path(folder), until=MONTHS[0])
    what = "a month after 119 others / after one"
    yield Comparison(what, late.seconds, early.seconds, at_most(1.2))
    yield Comparison("its peak memory, MB", late.peak_mb, early.peak_mb, at_most(1.2))
    yield Comparison("what it writes to disk, MB", late.written_mb, early.written_mb, at_most(1.2))


def _last_month(mirror: Path, until: str) -> Run:
    """Without its year, whose tables are larger where it has more months."""
    home = Home(mirror, **ALONE)
    home.lakehouse("backfill", "drives", "--from", MONTHS[0], "--to", until)
    ran = home.lakehouse("backfill", "drives", "--from", MONTHS[-1], "--select", MONTHLY)
    home.remove()
    return ran
