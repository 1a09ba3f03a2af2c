"""The command line as a person, or a program, meets it."""

import csv
import io
import resource
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from homes import Home
from small_archives import DAYS, DRIVES, archive_of, in_line, month_files, write_archive

from lakehouse.automation.datasets import NAMES

COMMANDS = (
    *("demo", "up", "down", "ps", "serve", "backfill", "status", "query", "rejects", "replay"),
    *("verify", "history", "restore"),
)

MakeHome = Callable[..., Home]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A good month; one whose line 3 of the third day is short; and one that failed for it."""
    root = tmp_path_factory.mktemp("cli")
    home = Home(root / "home", root / "mirror")
    write_archive(home.mirror, archive_of("2018-01"), month_files("2018-01"))
    write_archive(
        home.mirror, archive_of("2018-04"), month_files("2018-04", in_line(2, ",0,101", "[/x]"))
    )
    home.backfill("2018-01")
    assert home.call("backfill", "drives", "--from", "2018-04").code == 1
    yield home
    home.down()


@pytest.fixture
def empty(make_home: MakeHome) -> Home:
    return make_home()


def test_help_answers_at_once_and_lists_all(empty: Home) -> None:
    seconds = []
    for _ in range(3):
        started = _processor_seconds()
        answer = empty.run("--help")
        seconds.append(_processor_seconds() - started)

    assert min(seconds) < 1
    assert answer.code == 0
    assert all(f" {command} " in answer.out for command in COMMANDS)


def _processor_seconds() -> float:
    """Of the processes started so far, whatever else the machine is busy with."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(empty: Home, command: str) -> None:
    answer = empty.call(command, "--help")

    assert answer.code == 0
    assert "Usage:" in answer.out


THIS_MONTH = f"{datetime.now(UTC):%Y-%m}"

MISTAKES = {
    "an unknown data set": (
        ("backfill", "nosuch", "--from", "2018-01"),
        "there is no data set 'nosuch'; there is drives",
    ),
    "no months": (("backfill", "drives"), "name the months: --from 2018-01 --to 2018-03"),
    "a month that is none": (
        ("backfill", "drives", "--from", "2018-13"),
        "'2018-13' is not a month; write it as 2018-01",
    ),
    "a day": (
        ("backfill", "drives", "--from", "2018-01-01"),
        "'2018-01-01' is not a month; write it as 2018-01",
    ),
    "before the first month": (
        ("backfill", "drives", "--from", "2013-03", "--to", "2013-05"),
        "there is no 2013-03: the first month of drives is 2013-04",
    ),
    "a month that is not over": (
        ("backfill", "drives", "--from", THIS_MONTH),
        f"{THIS_MONTH} is not over; the last whole month is",
    ),
    "the wrong way round": (
        ("backfill", "drives", "--from", "2018-02", "--to", "2018-01"),
        "--from 2018-02 lies after --to 2018-01",
    ),
    "an unknown selection": (
        ("backfill", "drives", "--from", "2018-01", "--select", "nosuch"),
        "--select 'nosuch' selects no asset of drives; write it as in Dagster's UI, such as",
    ),
    "a selection that cannot be read": (
        ("backfill", "drives", "--from", "2018-01", "--select", 'key:"'),
        "--select 'key:\"' selects no asset of drives",
    ),
    "rejects of an unknown data set": (("rejects", "nosuch"), "there is no data set 'nosuch'"),
    "status of an unknown data set": (("status", "nosuch"), "there is no data set 'nosuch'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(empty: Home, mistake: str) -> None:
    arguments, sentence = MISTAKES[mistake]

    answer = empty.call(*arguments)

    assert answer.code == 2
    assert answer.sentence.startswith(f"Error: {sentence}")


@pytest.mark.parametrize(
    ("variable", "value", "code", "sentence"),
    [
        ("CLICKHOUSE_PORT", "abc", 2, "LAKEHOUSE_CLICKHOUSE_PORT cannot be used: Input should be"),
        ("LAKE_STORAGE_OPTIONS", "abc", 2, "LAKEHOUSE_LAKE_STORAGE_OPTIONS cannot be used: it is"),
        ("HOME", "/proc/nowhere", 1, "/proc/nowhere cannot be used (No such file or directory): "),
    ],
)
def test_a_bad_setting_is_one_sentence(
    empty: Home, variable: str, value: str, code: int, sentence: str
) -> None:
    answer = empty.call("status", **{f"LAKEHOUSE_{variable}": value})

    assert answer.code == code
    assert answer.sentence.startswith(f"Error: {sentence}")


def test_a_mirror_that_is_not_there(empty: Home) -> None:
    answer = empty.call(
        *("backfill", "drives", "--from", "2018-01", "--select", 'key:"drives/raw/archive"'),
        LAKEHOUSE_SOURCE_MIRROR="/nowhere",
    )

    assert answer.code == 1
    assert "The mirror /nowhere is not a folder; correct LAKEHOUSE_SOURCE_MIRROR." in answer.out


def test_nothing_is_made_of_what_was_never_made(empty: Home) -> None:
    answer = empty.call(
        "backfill", "drives", "--from", "2018-01", "--select", 'key:"drives/silver/drive_days"'
    )

    assert answer.code == 1
    assert "there is no drives/bronze/drive_days of 2018-01: materialize that first" in answer.out


def test_an_empty_home(empty: Home) -> None:
    assert empty.call("status").code == 0
    found = empty.call("status", "--json").json
    assert [data["dataset"] for data in found] == list(NAMES)
    assert {data["newest_data"] for data in found} == {None}
    for name in NAMES:
        assert empty.call("rejects", name).out == "Nothing was rejected.\n"
        assert empty.call("rejects", name, "--json").json == []
        assert empty.call("replay", name).out == "Nothing was rejected.\n"
        assert empty.call("replay", name, "--json").json == {"before": 0, "left": 0}
    services = [service["name"] for service in empty.call("ps", "--json").json]
    assert services[0] == "clickhouse"
    assert {service["running"] for service in empty.call("ps", "--json").json} == {False}
    assert empty.call("down").out.splitlines() == [f"{name} was not running" for name in services]


def test_up_and_down_twice(empty: Home) -> None:
    """BigQuery, whose first start fetches a Python and the emulator, has tests of its own."""
    variables = {"LAKEHOUSE_WITHOUT": "bigquery"}
    started = [empty.call("up", **variables) for _ in range(2)]
    services = empty.call("ps", "--json", **variables).json
    shown = empty.call("ps", **variables).out
    stopped = [empty.call("down", **variables).out.splitlines() for _ in range(2)]

    names = ["clickhouse", "gcs", "postgres"]
    assert {answer.code for answer in started} == {0}
    assert started[0].out == started[1].out
    assert started[0].out.splitlines() == [
        *(f"{service['name']} runs at {service['address']}" for service in services),
        "bigquery is switched off by LAKEHOUSE_WITHOUT",
    ]
    assert [service["name"] for service in services] == names
    assert {service["running"] for service in services} == {True}
    for service in services:
        assert str(empty.ports[f"{service['name']}_port"]) in service["address"]
        assert str(service["pid"]) in shown
    assert "running" in shown
    assert stopped == [
        [f"{name} stopped" for name in names],
        [f"{name} was not running" for name in names],
    ]


QUERY = (
    "SELECT nan AS a, inf AS b, NULL AS c, toDecimal64('1.50', 2) AS d,"
    " CAST('18446744073709551615' AS Decimal(20, 0)) AS e, toDate('2018-01-31') AS f,"
    " [1, 2] AS g, map('k', nan) AS h, 'é[red][/x]' AS i, 'a\nb,\"' AS j, true AS k"
)


def test_a_query_as_json(home: Home) -> None:
    assert home.query(QUERY) == [
        {
            **{"a": None, "b": None, "c": None, "d": 1.5, "e": 2**64 - 1, "f": "2018-01-31"},
            **{"g": [1, 2], "h": {"k": None}, "i": "é[red][/x]", "j": 'a\nb,"', "k": True},
        }
    ]
    assert home.query("SELECT * FROM drives.daily_summary WHERE drive_count = 0") == []


def test_a_query_as_csv(home: Home) -> None:
    answer = home.call("query", QUERY, "--format", "csv")

    header, row = csv.reader(io.StringIO(answer.out))
    assert dict(zip(header, row, strict=True)) == {
        **{"a": "nan", "b": "inf", "c": "", "d": "1.50", "e": str(2**64 - 1), "f": "2018-01-31"},
        **{"g": "[1, 2]", "h": "{'k': nan}", "i": "é[red][/x]", "j": 'a\nb,"', "k": "True"},
    }


def test_a_query_as_a_table(home: Home) -> None:
    answer = home.call("query", "SELECT 'é[red][/x]' AS name, 7 AS number")

    assert answer.code == 0
    assert "é[red][/x]" in answer.out
    assert "number" in answer.out


def test_a_query_from_another_process_prints_nothing_but_json(home: Home) -> None:
    answer = home.run(
        "query", "SELECT * FROM drives.daily_summary ORDER BY date LIMIT 1", "--format", "json"
    )

    assert answer.json == [{"date": "2018-01-01", "drive_count": DRIVES, "drive_failures": 0}]


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("SELEC 1", "Syntax error: failed at position"),
        ("SELECT * FROM drives.nosuch", "Unknown table expression identifier 'drives.nosuch'"),
        ("INSERT INTO drives.daily_summary VALUES ('2018-01-01', 1, 1)", "reader: Not enough"),
        ("DROP TABLE drives.daily_summary", "reader: Not enough privileges"),
        ("SELECT * FROM system.users", "reader: Not enough privileges"),
        ("SELECT file('/etc/passwd')", "The local ClickHouse finds no files by their paths."),
    ],
)
def test_a_query_that_clickhouse_refuses(home: Home, sql: str, sentence: str) -> None:
    for style in ("json", "table"):
        answer = home.call("query", sql, "--format", style)

        assert answer.code == 2
        assert answer.sentence.startswith(f"Error: {sentence}")


def test_status(home: Home) -> None:
    (drives,) = home.call("status", "drives", "--json").json
    assets = {asset["asset"]: asset for asset in drives["assets"]}

    assert drives["dataset"] == "drives"
    assert drives["newest_data"] == "2018-01"
    assert drives["newest_data_age_days"] == (datetime.now(UTC).date() - date(2018, 1, 31)).days
    assert drives["failed_partitions"] == {"drives/bronze/drive_days": ["2018-04"]}
    assert drives["rows_rejected"] == 1
    raw, gold = assets["drives/raw/archive"], assets["drives/gold/daily_summary"]
    assert (raw["fresh"], raw["newest"]) == (2, "2018-04")
    assert (gold["fresh"], gold["failed"], gold["newest"]) == (1, 1, "2018-01")
    stopped = [check for check in drives["failing_checks"] if check["stops"]]
    assert [(check["check"], check["partition"]) for check in stopped] == [
        ("files_readable", "2018-04")
    ]


def test_status_for_people(home: Home) -> None:
    said = home.call("status").out

    assert "drives/bronze/drive_days: failed for 2018-04; backfill them again to see why." in said
    assert "2018-04: 1 of 100 lines were rejected" in said
    assert "1 rejected rows: `lakehouse rejects drives` shows them." in said


def test_rejects(home: Home) -> None:
    (reject,) = home.call("rejects", "drives", "--json").json

    assert reject["month"] == "2018-04"
    assert reject["file"] == "data_Q2_2018.zip/2018-04-03.csv"
    assert reject["line"] == 3
    assert reject["raw"] == "2018-04-03,Z0001,ST4000DM000,4000787030016[/x]"
    assert reject["reason"] == "4 cells where the header has 6"
    shown = home.call("rejects", "drives").out
    assert "4000787030016[/x]" in shown
    assert "1 of 1 rejected rows." in shown


def test_rejects_of_some_months(home: Home) -> None:
    of_april = ("rejects", "drives", "--from", "2018-04", "--to", "2018-06", "--json")
    of_january = ("rejects", "drives", "--from", "2018-01", "--to", "2018-03", "--json")

    assert len(home.call(*of_april).json) == 1
    assert home.call(*of_january).json == []
    assert home.call("rejects", "drives", "--limit", "0").code == 2


def test_a_second_backfill_finds_nothing_to_do_unless_it_is_forced(home: Home) -> None:
    month = ("backfill", "drives", "--from", "2018-01")
    gold = ("--select", 'key:"drives/gold/daily_summary"')

    again = home.call(*month, *gold)
    forced = home.call(*month, *gold, "--force", "--json")

    assert again.out.splitlines() == ["drives 2018-01  up to date", "drives 2018     up to date"]
    assert [(r["partition"], r["ran"]) for r in forced.json] == [("2018-01", True), ("2018", False)]
    assert forced.json[0]["rows_written"] == DAYS
    assert forced.err.strip() == ""


def test_replay_clears_the_rejects_once_the_cause_is_mended(make_home: MakeHome) -> None:
    home = make_home()
    write_archive(
        home.mirror, archive_of("2018-04"), month_files("2018-04", in_line(2, ",0,101", ""))
    )
    home.call("backfill", "drives", "--from", "2018-04")

    still = home.call("replay", "drives")
    write_archive(home.mirror, archive_of("2018-04"), month_files("2018-04"))
    mended = home.call("replay", "drives", "--json")

    assert still.code == 1
    assert "Of 1 rejected rows, 1 are rejected still." in still.out
    assert mended.code == 0
    assert mended.json == {"before": 1, "left": 0}
    assert home.call("rejects", "drives", "--json").json == []
    (counted,) = home.query("SELECT sum(drive_count) AS drives FROM drives.daily_summary")
    assert counted == {"drives": DAYS * DRIVES}


def test_ctrl_c_says_so_and_the_next_run_goes_on(tmp_path: Path, make_home: MakeHome) -> None:
    months = ("2018-01", "2018-02", "2018-03")
    home = make_home()
    files: dict[str, Any] = {}
    for month in months:
        files |= month_files(month)
    write_archive(home.mirror, archive_of("2018-01"), files)
    command = ("backfill", "drives", "--from", months[0], "--to", months[-1])

    process = home.start(*command)
    assert process.stdout is not None
    first = process.stdout.readline()
    while first.startswith(" "):
        first = process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=30)

    assert process.returncode == 130, rest + said
    assert "ok" in first
    assert "2018-03" not in rest
    assert [line for line in said.splitlines() if line.strip()] == [
        "Stopped. What was finished is kept; run the same command again to go on."
    ]

    reports = home.call(*command, "--json").json

    assert [(r["partition"], r["ok"]) for r in reports] == [
        *((month, True) for month in months),
        ("2018", True),
    ]
    assert [r["ran"] for r in reports][:1] == [False]
    (counted,) = home.query("SELECT sum(drive_count) AS drives FROM drives.daily_summary")
    assert counted == {"drives": len(months) * DAYS * DRIVES}


def test_what_a_terminal_would_obey_is_written_out(home: Home) -> None:
    answer = home.call("query", r"SELECT 'a\x1b[2Jb\nc\xc2\xa0d' AS cell")

    assert answer.code == 0, answer.err
    assert r"a\x1b[2Jb\nc" + "\N{NO-BREAK SPACE}d" in answer.out
    assert "\x1b" not in answer.out
