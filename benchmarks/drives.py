"""Drive stats: against pandas and Spark, a plain loop, and bare Polars."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
from benchmarks.modern_month import make_modern_month
from lakehouse.samples.drives import DRIVE_FOLDER

QUARTER = ["--from", "2018-01", "--to", "2018-03"]
BRONZE = 'key:"drives/raw/archive" or key:"drives/bronze/drive_days"'
MONTHLY = (
    'key:"drives/*"'
    ' and not key:"drives/*/period_failure_rates" and not key:"drives/*/yearly_summary"'
)
"""All but what is made of a year."""
# Drive stats need no other service.
ALONE = {"LAKEHOUSE_WITHOUT": "bigquery postgres"}


def quarter() -> Iterator[Comparison]:
    """2018 Q1: against pandas and Spark, against a plain loop, and a second time."""
    archive = MIRROR / DRIVE_FOLDER / "data_Q1_2018.zip"
    if not archive.exists():
        err.print(f"The comparisons of 2018 Q1 need {archive}.")
        return
    home = Home(MIRROR, **ALONE)
    first = home.lakehouse("backfill", "drives", *QUARTER)
    second = home.lakehouse("backfill", "drives", *QUARTER)
    home.remove()
    spark = baseline("baselines.py", "spark", archive)
    bare = baseline("baselines.py", "polars-q1", archive)
    home = Home(MIRROR, **ALONE)
    loop = home.python("-m", "benchmarks.plain_loop", "2018-01", "2018-02", "2018-03")
    home.remove()
    what = "2018 Q1 (2.8 M rows, 5 columns), the command"
    yield Comparison(f"{what}: pandas and Spark / us", spark["seconds"], first.seconds, at_least(3))
    yield Comparison(f"{what}: us / bare Polars", first.seconds, bare["seconds"])
    yield Comparison(f"{what}: us / a plain loop", first.seconds, loop.seconds, at_most(1.5))
    yield Comparison(
        "2018 Q1 again, unchanged: second / first", second.seconds, first.seconds, at_most(0.3)
    )


def modern_quarter() -> Iterator[Comparison]:
    """Three modern months, 3 million rows of 197 columns: against a plain loop, and again."""
    months = ["2024-04", "2024-05", "2024-06"]
    with tempfile.TemporaryDirectory() as folder:
        make_modern_month(Path(folder), rows=3_000_000, days=91)
        home = Home(Path(folder), **ALONE)
        first = home.lakehouse("backfill", "drives", "--from", months[0], "--to", months[-1])
        second = home.lakehouse("backfill", "drives", "--from", months[0], "--to", months[-1])
        home.remove()
        home = Home(Path(folder), **ALONE)
        loop = home.python("-m", "benchmarks.plain_loop", *months)
        home.remove()
    yield Comparison(
        "2024 Q2, 3 M x 197: us / a plain loop", first.seconds, loop.seconds, at_most(1.5)
    )
    yield Comparison(
        "2024 Q2 again, unchanged: second / first", second.seconds, first.seconds, at_most(0.3)
    )


def modern_month() -> Iterator[Comparison]:
    """3 million rows of 197 columns to bronze, and memory over 7 and 28 days."""
    with tempfile.TemporaryDirectory() as folder:
        archive = make_modern_month(Path(folder), rows=3_000_000, days=30)
        bare = baseline("baselines.py", "polars", archive)
        home = Home(Path(folder), **ALONE)
        ours = home.lakehouse(
            "backfill", "drives", "--from", "2024-04", "--select", BRONZE, "--json"
        )
        home.remove()
    seconds = json.loads(ours.output)[0]["seconds"]
    what = "3 M x 197, archive to bronze"
    yield Comparison(f"{what}: us / bare Polars", seconds, bare["seconds"], at_most(1.5))
    yield Comparison(
        "its peak memory, MB: us / bare Polars",
        ours.peak_mb,
        bare["peak_rss_mb"],
        left_at_most(4096),
    )
    peaks = []
    for days in (7, 28):
        with tempfile.TemporaryDirectory() as folder:
            make_modern_month(Path(folder), rows=days * 100_000, days=days)
            home = Home(Path(folder), **ALONE)
            peaks.append(
                home.lakehouse(
                    "backfill", "drives", "--from", "2024-04", "--select", BRONZE
                ).peak_mb
            )
            home.remove()
    yield Comparison("peak memory, MB: 28 days / 7 days", peaks[1], peaks[0], at_most(1.3))
