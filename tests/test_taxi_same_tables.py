"""However often, in whatever order and however rudely a month of trips is made: the same tables.

`Home.taxi_tables` gives a digest of all that is made: the objects' bytes, and the rows of BigQuery,
PostgreSQL, gold, ClickHouse and rejects.
"""

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from homes import Home

from lakehouse.samples.taxi import make_taxi_months
from lakehouse.services.local import local_services

MONTHS = ("2020-01", "2020-02")
ONE_MONTH = ("backfill", "taxi", "--service", "green", "--from", MONTHS[0])
BACKFILL = (*ONE_MONTH, "--to", MONTHS[-1])

MakeHome = Callable[[Path], Home]


def publish(mirror: Path, edition: int, *months: str) -> Path:
    make_taxi_months(mirror, seed=edition, months={"green": months or MONTHS}, trips=1000)
    return mirror


def backfill(home: Home, *options: str) -> None:
    answer = home.call(*BACKFILL, *options)
    assert answer.code == 0, answer.out + answer.err


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    root = tmp_path_factory.mktemp("undisturbed")
    home = Home(root / "home", publish(root / "mirror", 1))
    try:
        backfill(home)
        yield home
    finally:
        home.down()


@pytest.fixture(scope="module")
def editions(undisturbed: Home) -> tuple[dict[str, str], dict[str, str]]:
    """What is made of the first edition of the months, and of the second, in peace."""
    first = undisturbed.taxi_tables()
    publish(undisturbed.mirror, 2)
    backfill(undisturbed)
    return first, undisturbed.taxi_tables()


def test_a_second_edition_is_followed_by_everything(
    editions: tuple[dict[str, str], dict[str, str]],
) -> None:
    first, second = editions

    assert first.keys() == second.keys()
    assert not [name for name in first if first[name] == second[name]]


def test_a_second_run_does_nothing(
    undisturbed: Home, editions: tuple[dict[str, str], dict[str, str]]
) -> None:
    reports = undisturbed.call(*BACKFILL, "--json").json

    assert [(report["partition"], report["ok"], report["ran"]) for report in reports] == [
        ("", True, False),
        *((month, True, False) for month in MONTHS),
    ]
    assert undisturbed.taxi_tables() == editions[1]


def test_a_second_time_by_force(
    undisturbed: Home, editions: tuple[dict[str, str], dict[str, str]]
) -> None:
    backfill(undisturbed, "--force")

    assert undisturbed.taxi_tables() == editions[1]


def test_a_second_edition_of_one_month_leaves_the_other_alone(
    undisturbed: Home, editions: tuple[dict[str, str], dict[str, str]]
) -> None:
    publish(undisturbed.mirror, 1, MONTHS[0])
    reports = undisturbed.call(*BACKFILL, "--json").json
    after = undisturbed.taxi_tables()

    # The zones were published again, too, though they are the same.
    assert [report["partition"] for report in reports if report["ran"]] == ["", MONTHS[0]]
    names = [f"data/green/green_tripdata_{month}.parquet" for month in MONTHS]
    assert [after[name] for name in names] == [editions[0][names[0]], editions[1][names[1]]]

    publish(undisturbed.mirror, 2, MONTHS[0])
    backfill(undisturbed)
    assert undisturbed.taxi_tables() == editions[1]


def test_in_another_order_then_by_two_processes_then_killed_again_and_again(
    tmp_path: Path,
    make_home: MakeHome,
    editions: tuple[dict[str, str], dict[str, str]],
) -> None:
    first, second = editions
    home = make_home(publish(tmp_path / "mirror", 1))
    for month in reversed(MONTHS):
        answer = home.call("backfill", "taxi", "--service", "green", "--from", month)
        assert answer.code == 0, answer.out
    assert home.taxi_tables() == first

    both = [home.start(*ONE_MONTH, "--force") for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert home.taxi_tables() == first

    publish(home.mirror, 2)
    moments = random.Random("killed")
    for step in (
        *("taxi__objects__green_trips", "taxi__bigquery__green_trips"),
        *("taxi__postgres__green_trips", "taxi__gold__green_daily"),
    ):
        if "bigquery" in step and not home.has_bigquery:
            continue
        process = home.start(*ONE_MONTH, "--force")
        wait_until_it_begins(home, process, step)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, step

    answer = home.run(*BACKFILL)

    assert answer.code == 0, answer.out + answer.err
    assert home.taxi_tables() == second
    (taxi,) = home.call("status", "taxi", "--json").json
    assert taxi["failed_partitions"] == {}


def wait_until_it_begins(home: Home, process: subprocess.Popen[str], step: str) -> None:
    before = begun(home, step)
    while process.poll() is None:
        if begun(home, step) > before:
            return
        time.sleep(0.02)
    raise AssertionError(f"{step} never began: {process.communicate()}")


def begun(home: Home, step: str) -> int:
    """How often a step began, as Dagster's history says."""
    database = home.folder / "dagster" / "storage" / "event_log.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as history:
        sql = (
            "SELECT count(*) FROM event_logs"
            " WHERE dagster_event_type = 'STEP_START' AND step_key = ?"
        )
        return int(history.execute(sql, (step,)).fetchone()[0])


@pytest.mark.parametrize("name", ["gcs", "bigquery", "postgres"])
def test_a_service_that_is_killed_in_the_middle_is_started_again(
    undisturbed: Home, editions: tuple[dict[str, str], dict[str, str]], name: str
) -> None:
    """Where its end is noticed, in one line; the next run leaves what it should."""
    services = {service.name: service for service in local_services(undisturbed.settings)}
    if name not in services:
        pytest.skip("BigQuery's emulator cannot run here")
    step = "taxi__objects__green_trips" if name == "gcs" else f"taxi__{name}__green_trips"
    process = undisturbed.start(*ONE_MONTH, "--force")
    wait_until_it_begins(undisturbed, process, step)
    os.kill(services[name].status().pid or 0, signal.SIGKILL)
    out, err = process.communicate(timeout=300)

    assert "Traceback" not in out + err
    assert process.returncode in (0, 1)
    backfill(undisturbed)
    assert undisturbed.taxi_tables() == editions[1]


def test_postgres_that_does_not_answer(
    undisturbed: Home,
    editions: tuple[dict[str, str], dict[str, str]],
    free_port: Callable[[], int],
) -> None:
    """All else is made; one line says what to do."""
    port = free_port()
    publish(undisturbed.mirror, 1)
    answer = undisturbed.call(
        *BACKFILL, LAKEHOUSE_POSTGRES_URL=f"postgresql://me:secret@127.0.0.1:{port}/trips"
    )

    said = [line.strip() for line in answer.out.splitlines() if line.startswith("    ")]
    errors = [line for line in said if line.startswith("taxi/postgres/green_trips: ")]
    assert answer.code == 1
    assert len(errors) == len(MONTHS)
    assert f"127.0.0.1:{port}" in errors[0]
    assert "start it with `lakehouse up` or check LAKEHOUSE_POSTGRES_URL" in errors[0]
    assert "secret" not in answer.out + answer.err
    meanwhile = undisturbed.taxi_tables()
    assert {name for name in meanwhile if meanwhile[name] != editions[0][name]} == {"postgres"}
    assert meanwhile["postgres"] == editions[1]["postgres"]

    backfill(undisturbed)

    assert undisturbed.taxi_tables() == editions[0]
