"""Backfills of real, small months: what runs, what is left alone, what a crash leaves behind."""

import re
import socket
import subprocess
import sys
import time
from uuid import uuid4

import dagster as dg
import psutil
import pytest

from lakehouse.assets import building
from lakehouse.processes import process_tags, report_killed_runs

FEBRUARY, MARCH, YEAR = "2018-02", "2018-03", "2018"
UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def made(house, report) -> set[str]:
    """The assets that the run of a report materialized."""
    events = house.instance.get_records_for_run(
        report.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    return {event.asset_key.to_user_string() for event in events}


def attempts(house, report, asset: str) -> int:
    """How often the run of a report tried an asset."""
    types = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED}
    events = house.instance.all_logs(report.run_id, of_type=types)
    return sum(event.step_key == asset.replace("/", "__") for event in events)


def columns_shown(house, asset: dg.AssetKey) -> list[dg.TableColumn]:
    """The columns that the UI shows of an asset."""
    event = house.instance.get_latest_materialization_event(asset)
    return event.asset_materialization.metadata["dagster/column_schema"].schema.columns


def published_drive_days(house) -> dict[str, int]:
    sql = "SELECT formatDateTime(date, '%Y-%m') AS month, toInt64(sum(drive_count))"
    return dict(house.query(f"{sql} FROM drives.daily_summary GROUP BY month"))


def drive_days(truth) -> dict[str, int]:
    return {month: sum(of.drive_days.values()) for month, of in truth.months.items()}


@pytest.fixture
def impatient(monkeypatch):
    """Retries follow at once."""
    monkeypatch.setattr(building, "_FIRST_WAIT", 0)


def test_a_month_brings_its_year_and_a_second_backfill_does_nothing(house):
    truth = house.publish(FEBRUARY)

    first = house.backfill(FEBRUARY)
    again = house.backfill(FEBRUARY)
    selected = house.backfill(FEBRUARY, selection={dg.AssetKey(["drives", "raw", "archive"])})

    assert [(r.partition, r.ok, r.ran) for r in first.values()] == [
        (FEBRUARY, True, True),
        (YEAR, True, True),
    ]
    assert first[FEBRUARY].rows_in == truth.months[FEBRUARY].rows
    assert published_drive_days(house) == drive_days(truth)
    assert not any(report.ran for report in [*again.values(), *selected.values()])


def test_every_table_shows_its_columns_and_what_they_mean(house):
    house.publish(FEBRUARY)
    house.backfill(FEBRUARY)

    tables = [asset for asset in house.definitions.assets if "raw" not in asset.key.path]
    undescribed = {
        f"{asset.key.to_user_string()}.{column.name}"
        for asset in tables
        for column in columns_shown(house, asset.key)
        if not column.description and not column.name.startswith("smart_")
    }

    assert len(tables) == 12
    assert undescribed == set()


def test_what_was_down_is_tried_again_and_later_only_what_it_failed_is_run(
    house, impatient, free_port, monkeypatch
):
    truth = house.publish(FEBRUARY)
    with monkeypatch.context() as down:
        down.setenv("LAKEHOUSE_CLICKHOUSE_URL", f"http://127.0.0.1:{free_port()}")
        failed = house.restarted().backfill(FEBRUARY)[FEBRUARY]

    assert not failed.ok
    assert "drives/gold/daily_summary" in made(house, failed)
    assert attempts(house, failed, "drives/clickhouse/daily_summary") == 4

    mended = house.backfill(FEBRUARY)

    assert mended[FEBRUARY].ok
    assert made(house, mended[FEBRUARY]) == {
        "drives/clickhouse/daily_summary",
        "drives/clickhouse/daily_brand_summary",
        "drives/clickhouse/failure_rates",
    }
    assert mended[YEAR].ok
    assert published_drive_days(house) == drive_days(truth)


def test_a_month_that_cannot_be_made_is_tried_once_and_stops_no_other(house):
    truth = house.publish(MARCH)

    reports = house.backfill(FEBRUARY, MARCH)

    assert not reports[FEBRUARY].ok
    assert attempts(house, reports[FEBRUARY], "drives/raw/archive") == 1
    [error] = reports[FEBRUARY].errors
    assert error == (
        "drives/raw/archive: drives 2018-02 is not published: data_Q1_2018.zip has no day of it"
        " (it has 2018-03-01 to 2018-03-31)"
    )
    assert (reports[MARCH].ok, reports[YEAR].ok) == (True, True)
    assert published_drive_days(house) == drive_days(truth)


def test_a_month_of_another_volume_is_told_by_what_is_recorded_of_the_one_beside_it(house):
    house.publish(FEBRUARY)
    assert house.backfill(FEBRUARY)[FEBRUARY].ok
    bronze = house.settings.state / "lake" / "drives" / "bronze" / "drive_days"
    for file in bronze.glob(f"month={FEBRUARY}/*.parquet"):
        file.write_bytes(b"damaged")
    house.publish(MARCH, drives=80)

    report = house.backfill(MARCH)[MARCH]

    assert report.ok
    [warning] = [each for each in report.warnings if "volume_usual" in each]
    assert re.search(r"rows a day, \d+\.\d\d times 2018-02 \(usual is 0\.5 to 2\.0\)", warning)


def test_a_killed_backfill_is_marked_failed_and_a_second_one_completes_it(house, monkeypatch):
    truth = house.publish(FEBRUARY)
    command = [sys.executable, "-m", "lakehouse.cli", "backfill", "drives"]
    with subprocess.Popen(
        [*command, "--from", FEBRUARY, "--to", FEBRUARY],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as victim:
        killed = wait_until_bronze_is_written(house, victim)
        report_killed_runs(house.instance)
        if psutil.LINUX:
            with monkeypatch.context() as clock:
                hours_ahead = psutil.boot_time() + 7200
                clock.setattr(psutil._pslinux, "boot_time", lambda: hours_ahead)
                report_killed_runs(house.instance)
        victim.kill()
    # Not yet marked: it was alive when it was looked at.
    assert house.instance.get_run_by_id(killed).status is dg.DagsterRunStatus.STARTED

    reports = house.backfill(FEBRUARY)

    assert all(report.ok for report in reports.values())
    assert house.instance.get_run_by_id(killed).status is dg.DagsterRunStatus.FAILURE
    assert house.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)) == []
    assert published_drive_days(house) == drive_days(truth)
    assert house.status("drives/clickhouse/daily_summary")["fresh"] == 1


def wait_until_bronze_is_written(house, process: subprocess.Popen) -> str:
    """The run that is in the middle of its month."""
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        for run in house.instance.get_runs(started):
            written = house.instance.get_asset_partitions_for_run(
                run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION
            )
            if dg.AssetKey(["drives", "bronze", "drive_days"]) in written:
                return run.run_id
        time.sleep(0.05)
    raise AssertionError("The backfill ended before it could be killed.")


def test_every_run_tells_which_process_carries_it_out(house):
    house.publish(FEBRUARY)
    backfilled = house.backfill(FEBRUARY)[FEBRUARY].run_id
    requested = house.run(dg.RunRequest(partition_key=FEBRUARY)).run_id

    for run_id in (backfilled, requested):
        assert process_tags(run_id).items() <= house.instance.get_run_by_id(run_id).tags.items()


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ("{this_run}:{this_machine}:1:99.0", dg.DagsterRunStatus.FAILURE),
        ("{this_run}:another-machine:1:99.0", dg.DagsterRunStatus.STARTED),
        ("the-run-that-it-repeats:{this_machine}:1:99.0", dg.DagsterRunStatus.STARTED),
    ],
    ids=["killed here", "carried out elsewhere", "tag of another run"],
)
def test_a_sensor_marks_the_runs_whose_process_is_gone_and_no_others(house, tag, status):
    run_id = str(uuid4())
    house.instance.create_run_for_job(
        house.definitions.resolve_job_def("drives_month"),
        run_id=run_id,
        tags={"lakehouse/process": tag.format(this_run=run_id, this_machine=socket.gethostname())},
        status=dg.DagsterRunStatus.STARTED,
    )

    house.sensor("killed_runs").tick()

    assert house.instance.get_run_by_id(run_id).status is status
