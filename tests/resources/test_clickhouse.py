"""What is published in ClickHouse: whole partitions or none, whatever happens on the way."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import get_context
from pathlib import Path
from threading import Thread

import polars as pl
import psutil
import pytest

from lakehouse.errors import LakehouseError, UnavailableError, UsageError
from lakehouse.resources.clickhouse import ClickHouse, Table
from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.settings import Settings

SUMMARY = Table(
    database="drives",
    name="summary",
    columns={"date": "Date", "drives": "UInt32", "rate": "Nullable(Float64)"},
    order_by=("date",),
    partition_by="toYYYYMM(date)",
    comment="One row for each day; it's a test.",
)
RATES = Table(
    database="drives",
    name="rates",
    columns={"period": "LowCardinality(String)", "start": "Date", "model": "String"},
    order_by=("period", "start", "model"),
    partition_by="(period, start)",
    comment="One row for each model and period.",
)


@pytest.fixture
def clickhouse(settings: Settings) -> ClickHouse:
    return ClickHouse(settings)


def month(first: date, drives: int, rows: int = 3) -> pl.DataFrame:
    days = [first + timedelta(days=n % 28) for n in range(rows)]
    return pl.DataFrame({"date": days, "drives": drives, "rate": None}).with_columns(
        pl.col("rate").cast(pl.Float64)
    )


JANUARY, FEBRUARY = month(date(2024, 1, 1), 10), month(date(2024, 2, 1), 20)


def published(clickhouse: ClickHouse, table: Table = SUMMARY) -> list[tuple]:
    return clickhouse.query(f"SELECT * FROM {table} ORDER BY ALL").rows


def staging_tables(clickhouse: ClickHouse) -> list[str]:
    with clickhouse.client() as client:
        result = client.query("SELECT name FROM system.tables WHERE database = 'staging'")
        return [name for (name,) in result.result_rows]


def test_a_partition_published_twice_has_its_rows_once(clickhouse: ClickHouse) -> None:
    for run in ("first", "second"):
        assert clickhouse.replace_partition(SUMMARY, (202401,), JANUARY, run) == 3
    assert published(clickhouse) == [(date(2024, 1, d), 10, None) for d in (1, 2, 3)]


def test_a_partition_tells_its_bytes(clickhouse: ClickHouse) -> None:
    clickhouse.replace_partition(SUMMARY, (202401,), JANUARY, "run")
    clickhouse.replace_partition(SUMMARY, (202402,), month(date(2024, 2, 1), 20, 20_000), "run")
    with clickhouse.client() as client:
        [[of_both]] = client.query(
            "SELECT total_bytes FROM system.tables WHERE database = 'drives' AND name = 'summary'"
        ).result_rows
    january, february = (clickhouse.partition_bytes(SUMMARY, (m,)) for m in (202401, 202402))
    assert 0 < january < february
    assert january + february == of_both
    assert clickhouse.partition_bytes(SUMMARY, (202403,)) == 0


def test_new_rows_take_the_place_of_the_old_ones_of_their_partition_only(
    clickhouse: ClickHouse,
) -> None:
    clickhouse.replace_partition(SUMMARY, (202401,), JANUARY, "run")
    clickhouse.replace_partition(SUMMARY, (202402,), FEBRUARY, "run")
    clickhouse.replace_partition(SUMMARY, (202401,), month(date(2024, 1, 9), 11, rows=1), "run")
    assert published(clickhouse) == [
        (date(2024, 1, 9), 11, None),
        *((date(2024, 2, d), 20, None) for d in (1, 2, 3)),
    ]


def test_an_empty_frame_removes_its_partition_only(clickhouse: ClickHouse) -> None:
    clickhouse.replace_partition(SUMMARY, (202401,), JANUARY, "run")
    clickhouse.replace_partition(SUMMARY, (202402,), FEBRUARY, "run")
    for _ in range(2):
        assert clickhouse.replace_partition(SUMMARY, (202401,), JANUARY.clear(), "run") == 0
    assert published(clickhouse) == [(date(2024, 2, d), 20, None) for d in (1, 2, 3)]


def test_a_partition_may_have_several_values(clickhouse: ClickHouse) -> None:
    start = date(2024, 1, 1)
    for period in ("month", "quarter"):
        frame = pl.DataFrame({"period": period, "start": start, "model": ["a'b", "ü"]})
        clickhouse.replace_partition(RATES, (period, start), frame, "run")
    clickhouse.replace_partition(RATES, ("month", start), frame.clear(), "run")
    assert published(clickhouse, RATES) == [("quarter", start, "a'b"), ("quarter", start, "ü")]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (pl.concat([JANUARY, FEBRUARY]), r"belong to \(202401,\), \(202402,\)"),
        (FEBRUARY, r"belong to \(202402,\)"),
        (JANUARY.drop("rate"), "other columns than the table: rate"),
        (JANUARY.with_columns(extra=1), "other columns than the table: extra"),
        (JANUARY.with_columns(drives=pl.lit(-1)), "failed in column 'drives'"),
        (JANUARY.with_columns(drives=pl.lit(2**32)), "failed in column 'drives'"),
        (JANUARY.with_columns(drives=pl.lit(1.5)), r"drives of .* is Float64 and should be UInt32"),
        (JANUARY.with_columns(drives=pl.lit(None, pl.UInt32)), "Cannot convert NULL"),
        (
            JANUARY.with_columns(date=pl.lit(date(1900, 1, 1))),
            r"date of .* has a date outside 1970-01-01 to 2149",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_published(
    clickhouse: ClickHouse, rows: pl.DataFrame, reason: str
) -> None:
    clickhouse.replace_partition(SUMMARY, (202401,), JANUARY, "run")
    before = published(clickhouse)
    with pytest.raises(LakehouseError, match=reason):
        clickhouse.replace_partition(SUMMARY, (202401,), rows, "run")
    assert published(clickhouse) == before
    assert staging_tables(clickhouse) == []


def test_a_column_that_is_new_is_added_to_the_table(clickhouse: ClickHouse) -> None:
    clickhouse.replace_partition(SUMMARY, (202401,), JANUARY, "run")
    wider = Table(**vars(SUMMARY) | {"columns": SUMMARY.columns | {"note": "Nullable(String)"}})
    rows = FEBRUARY.with_columns(note=pl.lit("new"))
    clickhouse.replace_partition(wider, (202402,), rows, "run")
    assert {row[3] for row in published(clickhouse)} == {None, "new"}


def test_a_column_of_another_type_is_an_error_that_says_what_to_do(clickhouse: ClickHouse) -> None:
    clickhouse.ensure_table(SUMMARY)
    other = Table(**vars(SUMMARY) | {"columns": SUMMARY.columns | {"drives": "UInt64"}})
    with pytest.raises(LakehouseError, match=r"drives of .* is UInt32 and should be UInt64: drop"):
        clickhouse.ensure_table(other)


def test_answers_that_a_table_keeps_are_those_of_its_rows(clickhouse: ClickHouse) -> None:
    kept = Table(
        **vars(SUMMARY) | {"projections": {"by_day": "SELECT date, max(drives) GROUP BY date"}}
    )
    clickhouse.replace_partition(kept, (202401,), JANUARY, "run")
    clickhouse.replace_partition(kept, (202402,), FEBRUARY, "run")
    clickhouse.replace_partition(kept, (202401,), JANUARY.with_columns(drives=30), "run")

    sql = f"SELECT date, max(drives) FROM {kept} GROUP BY date ORDER BY date"
    assert clickhouse.query(sql).rows == [
        *((day, 30) for day in JANUARY["date"]),
        *((day, 20) for day in FEBRUARY["date"]),
    ]
    with clickhouse.client() as client:
        plan = "\n".join(line for (line,) in client.query(f"EXPLAIN {sql}").result_rows)
    assert "ReadFromMergeTree (by_day)" in plan


@pytest.mark.parametrize("name", ["a`b", "a b", "1a", "a;DROP", ""])
def test_a_table_has_plain_names(name: str) -> None:
    with pytest.raises(ValueError, match="is not an identifier"):
        Table(**vars(SUMMARY) | {"name": name})


def test_what_a_killed_run_left_is_removed_after_a_day(
    clickhouse: ClickHouse, clickhouse_service: ClickHouseService, settings: Settings
) -> None:
    clickhouse.replace_partition(SUMMARY, (202401,), JANUARY, "run")
    with clickhouse.client() as client:
        for name in ("left_yesterday", "in_use_now"):
            client.command(f"CREATE TABLE staging.{name} (n UInt8) ENGINE = MergeTree ORDER BY n")
    (metadata,) = clickhouse_service.data.rglob("left_yesterday.sql")
    two_days_ago = time.time() - 2 * 86400
    os.utime(metadata, (two_days_ago, two_days_ago))

    ClickHouse(settings).replace_partition(SUMMARY, (202401,), JANUARY, "another process's")
    assert staging_tables(clickhouse) == ["in_use_now"]


def test_queries_carry_the_run(clickhouse: ClickHouse) -> None:
    with clickhouse.client("run-7") as client:
        assert client.command("SELECT getSetting('log_comment')") == "lakehouse run-7"


def replace_often(settings: Settings, worker: int) -> None:
    """Publishes the shared January and a month of its own, again and again."""
    clickhouse = ClickHouse(settings)
    for _ in range(5):
        for number, first in (
            (202401, date(2024, 1, 1)),
            (202402 + worker, date(2024, 2 + worker, 1)),
        ):
            rows = month(first, drives=worker, rows=100 + worker)
            clickhouse.replace_partition(SUMMARY, (number,), rows, f"worker {worker}")


def test_four_processes_at_once_leave_what_one_leaves(
    clickhouse: ClickHouse, settings: Settings
) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(replace_often, settings, worker) for worker in range(4)]:
            done.result()
    found = clickhouse.query(
        "SELECT toYYYYMM(date) AS month, groupUniqArray(drives), count() "
        "FROM drives.summary GROUP BY month ORDER BY month"
    ).rows
    _, [last_writer], count = found[0]
    assert count == 100 + last_writer
    assert found[1:] == [(202402 + worker, [worker], 100 + worker) for worker in range(4)]
    assert staging_tables(clickhouse) == []


@pytest.fixture
def local(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Settings]:
    """A home with a local service of its own, not started yet."""
    settings = Settings(home=tmp_path / "home", clickhouse_port=free_port())
    yield settings
    ClickHouseService(settings).stop()


def test_the_local_service_is_started_on_first_need(local: Settings) -> None:
    assert ClickHouse(local).query("SELECT 1 AS one") == (("one",), [(1,)])
    assert ClickHouseService(local).status().running


def test_a_server_killed_in_the_middle_of_a_load_keeps_the_old_rows(local: Settings) -> None:
    clickhouse = ClickHouse(local)
    clickhouse.replace_partition(SUMMARY, (202401,), JANUARY, "before")
    before = published(clickhouse)
    many = month(date(2024, 1, 1), drives=99, rows=5_000_000)

    with ThreadPoolExecutor() as pool:
        load = pool.submit(clickhouse.replace_partition, SUMMARY, (202401,), many, "killed")
        while not load.done() and not staging_tables(clickhouse):
            time.sleep(0.01)
        server = psutil.Process(ClickHouseService(local).status().pid)
        server.send_signal(signal.SIGKILL)
        with pytest.raises(UnavailableError, match="does not answer"):
            load.result()

    assert published(clickhouse) == before
    assert clickhouse.replace_partition(SUMMARY, (202401,), many, "after") == 5_000_000
    assert clickhouse.query("SELECT count() FROM drives.summary").rows == [(5_000_000,)]


def test_where_nothing_listens_it_is_said_how_to_start_it(
    free_port: Callable[[], int], capfd: pytest.CaptureFixture[str]
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError) as error:
        ClickHouse(Settings(clickhouse_url=address)).query("SELECT 1")
    assert str(error.value) == (
        f"ClickHouse at {address} does not answer: "
        "start it with `lakehouse up` or check LAKEHOUSE_CLICKHOUSE_URL."
    )
    assert capfd.readouterr().err == ""


def test_another_server_at_the_address_is_not_taken_for_clickhouse() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        settings = Settings(clickhouse_url=f"http://127.0.0.1:{other.server_port}")
        with pytest.raises(UnavailableError, match="check LAKEHOUSE_CLICKHOUSE_URL"):
            ClickHouse(settings).query("SELECT 1")
        other.shutdown()


@pytest.mark.parametrize("address", ["localhost:8123", "http://host", "http://me:sesame@host:1"])
def test_an_address_that_is_not_one_is_a_mistake_of_the_caller(address: str) -> None:
    with pytest.raises(UsageError, match="LAKEHOUSE_CLICKHOUSE_URL must be") as error:
        ClickHouse(Settings(clickhouse_url=address)).query("SELECT 1")
    assert "sesame" not in str(error.value)


@pytest.mark.parametrize(
    ("role", "call"),
    [
        ("", lambda clickhouse: clickhouse.ensure_table(SUMMARY)),
        ("reader_", lambda clickhouse: clickhouse.query("SELECT 1")),
    ],
)
def test_a_refused_account_is_named_without_its_password(
    clickhouse_service: ClickHouseService, role: str, call: Callable[[ClickHouse], object]
) -> None:
    account = {f"clickhouse_{role}user": "nobody", f"clickhouse_{role}password": "sesame"}
    settings = Settings(clickhouse_url=clickhouse_service.status().address, **account)
    with pytest.raises(LakehouseError, match="refuses the user nobody") as error:
        call(ClickHouse(settings))
    assert f"LAKEHOUSE_CLICKHOUSE_{role.upper()}PASSWORD" in str(error.value)
    assert "sesame" not in str(error.value)


def test_values_come_back_as_they_are(clickhouse: ClickHouse) -> None:
    columns, [row] = clickhouse.query(
        "SELECT toDate('2024-02-29') AS day, toDateTime('2024-02-29 12:00:00', 'UTC') AS moment, "
        "toDecimal64(1.10, 2) AS price, nan AS nothing, NULL AS missing, 'ü' AS word, "
        "[1, 2] AS many"
    )
    assert columns == ("day", "moment", "price", "nothing", "missing", "word", "many")
    assert row[:3] == (date(2024, 2, 29), datetime(2024, 2, 29, 12), Decimal("1.10"))
    assert math.isnan(row[3])
    assert row[4:] == (None, "ü", [1, 2])


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "Syntax error: failed at position 7 (1) (line 1, col 7): 1."),
        ("SELECT * FROM missing.t", "Database missing does not exist."),
        ("DROP TABLE drives.summary", "reader: Not enough privileges."),
        ("SELECT throwIf(number = 3000000, 'late') FROM numbers(4000000)", "late"),
    ],
)
def test_a_query_that_clickhouse_refuses_is_answered_with_its_own_words(
    clickhouse: ClickHouse, sql: str, message: str
) -> None:
    clickhouse.ensure_table(SUMMARY)
    with pytest.raises(UsageError) as error:
        clickhouse.query(sql)
    assert str(error.value).startswith(message)
    assert "version" not in str(error.value)


@pytest.fixture
def small_disk(new_disk: Callable[[str], Path]) -> Path:
    """A disk of its own for a server."""
    return new_disk("100m")


def test_a_full_disk_is_said_and_what_is_published_stays(
    small_disk: Path, free_port: Callable[[], int]
) -> None:
    settings = Settings(home=small_disk, clickhouse_port=free_port())
    clickhouse, service = ClickHouse(settings), ClickHouseService(settings)
    clickhouse.replace_partition(SUMMARY, (202401,), JANUARY, "run")
    before = published(clickhouse)
    wider = replace(SUMMARY, columns=SUMMARY.columns | {"more": "UInt8"})
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))

    for table, rows in (
        (SUMMARY, month(date(2024, 1, 1), 11)),
        (wider, JANUARY.with_columns(more=pl.lit(1, pl.UInt8))),
    ):
        with pytest.raises(LakehouseError, match=r"disk of ClickHouse at .* is full .* make room"):
            clickhouse.replace_partition(table, (202401,), rows, "run")
    with pytest.raises(LakehouseError, match="is full"):
        clickhouse.ensure_table(RATES)
    assert published(clickhouse) == before

    (small_disk / "filler").unlink()
    service.stop()
    assert published(clickhouse) == before
    assert clickhouse.replace_partition(SUMMARY, (202402,), FEBRUARY, "run") == FEBRUARY.height
    service.stop()
