"""Taxi: a yellow month of 3 million rows, against bare Polars and the originals' pandas."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import (
    Comparison,
    Home,
    at_least,
    at_most,
    baseline,
    left_at_most,
)
from lakehouse.samples.taxi import TRIP_FOLDER, make_taxi_months

MONTH = "2024-01"
ROWS = 3_000_000
SQL_ROWS = 300_000
"""Rows that `to_sql` is given; its time for all of them follows from that."""

RAW = 'key:"taxi/raw/zones" or key:"taxi/raw/yellow_trips"'
OBJECTS = 'key:"taxi/objects/yellow_trips"'
POSTGRES = 'key:"taxi/postgres/yellow_trips"'


def yellow_month() -> Iterator[Comparison]:
    """From the landed file to the cleaned object, and on to PostgreSQL."""
    with tempfile.TemporaryDirectory() as folder:
        make_taxi_months(Path(folder), months={"yellow": (MONTH,)}, trips=ROWS)
        file = Path(folder) / TRIP_FOLDER / f"yellow_tripdata_{MONTH}.parquet"
        home = Home(Path(folder), LAKEHOUSE_OBJECTS=f"{folder}/objects")
        month = ["backfill", "taxi", "--service", "yellow", "--from", MONTH, "--json", "--select"]
        home.lakehouse(*month, RAW)
        objects = home.lakehouse(*month, OBJECTS)
        step = home.python("-m", "benchmarks.steps").json["taxi__objects__yellow_trips"]
        postgres = home.lakehouse(*month, POSTGRES)
        url = home.python("-m", "benchmarks.postgres_url").output.strip()
        bare = baseline("baselines_taxi.py", "polars", file)
        pandas = baseline("baselines_taxi.py", "pandas", file)
        to_sql = baseline(
            "baselines_taxi.py", "to-sql", file, "--url", url, "--rows", str(SQL_ROWS)
        )
        home.remove()
    cleaned, loaded = seconds(objects.output), seconds(postgres.output)
    what = "yellow, 3 M, raw to object"
    yield Comparison(f"{what}: us / bare Polars", step, bare["seconds"], at_most(1.5))
    yield Comparison(f"{what}, and its eight checks: us / bare Polars", cleaned, bare["seconds"])
    yield Comparison(
        f"{what}, and its checks: pandas / us", pandas["seconds"], cleaned, at_least(3)
    )
    yield Comparison(
        "its peak memory, MB: us / pandas",
        objects.peak_mb,
        pandas["peak_rss_mb"],
        left_at_most(2048),
    )
    all_rows = to_sql["seconds"] * ROWS / SQL_ROWS
    yield Comparison("yellow, 3 M, to PostgreSQL: to_sql / us", all_rows, loaded, at_least(20))


def seconds(output: str) -> float:
    """How long the run of the month took, which is the last of a backfill's reports."""
    return float(json.loads(output)[-1]["seconds"])
