"""How time and memory grow with a month: 1, 4 and 16 times the rows, beside the bare bound."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.drives import ALONE, BRONZE
from benchmarks.harness import MIRROR, Comparison, Home, Run, baseline, err
from benchmarks.modern_month import make_modern_month
from benchmarks.taxi import MONTH, OBJECTS, RAW
from lakehouse.samples.retail import RETAIL_FILE
from lakehouse.samples.taxi import TRIP_FOLDER, make_taxi_months

SIZES = (1, 4, 16)
DRIVE_DAYS = 180_000
TRIPS = 250_000
SALES = {1: "2009-12", 4: "2010-03", 16: "2011-03"}
"""The last of 1, 4 and 16 months of the workbook."""


def drive_days() -> Iterator[Comparison]:
    """A month of 197 columns to bronze."""
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            archive = make_modern_month(Path(folder), rows=size * DRIVE_DAYS, days=30)
            home = Home(Path(folder), **ALONE)
            month = ("--from", "2024-04", "--select", BRONZE, "--json")
            ours = home.lakehouse("backfill", "drives", *month)
            home.remove()
            bare = baseline("baselines.py", "polars", archive)
        rows = f"drives, {size * DRIVE_DAYS:,} x 197 to bronze"
        yield from _both(rows, ours, bare)


def trips() -> Iterator[Comparison]:
    """A month of yellow trips to the object."""
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            make_taxi_months(Path(folder), months={"yellow": (MONTH,)}, trips=size * TRIPS)
            file = Path(folder) / TRIP_FOLDER / f"yellow_tripdata_{MONTH}.parquet"
            home = Home(Path(folder), LAKEHOUSE_OBJECTS=f"{folder}/objects")
            month = ("--service", "yellow", "--from", MONTH, "--json", "--select")
            home.lakehouse("backfill", "taxi", *month, RAW)
            ours = home.lakehouse("backfill", "taxi", *month, OBJECTS)
            home.remove()
            bare = baseline("baselines_taxi.py", "polars", file)
        yield from _both(f"taxi, {size * TRIPS:,} trips to the object", ours, bare)


def sales() -> Iterator[Comparison]:
    """Months of the workbook to the quality tables; each beside one month."""
    if not (MIRROR / RETAIL_FILE).exists():
        err.print(f"The growth of retail needs {MIRROR / RETAIL_FILE}.")
        return
    one: Run | None = None
    for size, last in SALES.items():
        home = Home(MIRROR, **ALONE)
        ours = home.lakehouse("backfill", "retail", "--from", SALES[1][:4] + "-12", "--to", last)
        home.remove()
        one = one or ours
        yield Comparison(f"retail, {size} months / 1", ours.seconds, one.seconds)
        yield Comparison("its peak memory, MB", ours.peak_mb, one.peak_mb)


def _both(what: str, ours: Run, bare: dict[str, float]) -> Iterator[Comparison]:
    seconds = float(json.loads(ours.output)[-1]["seconds"])
    yield Comparison(f"{what}: us / bare Polars", seconds, bare["seconds"])
    yield Comparison("its peak memory, MB: us / bare Polars", ours.peak_mb, bare["peak_rss_mb"])
