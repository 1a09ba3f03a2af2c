"""Everything that can be wrong with a source or a machine: what a user is told, and what stays.

Small archives, each a quarter of the publisher's, with one fault in each month; they are backfilled
once, and each test looks at one month of what came out.
"""

import os
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from homes import Home
from resources.misbehaving import MisbehavingServer, Page
from small_archives import (
    DAYS,
    DRIVES,
    Spoil,
    archive_of,
    in_line,
    month_files,
    write_archive,
)

from lakehouse.samples.drives import DRIVE_FOLDER
from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.tables.drives import DAILY_SUMMARY


@dataclass(frozen=True)
class Fault:
    """A fault in the third of five files, and what becomes of the month."""

    spoil: Spoil
    lines: int = DAYS * DRIVES
    """Records in the month's files."""
    rejected: int = 0
    reason: str = ""
    said: str = ""
    """What a user reads, besides that days are missing."""
    stops: bool = False
    """Whether the month is held back until somebody has looked."""


FAULTS = {
    "a short line": Fault(
        in_line(2, ",0,101", ""),
        rejected=1,
        reason="4 cells where the header has 6",
        said="1 of 100 lines were rejected, 1 because 4 cells where the header has 6",
        stops=True,
    ),
    "a long line": Fault(
        in_line(2, ",0,101", ",0,101,7,8"),
        rejected=1,
        reason="8 cells where the header has 6",
        said="1 because 8 cells where the header has 6",
        stops=True,
    ),
    "a quoted newline": Fault(in_line(2, "ST4000DM000", '"ST4000\nDM000"')),
    "a NUL byte": Fault(
        in_line(2, "ST4000DM000", "ST4000\0DM000"),
        rejected=1,
        reason="the line has a NUL byte",
        said="1 because the line has a NUL byte",
        stops=True,
    ),
    "Latin-1": Fault(
        lambda lines: "\n".join(in_line(2, "ST4000DM000", "ST4000é")(lines)).encode("latin-1")
    ),
    "no header": Fault(
        lambda lines: lines[1:],
        rejected=DRIVES,
        reason="there is no header: the first line is data",
        said="03.csv could not be used: there is no header: the first line is data",
        stops=True,
    ),
    "a header alone": Fault(
        lambda lines: lines[:1], lines=(DAYS - 1) * DRIVES, said="missing are 2016-07-03"
    ),
    "a renamed column": Fault(
        in_line(0, "serial_number", "serial"),
        rejected=DRIVES,
        reason="the header has no column serial_number; it begins date, serial, model,"
        " capacity_bytes, failure, smart_9_raw",
        said="03.csv could not be used: the header has no column serial_number",
        stops=True,
    ),
    "an unknown column": Fault(
        lambda lines: [f"{line},{'7' if at else 'rack_id'}" for at, line in enumerate(lines)],
        said="columns that no earlier file had, kept as they are: rack_id",
    ),
    "dates with slashes": Fault(
        lambda lines: [line.replace("2016-10-03", "2016/10/3") for line in lines]
    ),
    "whole numbers as decimals": Fault(
        lambda lines: [f"{line}.0" if at else line for at, line in enumerate(lines)]
    ),
    "a failure of 2": Fault(in_line(2, ",0,101", ",2,101"), said="1 row: failure", stops=True),
    "an empty serial number": Fault(
        in_line(2, "Z0001", ""),
        rejected=1,
        reason="the serial number is empty",
        said="1 because the serial number is empty",
        stops=True,
    ),
    "a drive twice a day": Fault(
        lambda lines: [*lines, lines[2].replace(",0,101", ",1,101")], lines=DAYS * DRIVES + 1
    ),
}
MONTHS = dict(
    zip(FAULTS, [f"{y}-{m:02d}" for y in (2016, 2017) for m in range(1, 13)], strict=False)
)


@dataclass(frozen=True)
class Spoiled:
    home: Home
    code: int
    reports: dict[str, dict[str, Any]]
    rejects: list[dict[str, Any]]


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoiled]:
    """All faults in files, each in a month of its own, backfilled by one command."""
    root = tmp_path_factory.mktemp("spoiled")
    home = Home(root / "home", root / "mirror")
    archives: dict[str, dict[str, bytes]] = {}
    for name, month in MONTHS.items():
        files = month_files(month, FAULTS[name].spoil)
        archives.setdefault(archive_of(month), {}).update(files)
    for name, files in archives.items():
        write_archive(home.mirror, name, files)
    months = list(MONTHS.values())
    done = home.call("backfill", "drives", "--from", months[0], "--to", months[-1], "--json")
    yield Spoiled(
        home,
        done.code,
        {report["partition"]: report for report in done.json},
        home.call("rejects", "drives", "--json").json,
    )
    home.down()


def test_a_bad_month_stops_no_other_and_the_exit_code_tells(spoiled: Spoiled) -> None:
    assert spoiled.code == 1
    assert all(spoiled.reports[month]["ran"] for month in MONTHS.values())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_a_file(spoiled: Spoiled, name: str) -> None:
    fault, month = FAULTS[name], MONTHS[name]
    report = spoiled.reports[month]
    said = report["errors"] + report["warnings"]

    assert report["ok"] is not fault.stops, said
    assert bool(report["errors"]) is fault.stops, said
    assert any(fault.said in sentence for sentence in said), said
    assert report["rows_rejected"] == fault.rejected
    assert report["rows_in"] == fault.lines == report["rows_written"] + report["rows_rejected"]

    rejects = [reject for reject in spoiled.rejects if reject["month"] == month]
    assert len(rejects) == fault.rejected
    assert {r["reason"] for r in rejects} == ({fault.reason} if fault.rejected else set())
    assert all(r["file"] == f"{archive_of(month)}/{month}-03.csv" for r in rejects)
    assert all(r["line"] and f"{month}-03" in r["raw"] for r in rejects)


def test_what_could_be_read_is_counted_and_what_failed_is_not_published(spoiled: Spoiled) -> None:
    published = spoiled.home.query(
        "SELECT formatDateTime(date, '%Y-%m') AS month, sum(drive_count) AS drives,"
        " sum(drive_failures) AS failures FROM drives.daily_summary GROUP BY month"
    )

    assert {row["month"]: row["drives"] for row in published} == {
        month: DAYS * DRIVES - (DRIVES if name == "a header alone" else 0)
        for name, month in MONTHS.items()
        if not FAULTS[name].stops
    }
    failed = {row["month"] for row in published if row["failures"]}
    assert failed == {MONTHS["a drive twice a day"]}, "the row that reports the failure stays"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, dict[str, str]]]:
    """A home with one good month, and the digests of its tables."""
    root = tmp_path_factory.mktemp("published")
    home = Home(root / "home", root / "mirror")
    write_archive(home.mirror, "data_Q1_2018.zip", month_files("2018-01"))
    home.backfill("2018-01")
    yield home, home.tables()
    home.down()


def _cut_short(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _with_member(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)

    return spoil


REFUSED = {
    "cut short": (_cut_short, "data_Q1_2018.zip is a zip archive whose end is missing; run again"),
    "a path upwards": (_with_member("../2018-01-09.csv"), "unsafe path '../2018-01-09.csv'; get"),
    "an absolute path": (_with_member("/etc/2018-01-09.csv"), "unsafe path '/etc/2018-01-09.csv'"),
    "a bomb": (
        _with_member("2018-01-09.csv", b"\0" * 50_000_000),
        "holds '2018-01-09.csv', which inflates like a zip bomb; get a sound copy",
    ),
    "a web page": (
        lambda path: path.write_bytes(b"<!DOCTYPE html><title>Sorry</title>"),
        "data_Q1_2018.zip is not a zip archive but an HTML page; open its address",
    ),
    "a file with a short line": (
        lambda path: write_archive(
            path.parents[len(Path(DRIVE_FOLDER).parts)],
            path.name,
            month_files("2018-01", FAULTS["a short line"].spoil),
        ),
        "1 of 100 lines were rejected",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_published_again_that_is_bad(
    published: tuple[Home, dict[str, str]], name: str
) -> None:
    """One sentence, exit code 1, and what readers see stays as it was."""
    home, _ = published
    before = home.tables()
    spoil, sentence = REFUSED[name]
    archive = write_archive(home.mirror, "data_Q1_2018.zip", month_files("2018-01"))
    spoil(archive)

    answer = home.call("backfill", "drives", "--from", "2018-01")

    lines = [line.strip() for line in answer.out.splitlines()]
    assert answer.code == 1
    assert answer.err.strip() == ""
    assert lines[0].startswith("drives 2018-01  failed")
    assert sentence in lines[1]
    after = home.tables()
    touched = {"drives/bronze/drive_days", "drives/rejects"} if "short line" in name else set()
    assert {table for table in after if after[table] != before[table]} == touched
    assert not list(home.folder.rglob("2018-01-09.csv"))


def test_once_mended_all_is_as_before(published: tuple[Home, dict[str, str]]) -> None:
    home, before = published
    write_archive(home.mirror, "data_Q1_2018.zip", month_files("2018-01"))

    home.backfill("2018-01")

    assert home.tables() == before


def test_a_month_that_is_not_published(published: tuple[Home, dict[str, str]]) -> None:
    home, _ = published
    before = home.tables()
    write_archive(home.mirror, "data_Q1_2018.zip", month_files("2018-01"))
    for month, sentence in (
        ("2018-02", "data_Q1_2018.zip has no day of it (it has 2018-01-01 to 2018-01-05)"),
        ("2018-04", "there is no data_Q2_2018.zip; Backblaze publishes a quarter some weeks"),
    ):
        answer = home.call("backfill", "drives", "--from", month)
        assert answer.code == 1
        assert f"drives {month} is not published: {sentence}" in answer.out
    assert home.tables() == before


def _to_bronze(home: Home, month: str, address: str) -> tuple[int, dict[str, Any]]:
    select = 'key:"drives/raw/archive" or key:"drives/bronze/drive_days"'
    answer = home.call(
        *("backfill", "drives", "--from", month, "--select", select, "--json"),
        LAKEHOUSE_SOURCE_MIRROR=address,
    )
    return answer.code, answer.json[0]


def test_a_publisher_on_the_network_that_misbehaves(tmp_path: Path, make_home: Any) -> None:
    home = make_home()
    bodies = {
        month: write_archive(tmp_path, archive_of(month), month_files(month)).read_bytes()
        for month in ("2018-01", "2018-04", "2018-07", "2018-10")
    }
    half = len(bodies["2018-04"]) // 2
    with MisbehavingServer() as server:
        server.pages = {
            f"/{DRIVE_FOLDER}/{archive_of(month)}": page
            for month, page in {
                "2018-01": Page(bodies["2018-01"], failures=[(500, {})]),
                "2018-04": Page(bodies["2018-04"], cuts=[half]),
                "2018-07": Page(bodies["2018-07"], cuts=[half], ranges_obeyed=False),
                "2018-10": Page(b"<html>Sorry</html>", content_type="text/html"),
            }.items()
        }
        for month in ("2018-01", "2018-04", "2018-07"):
            code, report = _to_bronze(home, month, server.address)
            assert code == 0, report
            assert report["rows_in"] == report["rows_written"] == DAYS * DRIVES
        assert f"bytes={half}-" in server.ranges, "what had arrived was not asked for again"

        code, report = _to_bronze(home, "2018-10", server.address)

    assert code == 1
    assert report["errors"] == [
        "drives/raw/archive: data_Q4_2018.zip is not a zip archive but an HTML page;"
        " open its address in a browser to see what the publisher sends."
    ]
    assert not list(home.folder.rglob("*.part"))


def test_clickhouse_is_down(make_home: Any, free_port: Callable[[], int]) -> None:
    home = make_home()
    write_archive(home.mirror, "data_Q1_2018.zip", month_files("2018-01"))
    month = ("backfill", "drives", "--from", "2018-01", "--json")
    address = f"http://127.0.0.1:{free_port()}"
    select = '+key:"drives/clickhouse/daily_summary"'

    answer = home.call(*month, "--select", select, LAKEHOUSE_CLICKHOUSE_URL=address)

    assert answer.code == 1
    assert answer.json[0]["errors"] == [
        f"drives/clickhouse/daily_summary: ClickHouse at {address} does not answer:"
        " start it with `lakehouse up` or check LAKEHOUSE_CLICKHOUSE_URL."
    ]
    assert home.rows(DAILY_SUMMARY)["drive_count"].sum() == DAYS * DRIVES

    answer = home.call(*month, "--select", select)

    assert answer.code == 0
    assert answer.json[0]["checks_passed"] == 1, "only what was missing is made"
    assert home.query("SELECT count() AS days FROM drives.daily_summary") == [{"days": DAYS}]


def test_clickhouse_is_killed_in_the_middle(published: tuple[Home, dict[str, str]]) -> None:
    """It is started again by the next attempt; the tables are those of an undisturbed run."""
    home, before = published
    write_archive(home.mirror, "data_Q1_2018.zip", month_files("2018-01"))
    service = ClickHouseService(home.settings)
    kills = 0
    done = threading.Event()

    def kill_now_and_then() -> None:
        nonlocal kills
        while kills < 3 and not done.wait(0.3):
            if pid := service.status().pid:
                os.kill(pid, signal.SIGKILL)
                kills += 1

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    home.call("backfill", "drives", "--from", "2018-01", "--force")
    done.set()
    killer.join()
    home.backfill("2018-01")

    assert kills
    assert home.tables() == before
