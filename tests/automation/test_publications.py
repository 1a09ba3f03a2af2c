"""What the publisher does: archives appear, are published again, and cannot be reached."""

import socket
import time
from dataclasses import replace

import dagster as dg
import pytest

from lakehouse.automation import publications as module

Q1 = ["2018-01", "2018-02", "2018-03"]
Q2 = ["2018-04", "2018-05", "2018-06"]
RAW = "drives/raw/archive"


@pytest.fixture
def publications(house):
    house.mirror.mkdir(parents=True)
    return house.sensor("drives_publications")


def test_before_anything_is_there_only_the_newest_archive_is_asked_after(house, publications):
    house.publish(*Q1)

    tick = publications.tick()

    assert not tick.run_requests
    assert tick.skip_message.count("Asked after data_") == 1


def test_the_archive_that_comes_next_is_asked_for_whole_when_it_is_published(house, publications):
    house.publish(*Q1)
    house.land(*Q1)
    assert publications.requested() == []

    house.publish(*Q2)
    first, second = publications.tick(), publications.tick()

    assert [request.partition_key for request in first.run_requests] == Q2
    # Dagster launches a run key only once, however often it is asked for.
    assert [r.run_key for r in second.run_requests] == [r.run_key for r in first.run_requests]
    assert not first.asset_events


def test_an_archive_that_is_published_again_makes_its_months_stale_until_they_are_made_again(
    house, publications
):
    house.publish(*Q1, seed=1)
    house.land(*Q1)
    publications.tick()
    assert house.status(RAW)["fresh"] == 3

    house.publish(*Q1, seed=2)
    tick = publications.tick()

    assert [request.partition_key for request in tick.run_requests] == Q1
    assert [event.partition for event in tick.asset_events] == Q1
    assert (house.status(RAW)["fresh"], house.status(RAW)["stale"]) == (0, 3)

    house.land(*Q1)

    assert (house.status(RAW)["fresh"], house.status(RAW)["stale"]) == (3, 0)
    assert publications.requested() == []


def test_each_version_of_an_archive_is_asked_for_with_keys_of_its_own(house, publications):
    house.publish(*Q1, seed=1)
    house.land(*Q1)
    keys = []
    for seed in (2, 3):
        house.publish(*Q1, seed=seed)
        keys += [request.run_key for request in publications.tick().run_requests]

    assert len(set(keys)) == 6


def test_months_are_asked_for_though_another_month_has_landed_the_new_archive(house, publications):
    house.publish(*Q1, seed=1)
    house.land(*Q1)
    house.publish(*Q1, seed=2)
    house.land("2018-01")

    assert publications.requested() == ["2018-02", "2018-03"]


def test_of_an_old_archive_only_the_months_that_are_there_are_asked_for(house, publications):
    house.publish("2018-02", "2018-03", "2018-05", seed=1)
    house.land("2018-02", "2018-05")
    house.publish("2018-02", "2018-03", seed=2)

    assert "2018-02" in publications.requested()
    assert "2018-03" not in publications.requested()


def test_a_publisher_that_cannot_be_reached_is_said_and_asked_again(
    house, publications, free_port, monkeypatch
):
    house.publish(*Q1)
    house.land(*Q1)
    with monkeypatch.context() as offline:
        offline.setenv("LAKEHOUSE_SOURCE_MIRROR", f"http://127.0.0.1:{free_port()}")
        unreachable = house.restarted().sensor("drives_publications")
        tick = unreachable.tick()
    house.publish(*Q1, seed=2)
    publications.cursor = unreachable.cursor

    assert not tick.run_requests
    assert "check the network" in tick.skip_message
    assert publications.requested() == Q1


def test_a_publisher_that_does_not_answer_costs_no_tick(house, publications, monkeypatch):
    """Dagster ends a tick after 60 s, and its cursor would be lost: each is asked once, briefly."""
    monkeypatch.setattr(module, "ASK_ONCE", replace(module.ASK_ONCE, silence=0.5))
    house.publish(*Q1)
    house.land(*Q1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("LAKEHOUSE_SOURCE_MIRROR", f"http://127.0.0.1:{silent.getsockname()[1]}")
        unanswered = house.restarted().sensor("drives_publications")
        started = time.monotonic()
        tick = unanswered.tick()

    assert time.monotonic() - started < 5
    assert not tick.run_requests
    assert tick.cursor == "2"


def test_all_archives_get_their_turn_a_few_at_a_time(house, publications):
    months = [
        f"{year}-{month}" for year in (2016, 2017, 2018) for month in ("02", "05", "08", "11")
    ]
    house.publish(*months)
    for month in months:
        house.instance.report_runless_asset_event(
            dg.AssetMaterialization(dg.AssetKey.from_user_string(RAW), partition=month)
        )

    first, second = publications.requested(), publications.requested()

    assert len(first) < len(months)
    assert set(months) <= {*first, *second}
