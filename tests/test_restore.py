"""Former versions can be looked at, asked and brought back; and the whole state can be."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from homes import Home
from small_archives import DAYS, DRIVES, archive_of, in_line, month_files, write_archive

from lakehouse.resources.lake import Lake
from lakehouse.tables import drives as tables

MakeHome = Callable[..., Home]

SILVER = "drives/silver/drive_days"
DAILY = "drives/gold/daily_summary"
MONTHS = ("2018-01", "2018-02")
FAILED = "SELECT sum(drive_failures) AS failed FROM drives.daily_summary"


def publish(home: Home, *months: str, failures: int = 0) -> None:
    """An edition of the months in which so many drives fail on their third day."""

    def spoil(lines: list[str]) -> list[str]:
        for number in range(1, failures + 1):
            lines = in_line(number, "4000787030016,0", "4000787030016,1")(lines)
        return lines

    files = {name: data for month in months for name, data in month_files(month, spoil).items()}
    write_archive(home.mirror, archive_of(months[0]), files)


def moment() -> str:
    """Now, to be asked for later; versions are told apart by the millisecond."""
    time.sleep(0.01)
    now = datetime.now(UTC).isoformat()
    time.sleep(0.01)
    return now


def status(home: Home, state: str) -> dict[str, int]:
    (found,) = home.call("status", "drives", "--json").json
    return {row["asset"]: row[state] for row in found["assets"] if row[state]}


# Looking back


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, str, str]]:
    """A home, the moment before anything was there, and the one before the second edition."""
    root = tmp_path_factory.mktemp("past")
    home = Home(root / "home", root / "mirror")
    before = moment()
    publish(home, *MONTHS)
    home.backfill(*MONTHS)
    between = moment()
    publish(home, *MONTHS, failures=3)
    home.backfill("2018-02")
    yield home, before, between
    home.down()


def test_the_history_of_a_table(past: tuple[Home, str, str]) -> None:
    home, *_ = past
    latest, *others, created = home.call("history", SILVER, "--json").json

    assert (latest["version"], latest["partition"]) == (3, "2018-02")
    assert (latest["rows"], latest["files"]) == (DAYS * DRIVES, 1)
    assert latest["bytes"] > 0
    assert [each["version"] for each in others] == [2, 1]
    assert latest["source_hash"] != others[0]["source_hash"]
    assert len(latest["run_id"]) == 36
    assert created["operation"] == "CREATE TABLE"
    table = home.call("history", SILVER).out
    assert latest["run_id"][:8] in table


def test_a_table_that_is_none_has_no_history(past: tuple[Home, str, str]) -> None:
    home, *_ = past
    for name in ("drives/silver/nosuch", "nosuch", "drives", "/etc"):
        answer = home.call("history", name)
        assert answer.code == 2
        assert answer.sentence.startswith(f"Error: the lake has no table '{name}'")


def as_of(home: Home, moment: str, sql: str) -> Any:
    return home.call("query", sql, "--as-of", moment, "--format", "json").json


def test_the_published_tables_as_they_were(past: tuple[Home, str, str]) -> None:
    home, _, between = past

    assert as_of(home, between, FAILED) == [{"failed": 0}]
    assert as_of(home, moment(), FAILED) == [{"failed": 3}]
    assert as_of(home, moment(), FAILED) == home.query(FAILED)
    periods = "SELECT DISTINCT period FROM drives.failure_rates ORDER BY period"
    assert as_of(home, between, periods) == home.query(periods)


MISTAKES = {
    "no time": ("yesterday", FAILED, "'yesterday' is no time; write it as 2026-01-01"),
    "too early": ("2018-01-01", FAILED, "the log of no table reaches back to 2018-01-01 00:00"),
    "no table": (None, "SELECT * FROM drives.nosuch", "relation 'drives.nosuch' was not found"),
    "no query": (None, "DROP", "sql parser error"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_asked_of_the_past(past: tuple[Home, str, str], mistake: str) -> None:
    home, _, between = past
    when, sql, sentence = MISTAKES[mistake]

    answer = home.call("query", sql, "--as-of", when or between)

    assert answer.code == 2
    assert sentence in answer.sentence


def test_a_past_whose_files_are_gone(past: tuple[Home, str, str]) -> None:
    home, _, between = past
    lake = Lake(home.settings)
    kept = {*lake.snapshot(tables.DAILY_SUMMARY).file_uris()}
    former = [
        path
        for path in Path(lake.uri(tables.DAILY_SUMMARY)).rglob("*-*.parquet")
        if str(path) not in kept
    ]
    for path in former:
        path.rename(path.with_suffix(".away"))

    answer = home.call("query", FAILED, "--as-of", between)
    restored = home.call("restore", DAILY, "--version", "2")
    for path in former:
        path.with_suffix(".away").rename(path)

    assert "are gone: what was replaced is kept for 30 days" in answer.sentence
    assert "cannot be restored, since files of it are gone" in restored.sentence
    assert (answer.code, restored.code) == (1, 1)


# Bringing back


def test_a_restored_table_is_followed_by_what_is_made_from_it(make_home: MakeHome) -> None:
    home = make_home()
    publish(home, "2018-01")
    home.backfill("2018-01")
    first = home.tables()
    version = home.call("history", SILVER, "--json").json[0]["version"]
    publish(home, "2018-01", failures=3)
    home.backfill("2018-01")
    assert home.tables() != first

    answer = home.call("restore", SILVER, "--version", str(version))

    assert answer.code == 0, answer.err
    assert "Changed: 2018-01." in answer.out
    stale = status(home, "stale")
    assert stale["drives/gold/daily_summary"] == 1
    assert stale["drives/gold/yearly_summary"] == 1
    assert not {SILVER, "drives/bronze/drive_days"} & stale.keys()
    home.backfill("2018-01")
    after = home.tables()
    assert {name for name in first if after[name] != first[name]} == {"drives/bronze/drive_days"}
    assert status(home, "stale") == status(home, "failed") == {}
    assert not any(report["ran"] for report in home.backfill("2018-01", None, "--json"))
    assert home.call("verify", "drives").code == 0


def test_a_month_that_a_version_does_not_have_is_made_again(make_home: MakeHome) -> None:
    home = make_home()
    publish(home, *MONTHS)
    home.backfill("2018-01")
    version = home.call("history", SILVER, "--json").json[0]["version"]
    home.backfill("2018-02")
    complete = home.tables()

    home.call("restore", SILVER, "--version", str(version))

    assert status(home, "stale")[SILVER] == 1
    home.backfill(*MONTHS)
    assert home.tables() == complete


def test_a_table_restored_to_before_a_bad_file_passes_its_checks_again(
    make_home: MakeHome,
) -> None:
    home = make_home()
    publish(home, "2018-01")
    home.backfill("2018-01")
    good = home.call("history", "drives/bronze/drive_days", "--json").json[0]["version"]
    short = month_files("2018-01", in_line(2, ",0,101", ""))
    write_archive(home.mirror, archive_of("2018-01"), short)
    assert home.call("backfill", "drives", "--from", "2018-01").code == 1
    assert status(home, "failed")["drives/bronze/drive_days"] == 1

    assert home.call("restore", "drives/bronze/drive_days", "--version", str(good)).code == 0
    assert home.call("restore", "drives/rejects", "--version", "0").code == 0

    assert "drives/bronze/drive_days" not in status(home, "failed")


def test_restoring_what_is_there_changes_nothing(make_home: MakeHome) -> None:
    home = make_home()
    publish(home, "2018-01")
    home.backfill("2018-01")
    latest = home.call("history", DAILY, "--json").json[0]["version"]

    answer = home.call("restore", DAILY, "--version", str(latest))
    unknown = home.call("restore", DAILY, "--version", "99")

    assert f"{DAILY} is what it was in version {latest}; nothing was changed." in answer.out
    assert home.call("history", DAILY, "--json").json[0]["version"] == latest
    assert unknown.code == 2
    assert f"{DAILY} has no version 99 that its log still knows" in unknown.sentence


# The whole state


def test_a_backup_is_the_whole_lakehouse(make_home: MakeHome, tmp_path: Path) -> None:
    """As docs/operations.md says: services down, the home copied, and used in another place."""
    home = make_home()
    publish(home, "2018-01")
    home.backfill("2018-01")
    before = home.tables()
    assert home.call("down").code == 0
    backup = tmp_path / "backup of the home"
    subprocess.run(["cp", "-a", home.folder, backup], check=True)
    shutil.rmtree(home.folder)

    elsewhere = Home(backup, home.mirror)
    try:
        reports = elsewhere.backfill("2018-01", None, "--json")
        assert [report["ran"] for report in reports] == [False] * 2
        assert elsewhere.tables() == before
        assert elsewhere.call("verify", "drives").code == 0
        publish(elsewhere, "2018-01", failures=3)
        elsewhere.backfill("2018-01")
        assert elsewhere.query(FAILED) == [{"failed": 3}]
    finally:
        elsewhere.down()
