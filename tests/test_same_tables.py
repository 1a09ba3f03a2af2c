"""However often, in whatever order and however rudely a month is made: the same tables.

`Home.tables` gives a digest of the rows of bronze, silver, gold, rejects and ClickHouse.
"""

import random
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from homes import Home

from lakehouse.samples.drives import make_drive_archives

MONTHS = ("2018-01", "2018-02")

MakeHome = Callable[[Path], Home]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two months of one archive; the first has lines that are rejected and doubled."""
    root = tmp_path_factory.mktemp("mirror")
    make_drive_archives(root, months=MONTHS, drives=90)
    return root


@pytest.fixture(scope="module")
def undisturbed(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("undisturbed") / "home", mirror)
    home.backfill(*MONTHS)
    yield home
    home.down()


@pytest.fixture(scope="module")
def expected(undisturbed: Home) -> dict[str, str]:
    return undisturbed.tables()


def test_there_is_something_in_every_table(undisturbed: Home) -> None:
    drives = undisturbed.call("status", "drives", "--json").json[0]

    assert {asset["asset"]: asset["fresh"] for asset in drives["assets"]} == {
        **dict.fromkeys(
            [
                *("drives/raw/archive", "drives/bronze/drive_days", "drives/silver/drive_days"),
                *("drives/gold/daily_summary", "drives/gold/failure_rates"),
                *("drives/clickhouse/daily_summary", "drives/clickhouse/failure_rates"),
            ],
            2,
        ),
        **dict.fromkeys(
            [
                *("drives/gold/period_failure_rates", "drives/gold/yearly_summary"),
                *("drives/clickhouse/period_failure_rates", "drives/clickhouse/yearly_summary"),
            ],
            1,
        ),
    }
    assert drives["rows_rejected"] == 2


def test_a_second_time(undisturbed: Home, expected: dict[str, str]) -> None:
    reports = undisturbed.backfill(*MONTHS, "--force", "--json")

    assert all(report["ran"] for report in reports)
    assert undisturbed.tables() == expected


def test_in_another_order(mirror: Path, make_home: MakeHome, expected: dict[str, str]) -> None:
    home = make_home(mirror)
    for month in reversed(MONTHS):
        home.backfill(month)

    assert home.tables() == expected


@pytest.mark.parametrize("months", [(MONTHS, MONTHS), (MONTHS[:1], MONTHS[1:])])
def test_in_two_processes_at_once(
    mirror: Path, make_home: MakeHome, expected: dict[str, str], months: tuple[tuple[str, ...], ...]
) -> None:
    """On the same months, and on one month each."""
    home = make_home(mirror)
    both = [
        home.start("backfill", "drives", "--from", m[0], "--to", m[-1], "--force") for m in months
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err

    assert home.tables() == expected


def test_killed_again_and_again(
    mirror: Path, make_home: MakeHome, expected: dict[str, str]
) -> None:
    """With SIGKILL, at moments from before the first file is landed to the last table."""
    home = make_home(mirror)
    moments = random.Random("killed")
    killed = 0
    for _ in range(4):
        process = home.start("backfill", "drives", "--from", MONTHS[0], "--to", MONTHS[1])
        _wait_until_a_run_begins(home, process)
        time.sleep(moments.uniform(0, 1.5))
        process.kill()
        process.communicate()
        killed += process.returncode < 0
    assert killed >= 3

    answer = home.run("backfill", "drives", "--from", MONTHS[0], "--to", MONTHS[1])

    assert answer.code == 0, answer.out + answer.err
    assert home.tables() == expected
    assert home.call("status", "drives", "--json").json[0]["failed_partitions"] == {}


def _wait_until_a_run_begins(home: Home, process: subprocess.Popen[str]) -> None:
    before = _runs(home)
    while process.poll() is None and _runs(home) == before:
        time.sleep(0.02)


def _runs(home: Home) -> int:
    """How many runs Dagster's history has; none before it is there."""
    database = home.folder / "dagster" / "storage" / "history" / "runs.db"
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as history:
        try:
            return int(history.execute("SELECT count(*) FROM runs").fetchone()[0])
        except sqlite3.OperationalError:
            return 0
