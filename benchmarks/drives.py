"""Drive stats: against pandas and Spark, a plain loop, and bare Polars."""

import json
import tempfile
from pathlib import Path

from rich.table import Table

from benchmarks.harness import MIRROR, Home, baseline, err, row
from benchmarks.modern_month import make_modern_month
from lakehouse.samples.drives import DRIVE_FOLDER

QUARTER = ["--from", "2018-01", "--to", "2018-03"]
BRONZE = 'key:"drives/raw/archive" or key:"drives/bronze/drive_days"'
# Drive stats need no other service.
ALONE = {"LAKEHOUSE_WITHOUT": "bigquery postgres"}


def quarter(table: Table) -> None:
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
    home = Home(MIRROR, **ALONE)
    loop = home.python("-m", "benchmarks.plain_loop", "2018-01", "2018-02", "2018-03")
    home.remove()
    row(
        table, "2018 Q1, the command: pandas and Spark / us", spark["seconds"], first.seconds, "≥ 3"
    )
    row(table, "2018 Q1, the command: us / a plain loop", first.seconds, loop.seconds, "≤ 1.5")
    row(table, "2018 Q1 again, unchanged: second / first", second.seconds, first.seconds, "≤ 0.3")


def modern_quarter(table: Table) -> None:
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
    row(table, "2024 Q2, 3 M x 197: us / a plain loop", first.seconds, loop.seconds, "≤ 1.5")
    row(table, "2024 Q2 again, unchanged: second / first", second.seconds, first.seconds, "≤ 0.3")


def modern_month(table: Table) -> None:
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
    row(table, "3 M x 197, archive to bronze: us / bare Polars", seconds, bare["seconds"], "≤ 1.5")
    row(
        table, "its peak memory, MB: us / bare Polars", ours.peak_mb, bare["peak_rss_mb"], "4096 MB"
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
    row(table, "peak memory, MB: 28 days / 7 days", peaks[1], peaks[0], "≤ 1.3")
