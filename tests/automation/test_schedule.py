"""When drive stats run by the calendar: the publisher needs some six weeks after a quarter."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from lakehouse.automation.drives import drives_quarter, due_quarter

LAST_QUARTER = ["2023-10", "2023-11", "2023-12"]


@pytest.mark.parametrize(
    ("day", "months"),
    [
        ("2024-01-01", ["2023-07", "2023-08", "2023-09"]),
        ("2024-02-11", ["2023-07", "2023-08", "2023-09"]),
        ("2024-02-12", LAST_QUARTER),
        ("2024-05-12", LAST_QUARTER),
        ("2024-05-13", ["2024-01", "2024-02", "2024-03"]),
        ("2024-08-15", ["2024-04", "2024-05", "2024-06"]),
        ("2024-11-15", ["2024-07", "2024-08", "2024-09"]),
        ("2024-12-31", ["2024-07", "2024-08", "2024-09"]),
    ],
)
def test_the_quarter_that_is_due_is_the_latest_that_ended_six_weeks_ago(day, months):
    assert due_quarter(datetime.fromisoformat(f"{day}T06:00:00+00:00")) == months


def test_every_quarter_becomes_due_once_in_its_order():
    year = [datetime(2023, 1, 1, 6, tzinfo=UTC) + timedelta(days=day) for day in range(365)]
    due = [tuple(due_quarter(day)) for day in year]

    assert len(set(due)) == 5
    assert due == sorted(due)


def test_each_of_its_ticks_finds_another_quarter_due():
    ticks = drives_quarter.cron_schedule
    assert ticks == "0 6 15 2,5,8,11 *"
    due = [due_quarter(datetime(2024, month, 15, 6, tzinfo=UTC))[-1] for month in (2, 5, 8, 11)]
    assert due == ["2023-12", "2024-03", "2024-06", "2024-09"]


def tick(house):
    context = dg.build_schedule_context(
        house.instance,
        scheduled_execution_time=datetime(2024, 2, 15, 6, tzinfo=UTC),
        repository_def=house.definitions.get_repository_def(),
    )
    return house.definitions.resolve_schedule_def("drives_quarter").evaluate_tick(context)


def test_it_asks_for_the_months_that_are_missing(house):
    silver = dg.AssetKey(["drives", "silver", "drive_days"])
    house.instance.report_runless_asset_event(dg.AssetMaterialization(silver, partition="2023-11"))

    requests = tick(house).run_requests

    assert [request.partition_key for request in requests] == ["2023-10", "2023-12"]
    assert len({request.run_key for request in requests}) == 2


def test_it_says_so_when_all_months_are_there(house):
    silver = dg.AssetKey(["drives", "silver", "drive_days"])
    for month in LAST_QUARTER:
        house.instance.report_runless_asset_event(dg.AssetMaterialization(silver, partition=month))

    assert not tick(house).run_requests
    assert tick(house).skip_message == "The quarter that is due is there."
