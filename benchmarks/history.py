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
    """The last month of ten years, beside the same month in an empty home."""
    with tempfile.TemporaryDirectory() as folder:
        make_drive_archives(Path(folder), months=MONTHS, drives=DRIVES)
        home, empty = Home(Path(folder), **ALONE), Home(Path(folder), **ALONE)
        home.lakehouse("backfill", "drives", "--from", MONTHS[0], "--to", MONTHS[-2])
        late, late_bytes = _month(home)
        alone, alone_bytes = _month(empty)
        home.remove()
        empty.remove()
    yield Comparison("month 120 / month 1", late.seconds, alone.seconds, at_most(1.2))
    yield Comparison("its peak memory, MB", late.peak_mb, alone.peak_mb, at_most(1.2))
    yield Comparison("what it adds to the disk, MB", late_bytes, alone_bytes, at_most(1.2))


def _month(home: Home) -> tuple[Run, float]:
    """Runs the last month without its year, whose tables are larger where it has more months."""
    before = _size(home.folder)
    ran = home.lakehouse("backfill", "drives", "--from", MONTHS[-1], "--select", MONTHLY)
    return ran, _size(home.folder) - before


def _size(folder: Path) -> float:
    """MB of the files below a folder, but for the services', which come and go by themselves."""
    files = (p for p in folder.rglob("*") if "services" not in p.parts and p.is_file())
    return sum(path.stat().st_size for path in files) / 1024**2
