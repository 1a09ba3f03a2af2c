"""What is dropped into the inbox: real files, a real history, the sensor tick by tick."""

import gzip
import io
import os
import zipfile
from datetime import date

import pytest

DAY = "2018-02-10.csv"
DROPPED_DAY = date(2018, 2, 10)
MONTH = "2018-02"


def daily_csv(day: str = "2018-02-10", drives: int = 3, failure: int = 0) -> str:
    """A daily file of the columns that there must be; the first drive has the failure."""
    rows = [
        f"{day},DROPPED{number},ST4000DM000,4000787030016,{failure if number == 0 else 0}"
        for number in range(drives)
    ]
    return "\n".join(["date,serial_number,model,capacity_bytes,failure", *rows, ""])


def zipped(*days: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for day in days:
            archive.writestr(f"{day}.csv", daily_csv(day))
    return packed.getvalue()


def published_days(house) -> dict[date, tuple[int, int]]:
    """Drives and failures of each day, as readers see them."""
    return dict(house.query("SELECT date, (drive_count, drive_failures) FROM drives.daily_summary"))


@pytest.fixture
def inbox(house):
    """The sensor, at the first tick of which the inbox was empty."""
    inbox = house.sensor("drives_inbox")
    inbox.tick()
    return inbox


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (DAY, daily_csv()),
        (f"{DAY}.gz", gzip.compress(daily_csv().encode())),
        (f"second try {DAY}", daily_csv()),
    ],
    ids=["csv", "gzip", "a name before the day"],
)
def test_a_daily_file_is_taken_once_and_its_month_asked_for(house, inbox, name, content):
    file = house.drop(name, content)

    assert inbox.requested() == []
    assert inbox.requested() == [MONTH]
    assert not file.exists()
    assert inbox.requested() == []


def test_a_file_is_left_alone_while_it_grows(house, inbox):
    file = house.drop(DAY, daily_csv())
    inbox.tick()
    for _ in range(3):
        with file.open("a") as still_written:
            still_written.write("2018-02-10,ONE MORE,ST4000DM000,4000787030016,0\n")
        assert inbox.requested() == []
        assert file.exists()

    assert inbox.requested() == [MONTH]


def test_a_file_that_keeps_its_size_but_not_its_bytes_is_left_alone(house, inbox):
    file = house.drop(DAY, daily_csv(failure=0))
    inbox.tick()
    house.drop(DAY, daily_csv(failure=1))
    os.utime(file, ns=(0, 1))

    assert inbox.requested() == []
    assert file.exists()


def test_a_file_has_to_lie_still_for_as_long_as_is_set(house, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_INBOX_SETTLE_SECONDS", "3600")
    patient = house.restarted().sensor("drives_inbox")
    file = house.drop(DAY, daily_csv())

    assert [patient.requested() for _ in range(4)] == [[], [], [], []]
    assert file.exists()


@pytest.mark.parametrize("name", [f"{DAY}.part", f".{DAY}", f"{DAY}.tmp", f"{DAY}.crdownload"])
def test_half_uploaded_and_hidden_files_are_left_alone(house, inbox, name):
    file = house.drop(name, daily_csv())

    assert [inbox.requested() for _ in range(3)] == [[], [], []]
    assert file.exists()


def test_an_archive_asks_for_each_of_its_months(house, inbox):
    house.drop("q1.zip", zipped("2018-01-31", "2018-02-01", "2018-02-02", "2018-03-01"))
    inbox.tick()

    assert inbox.requested() == ["2018-01", "2018-02", "2018-03"]


def test_a_tick_that_is_repeated_asks_for_the_very_same_runs(house, inbox):
    """The daemon died before it stored the cursor: Dagster launches a run key only once."""
    house.drop(DAY, daily_csv())
    inbox.tick()
    before = inbox.cursor
    first = inbox.tick().run_requests

    inbox.cursor = before
    repeated = inbox.tick().run_requests
    inbox.cursor = None
    forgotten = inbox.tick().run_requests

    assert len(first) == 1
    assert [r.run_key for r in repeated] == [r.run_key for r in first]
    assert [r.run_key for r in forgotten] == [r.run_key for r in first]


def test_a_file_is_asked_for_though_the_daemon_died_while_it_took_it(house, inbox):
    """The copy was landed, the inbox not cleared yet."""
    file = house.drop(DAY, daily_csv())
    inbox.tick()
    before = inbox.cursor
    inbox.tick()
    house.drop(file.name, daily_csv())

    inbox.cursor = before
    landed = inbox.tick().run_requests
    inbox.tick()

    assert [request.partition_key for request in landed] == [MONTH]
    assert not file.exists()


def test_the_same_file_dropped_again_is_asked_for_again(house, inbox):
    keys = []
    for content in (daily_csv(drives=3), daily_csv(drives=2), daily_csv(drives=3)):
        house.drop(DAY, content)
        inbox.tick()
        keys += [request.run_key for request in inbox.tick().run_requests]

    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", "hello", "is neither a daily file nor an archive"),
        ("2018-02-31.csv", daily_csv(), "which is no day"),
        (DAY, "", "is empty"),
        (DAY, b"\0\1\2", "is no text"),
        (f"{DAY}.gz", gzip.compress(daily_csv().encode())[:-9], "is no whole gzip file"),
        ("q1.zip", zipped("2018-02-01")[:-30], "whose end is missing"),
        ("q1.zip", b"<!doctype html>", "is not a zip archive"),
        ("q1.zip", zipped(), "holds no daily file"),
        ("2012-12-31.csv", daily_csv("2012-12-31"), "from 2013-04 on"),
        ("2999-01-01.csv", daily_csv("2999-01-01"), "has days of 2999-01"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_what_cannot_be_used_is_set_aside_with_the_reason(
    house, inbox, webhook, name, content, reason
):
    house.drop(name, content)

    assert [inbox.requested() for _ in range(3)] == [[], [], []]
    assert not (house.inbox / name).exists()
    assert (house.inbox / "refused" / name).exists()
    assert reason in (house.inbox / "refused" / f"{name}.reason.txt").read_text()
    [message] = webhook.messages
    assert message["title"] == f"File refused: {name}"
    assert reason in message["message"]


def test_one_bad_file_holds_up_no_other(house, inbox):
    house.drop("2018-02-31.csv", daily_csv())
    house.drop(DAY, daily_csv())
    inbox.tick()

    assert inbox.requested() == [MONTH]


def test_a_file_is_refused_once_people_can_be_told(house, inbox, webhook):
    webhook.go_down()
    file = house.drop("notes.txt", "hello")
    for _ in range(3):
        inbox.tick()
    assert file.exists()

    webhook.come_back()
    inbox.tick()

    assert not file.exists()
    assert webhook.titles == ["File refused: notes.txt"]


def test_who_was_told_is_not_told_again_because_another_could_not_be(
    house, webhook, other_webhook, monkeypatch
):
    monkeypatch.setenv("LAKEHOUSE_ALERT_URLS", f"{webhook.address} {other_webhook.address}")
    inbox = house.restarted().sensor("drives_inbox")
    house.drop("notes.txt", "hello")
    other_webhook.go_down()
    for _ in range(3):
        inbox.tick()
    other_webhook.come_back()
    inbox.tick()

    assert webhook.titles == other_webhook.titles == ["File refused: notes.txt"]


def test_a_dropped_day_takes_the_place_of_the_archives(house, inbox):
    house.publish(MONTH)
    house.backfill(MONTH)
    before = published_days(house)
    house.drop(DAY, daily_csv(drives=3, failure=1))
    inbox.tick()
    [request] = inbox.tick().run_requests

    assert house.run(request).success

    assert before[DROPPED_DAY] != (3, 1)
    assert published_days(house) == before | {DROPPED_DAY: (3, 1)}


def test_a_month_is_made_of_dropped_days_where_the_publisher_has_none(house, inbox):
    house.mirror.mkdir(parents=True)
    house.drop("q1.zip", zipped("2018-02-09", "2018-02-10"))
    inbox.tick()
    [request] = inbox.tick().run_requests

    assert house.run(request).success
    assert published_days(house) == {date(2018, 2, 9): (3, 0), DROPPED_DAY: (3, 0)}
