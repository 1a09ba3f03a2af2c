"""Real files of the publisher: what comes out is what is known of them, to the digit.

The files are looked for in `../shared/mirror`, or where LAKEHOUSE_TEST_MIRROR says.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from homes import Home

from lakehouse.resources.lake import Lake
from lakehouse.tables.drives import BRONZE

MIRROR = Path(
    os.environ.get("LAKEHOUSE_TEST_MIRROR")
    or Path(__file__).resolve().parents[2] / "shared" / "mirror"
)

pytestmark = [
    pytest.mark.mirror,
    pytest.mark.skipif(not MIRROR.is_dir(), reason="the publisher's files are not here"),
]

PERIODS = (
    ("2018-01", "2018-03"),
    ("2013-04", "2013-05"),
    ("2020-10", "2020-12"),
    ("2021-10", "2021-12"),
    ("2023-10", "2023-12"),
    ("2024-01", "2024-03"),
    ("2024-04", "2024-06"),
)

ROWS_AND_FAILURES = {
    "2013-04": (452_821, 43),
    "2013-05": (195_518, 50),
    "2018-01": (980_431, 74),
    "2018-02": (877_073, 63),
    "2018-03": (964_778, 41),
    "2020-10": (135, 135),
    "2020-11": (140, 140),
    "2020-12": (129, 129),
    "2021-10": (214, 214),
    "2021-11": (231, 231),
    "2021-12": (227, 227),
    "2023-10": (381, 381),
    "2023-11": (415, 415),
    "2023-12": (261, 261),
    "2024-01": (3_965, 357),
    "2024-02": (2_350, 348),
    "2024-03": (844, 273),
    "2024-04": (290, 290),
    "2024-05": (480, 480),
    "2024-06": (460, 460),
}

SERIAL_NUMBERS = {
    ("2013-04", "2013-05"): 22_048,
    ("2018-01", "2018-03"): 32_091,
    ("2020-10", "2020-12"): 404,
    ("2021-10", "2021-12"): 672,
    ("2023-10", "2023-12"): 1_057,
    ("2024-01", "2024-03"): 978,
    ("2024-04", "2024-06"): 1_230,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """All periods, each by a command of its own, two at a time."""
    home = Home(tmp_path_factory.mktemp("known") / "home", MIRROR)

    def backfill(period: tuple[str, str]) -> None:
        answer = home.run("backfill", "drives", "--from", period[0], "--to", period[1])
        assert answer.code == 0, answer.out + answer.err

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(backfill, PERIODS))
    yield home
    home.down()


def test_rows_and_failures_of_every_month(home: Home) -> None:
    rows = home.query(
        "SELECT formatDateTime(date, '%Y-%m') AS month, sum(drive_count) AS rows,"
        " sum(drive_failures) AS failures FROM drives.daily_summary GROUP BY month ORDER BY month"
    )

    assert {r["month"]: (r["rows"], r["failures"]) for r in rows} == ROWS_AND_FAILURES


@pytest.mark.parametrize("period", SERIAL_NUMBERS)
def test_serial_numbers_of_every_file(home: Home, period: tuple[str, str]) -> None:
    rows = Lake(home.settings).scan(BRONZE).filter(pl.col("month").is_between(*map(pl.lit, period)))

    found = rows.select(pl.col("serial_number").n_unique()).collect().item()

    assert found == SERIAL_NUMBERS[period]


def test_drives_of_the_years_that_one_file_holds(home: Home) -> None:
    rows = home.query(
        "SELECT year, sum(drive_count) AS drives FROM drives.yearly_summary"
        " WHERE year < 2024 GROUP BY year"
    )

    assert {row["year"]: row["drives"] for row in rows} == {
        int(first[:4]): count for (first, _), count in SERIAL_NUMBERS.items() if first < "2024"
    }


def test_the_first_day(home: Home) -> None:
    rows = home.query("SELECT * FROM drives.daily_summary ORDER BY date LIMIT 1")

    assert rows == [{"date": "2013-04-10", "drive_count": 21_195, "drive_failures": 1}]


def test_the_brands_of_2013_by_the_original_rule(home: Home) -> None:
    of_the_year = home.query(
        "SELECT brand, drive_days, drive_failures FROM drives.yearly_summary WHERE year = 2013"
    )
    of_its_days = home.query(
        "SELECT brand, sum(drive_count), sum(drive_failures) FROM drives.daily_brand_summary"
        " WHERE toYear(date) = 2013 GROUP BY brand"
    )

    for rows in (of_the_year, of_its_days):
        assert {brand: counts for brand, *counts in (row.values() for row in rows)} == {
            "Others": [362_667, 13],
            "Seagate": [244_867, 72],
            "Western Digital": [38_228, 7],
            "HGST": [1_327, 1],
            "Toshiba": [1_250, 0],
        }


def test_the_failure_rate_that_backblaze_published_for_q1_2018(home: Home) -> None:
    (rate,) = home.query(
        "SELECT drive_count, drive_days, failures, round(afr, 2) AS afr FROM drives.failure_rates"
        " WHERE period = 'quarter' AND period_start = '2018-01-01' AND model = 'ST4000DM000'"
    )

    assert rate == {"drive_count": 30_941, "drive_days": 2_822_282, "failures": 178, "afr": 2.3}


def test_nothing_was_rejected_or_failed(home: Home) -> None:
    statuses = home.call("status", "--json").json
    (drives,) = (status for status in statuses if status["dataset"] == "drives")

    assert drives["rows_rejected"] == 0
    assert drives["failed_partitions"] == {}
    assert {check["check"] for check in drives["failing_checks"] if check["stops"]} == set()
    assert {asset["stale"] for asset in drives["assets"]} == {0}
