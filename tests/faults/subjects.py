"""What is put through the faults: each data set, small, with two editions of its source."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import retail_homes
from homes import Home, Tables

from lakehouse.samples.drives import DRIVE_FOLDER, make_drive_archives
from lakehouse.samples.retail import RETAIL_FILE, make_retail_workbook
from lakehouse.samples.taxi import TRIP_FOLDER, make_taxi_months

Publish = Callable[[Path, int, Sequence[str]], Mapping[str, int]]


@dataclass(frozen=True)
class Subject:
    """A data set as the faults see it.

    Attributes:
        name: Its name.
        months: What is backfilled.
        publish: Has the publisher put up an edition of these months in the mirror; how many rows
            there are in each month.
        tables: The rows of all tables.
        counts: The asset that counts the rows of a month as they come in.
        steps: By phase, the steps of Dagster that it is made of.
        seconds: How long a step of a phase takes at most.
        source: The files of the publisher that the months are in.
        options: What the backfill is told besides the months.
    """

    name: str
    months: tuple[str, ...]
    publish: Publish
    tables: Callable[[Home], Tables]
    counts: str
    steps: Mapping[str, tuple[str, ...]]
    seconds: Mapping[str, float]
    source: str
    options: tuple[str, ...] = ()

    def backfill(self, *months: str) -> tuple[str, ...]:
        """The command that brings these months up to date; all, where none are named."""
        months = months or self.months
        span = ("--from", months[0], "--to", months[-1])
        return ("backfill", self.name, *self.options, *span)


def _publish_drives(mirror: Path, edition: int, months: Sequence[str]) -> Mapping[str, int]:
    truth = make_drive_archives(mirror, seed=edition, months=months, drives=90)
    return {month: known.rows for month, known in truth.months.items()}


def _publish_taxi(mirror: Path, edition: int, months: Sequence[str]) -> Mapping[str, int]:
    truth = make_taxi_months(mirror, seed=edition, months={"green": months}, trips=1000)
    return {month: known.rows for (_, month), known in truth.months.items()}


def _publish_retail(mirror: Path, edition: int, months: Sequence[str]) -> Mapping[str, int]:
    truth = make_retail_workbook(mirror, seed=edition)
    return {month: truth.months[month].rows_in for month in months}


def _steps(dataset: str, layer: str, *tables: str) -> tuple[str, ...]:
    return tuple(f"{dataset}__{layer}__{table}" for table in tables)


_DRIVES_GOLD = (
    *("daily_summary", "daily_brand_summary", "failure_rates"),
    *("period_failure_rates", "yearly_summary"),
)
_TAXI_GOLD = ("green_daily", "green_hourly", "green_zones", "green_payments")

DRIVES = Subject(
    name="drives",
    months=("2018-01", "2018-02"),
    publish=_publish_drives,
    tables=Home.drive_tables,
    counts="drives/bronze/drive_days",
    steps={
        "download": _steps("drives", "raw", "archive"),
        "bronze": _steps("drives", "bronze", "drive_days"),
        "silver": _steps("drives", "silver", "drive_days"),
        "gold": _steps("drives", "gold", *_DRIVES_GOLD),
        "ClickHouse": _steps("drives", "clickhouse", *_DRIVES_GOLD),
    },
    seconds={"bronze": 0.4, "silver": 0.2},
    source=f"{DRIVE_FOLDER}/*.zip",
)
TAXI = Subject(
    name="taxi",
    months=("2020-01", "2020-02"),
    publish=_publish_taxi,
    tables=Home.taxi_tables,
    counts="taxi/objects/green_trips",
    steps={
        "download": (*_steps("taxi", "raw", "zones"), *_steps("taxi", "raw", "green_trips")),
        "objects": _steps("taxi", "objects", "green_trips"),
        "BigQuery": _steps("taxi", "bigquery", "green_trips"),
        "PostgreSQL": _steps("taxi", "postgres", "green_trips"),
        "gold": _steps("taxi", "gold", *_TAXI_GOLD),
        "ClickHouse": _steps("taxi", "clickhouse", *_TAXI_GOLD),
    },
    seconds={"objects": 0.4, "BigQuery": 0.8, "PostgreSQL": 0.3},
    source=f"{TRIP_FOLDER}/*.parquet",
    options=("--service", "green"),
)
RETAIL = Subject(
    name="retail",
    # The first one has lines on both sheets, the second one lines that are rejected.
    months=("2010-12", "2011-01"),
    publish=_publish_retail,
    tables=retail_homes.retail_tables,
    counts="retail/raw/online_retails",
    steps={
        "download": _steps("retail", "raw", "workbook"),
        "staging": _steps("retail", "raw", "online_retails", "psa_online_retails"),
        "dbt": ("retail_dbt",),
    },
    seconds={"download": 0.5, "staging": 0.2, "dbt": 8.0},
    source=RETAIL_FILE,
)

SUBJECTS = {subject.name: subject for subject in (DRIVES, TAXI, RETAIL)}
SHORT_STEP = 0.15
"""Seconds that a step takes of which its subject says nothing."""
