"""Online Retail: the whole workbook against the original's way, and one new month."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.harness import (
    MIRROR,
    Comparison,
    Home,
    at_least,
    at_most,
    baseline,
    err,
    left_at_most,
)
from lakehouse.samples.retail import RETAIL_FILE

FIRST, LAST_BUT_ONE, LAST = "2009-12", "2011-11", "2011-12"
ALONE = {"LAKEHOUSE_WITHOUT": "bigquery postgres"}
ROUNDS = 3
"""A minute of the same machine can take a seventh more time than the next."""


class Round(NamedTuple):
    """Seconds and MB of each side, one after the other."""

    whole: float
    month: float
    original: float
    whole_mb: float
    original_mb: float


def workbook() -> Iterator[Comparison]:
    """From the workbook to the quality tables: the median of three rounds."""
    file = MIRROR / RETAIL_FILE
    if not file.exists():
        err.print(f"The comparison of the workbook needs {file}.")
        return
    rounds = [_round(file) for _ in range(ROUNDS)]
    found = Round(*map(median, zip(*rounds, strict=True)))
    yield Comparison(
        "the workbook: the original's way / us", found.original, found.whole, at_least(5)
    )
    yield Comparison("a new month / the whole workbook", found.month, found.whole, at_most(0.2))
    yield Comparison(
        "peak memory, MB: us / the original",
        found.whole_mb,
        found.original_mb,
        left_at_most(2048),
    )


def _round(file: Path) -> Round:
    home = Home(MIRROR, **ALONE)
    whole = home.lakehouse("backfill", "retail", "--from", FIRST, "--to", LAST)
    home.remove()
    home = Home(MIRROR, **ALONE)
    home.lakehouse("backfill", "retail", "--from", FIRST, "--to", LAST_BUT_ONE)
    month = home.lakehouse("backfill", "retail", "--from", LAST)
    home.remove()
    home = Home(MIRROR, **ALONE)
    port = home.environment["LAKEHOUSE_CLICKHOUSE_PORT"]
    original = baseline("baselines_retail.py", file, "--port", port)
    home.remove()
    found = Round(
        *(whole.seconds, month.seconds, original["seconds"]),
        *(whole.peak_mb, original["peak_rss_mb"]),
    )
    ratios = f"{found.original / found.whole:.2f} and {found.month / found.whole:.2f}"
    err.print(
        f"The whole {found.whole:.1f} s, a new month {found.month:.1f} s, the original's way"
        f" {found.original:.1f} s: {ratios}"
    )
    return found
