"""Real months of green taxi trips: what comes out is what is known of them, to the cent."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from homes import Answer, Home

from lakehouse.resources.bigquery import BigQuery
from lakehouse.resources.objects import Objects
from lakehouse.resources.postgres import Postgres
from lakehouse.tables.taxi import object_name

MIRROR = Path(
    os.environ.get("LAKEHOUSE_TEST_MIRROR")
    or Path(__file__).resolve().parents[2] / "shared" / "mirror"
)

pytestmark = [
    pytest.mark.mirror,
    pytest.mark.skipif(not MIRROR.is_dir(), reason="the publisher's files are not here"),
]

# rows, pickups outside the month, missing passenger counts, negative totals, dropoffs before the
# pickup, cents of total_amount
KNOWN = {
    "2020-03": (223_496, 22, 47_209, 684, 38, 373_585_610),
    "2020-04": (35_644, 6, 11_142, 122, 12, 70_185_027),
    "2020-12": (83_130, 3, 36_838, 182, 1, 193_384_878),
    "2021-01": (76_518, 3, 36_047, 134, 0, 180_389_805),
    "2021-02": (64_572, 2, 29_109, 111, 0, 151_348_817),
    "2021-03": (83_827, 0, 40_534, 147, 0, 198_846_774),
    "2022-01": (62_495, 4, 6_295, 211, 0, 109_307_080),
    "2023-01": (68_211, 4, 4_324, 179, 0, 148_627_522),
    "2024-01": (56_551, 2, 3_415, 185, 0, 126_692_259),
    "2025-01": (48_326, 43, 1_836, 153, 0, 109_382_236),
}

FLAGS = (
    *("pickup_outside_month", "passenger_count_missing", "negative_total"),
    "dropoff_before_pickup",
)

NOT_PUBLISHED = (
    "taxi green  not published: 2020-05 to 2020-11, 2021-04 to 2021-12, 2022-02 to 2022-12,"
    " 2023-02 to 2023-12, 2024-02 to 2024-12"
)


@dataclass(frozen=True)
class Backfilled:
    home: Home
    answer: Answer


@pytest.fixture(scope="module")
def backfilled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backfilled]:
    home = Home(tmp_path_factory.mktemp("known") / "home", MIRROR)
    months = ("--from", "2020-03", "--to", "2025-01")
    yield Backfilled(home, home.call("backfill", "taxi", "--service", "green", *months))
    home.down()


def test_months_that_are_not_published_are_one_line_and_hinder_no_other(
    backfilled: Backfilled,
) -> None:
    lines = backfilled.answer.out.splitlines()

    assert backfilled.answer.code == 1
    assert lines[-1] == NOT_PUBLISHED
    assert [line for line in lines if "not published" in line] == [NOT_PUBLISHED]
    assert not [line for line in lines if "failed" in line]
    assert all(any(f"taxi green {month}  ok" in line for line in lines) for month in KNOWN)


@pytest.mark.parametrize("month", KNOWN)
def test_the_object_of_a_month(backfilled: Backfilled, month: str) -> None:
    with Objects(backfilled.home.settings).local(object_name("green", month)) as local:
        trips = pl.read_parquet(local.path)
    rows, _, missing, *_ = KNOWN[month]

    cents = int((trips["total_amount"] * 100).round().sum())
    flags = tuple(int(trips[flag].sum()) for flag in FLAGS)
    assert (trips.height, *flags, cents) == KNOWN[month]
    assert trips["passenger_count"].null_count() == 0
    assert trips.filter("passenger_count_missing")["passenger_count"].unique().to_list() == [0]
    assert 0 < missing < rows


def _sums(table: str) -> str:
    flags = ", ".join(f"sum(CASE WHEN {flag} THEN 1 ELSE 0 END)" for flag in FLAGS)
    return (
        f"SELECT month, count(*), {flags}, sum(round(total_amount * 100)) FROM {table}"
        " GROUP BY month ORDER BY month"
    )


def _by_month(rows: list[tuple]) -> dict[str, tuple[int, ...]]:
    return {f"{month:%Y-%m}": tuple(map(int, counts)) for month, *counts in rows}


def test_postgres(backfilled: Backfilled) -> None:
    sql = _sums("taxi.green_trips")

    assert _by_month(Postgres(backfilled.home.settings).query(sql).rows) == KNOWN


def test_bigquery(backfilled: Backfilled) -> None:
    if not backfilled.home.has_bigquery:
        pytest.skip("BigQuery's emulator cannot run here")
    sql = _sums("green_trips")

    assert _by_month(BigQuery(backfilled.home.settings).query(sql).rows) == KNOWN


@pytest.mark.parametrize("table", ["daily", "hourly", "zones", "payments"])
def test_every_gold_table_counts_every_trip_of_the_month_once(
    backfilled: Backfilled, table: str
) -> None:
    day = "date" if table == "daily" else "month_start"
    counted = backfilled.home.query(
        f"SELECT toStartOfMonth({day}) AS month, sum(trips) AS trips, sum(revenue) AS revenue"
        f" FROM taxi.{table} WHERE service = 'green' GROUP BY month ORDER BY month"
    )
    of_the_month = Postgres(backfilled.home.settings).query(
        "SELECT to_char(month, 'YYYY-MM-DD'), count(*), sum(round(total_amount * 100))"
        " FROM taxi.green_trips WHERE NOT pickup_outside_month GROUP BY month ORDER BY month"
    )

    assert [
        (row["month"], row["trips"], round(row["revenue"] * 100)) for row in counted
    ] == of_the_month.rows
