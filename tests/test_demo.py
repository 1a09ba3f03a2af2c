"""The demonstration: from nothing to checked tables, and down again."""

import re
from collections.abc import Iterator

import pytest
from homes import Answer, Home

from lakehouse.samples import retail, taxi
from lakehouse.samples.drives import DEMO_MONTHS, SampleTruth, make_drive_archives
from lakehouse.tables.drives import BRONZE, SILVER


class Demo:
    """A home in which the demonstration was run once."""

    def __init__(self, outer: Home, first: Answer):
        self.outer = outer
        self.first = first
        folder = outer.folder / "demo"
        self.home = Home(folder, folder / "mirror", ports=outer.ports)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    root = tmp_path_factory.mktemp("demo")
    outer = Home(root / "home", root / "nothing")
    demo = Demo(outer, outer.run("demo"))
    yield demo
    demo.home.down()


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> SampleTruth:
    """What the samples hold, counted before they were written."""
    return make_drive_archives(tmp_path_factory.mktemp("truth"), months=DEMO_MONTHS)


def test_it_ends_well_and_shows_what_came_out_and_where_to_look(demo: Demo) -> None:
    said = demo.first.out

    assert demo.first.code == 0, demo.first.err
    assert "failed" not in said
    assert all(f"drives {month}  ok" in said for month in DEMO_MONTHS)
    assert all(
        f"taxi {service} {month}  ok" in said
        for service, months in taxi.DEMO_MONTHS.items()
        for month in months
    )
    assert "Taxi trips and revenue of each month" in said
    assert "The brand with the most drive days of each year" in said
    assert "lakehouse status" in said
    assert "The services are down again." in said


def test_each_of_its_months_has_a_report(demo: Demo) -> None:
    written = {
        f"{path.parent.name} {path.stem}"
        for path in (demo.home.folder / "reports").glob("*/*.html")
    }
    assert written == {
        *(f"drives {month}" for month in DEMO_MONTHS),
        *(f"taxi {month}" for months in taxi.DEMO_MONTHS.values() for month in months),
        *(f"retail {month}" for month in retail.DEMO_MONTHS),
    }


def test_the_services_are_down_afterwards(demo: Demo) -> None:
    services = demo.home.call("ps", "--json").json

    assert len(services) > 1
    assert not [service["name"] for service in services if service["running"]]


def test_nothing_was_written_beside_the_demo(demo: Demo) -> None:
    assert [path.name for path in demo.outer.folder.iterdir()] == ["demo"]


@pytest.mark.parametrize("month", DEMO_MONTHS)
def test_a_month_is_what_its_sample_holds(demo: Demo, truth: SampleTruth, month: str) -> None:
    expected = truth.months[month]
    bronze = demo.home.rows(BRONZE).filter(month=month)
    silver = demo.home.rows(SILVER).filter(month=month)
    rejected = demo.home.call("rejects", "drives", "--from", month, "--json").json

    assert bronze.height + len(rejected) == expected.rows
    assert len(rejected) == expected.rejected
    assert bronze.height - silver.height == expected.duplicates
    assert bronze["_unreadable"].drop_nulls().len() == expected.unreadable_cells
    assert silver["date"].n_unique() == expected.days
    assert silver.filter(date=silver["date"].max()).height == expected.last_day_drives
    by_model = silver.group_by("model").len()
    assert dict(by_model.iter_rows()) == expected.drive_days
    failures = silver.filter(failure=1).group_by("model").len()
    assert dict(failures.iter_rows()) == expected.failures


def test_a_second_run_is_much_quicker_and_changes_nothing(demo: Demo, truth: SampleTruth) -> None:
    """With `--keep`, the services run on until they are told to stop."""
    before = demo.home.tables()
    demo.home.down()

    again = demo.outer.call("demo", "--keep")

    assert again.code == 0, again.err
    counted = re.search(r"\n0 partitions built, (\d+) up to date", again.out)
    assert counted is not None, again.out
    assert again.out.count("  up to date\n") == int(counted[1])
    assert "run on; `lakehouse down` stops them" in again.out
    services = demo.home.call("ps", "--json").json
    running = [service["name"] for service in services if service["running"]]
    assert {"clickhouse", "gcs", "postgres"} <= set(running)
    assert demo.home.tables() == before
    (published,) = demo.home.query(
        "SELECT sum(drive_count) AS drives, sum(drive_failures) AS failures"
        " FROM drives.daily_summary"
    )
    assert published == {
        "drives": sum(sum(month.drive_days.values()) for month in truth.months.values()),
        "failures": sum(sum(month.failures.values()) for month in truth.months.values()),
    }
    assert demo.home.call("down").out.splitlines() == [
        f"{service['name']} {'stopped' if service['running'] else 'was not running'}"
        for service in services
    ]
