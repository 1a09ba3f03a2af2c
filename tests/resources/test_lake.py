"""A partition of the lake is replaced as a whole, whoever else writes and whatever breaks off."""

import multiprocessing
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from multiprocessing.synchronize import Barrier
from pathlib import Path

import polars as pl
import pytest
from buckets import Buckets, running_buckets

from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.resources.lake import Lake, LakeTable, Provenance
from lakehouse.settings import Settings

TABLE = LakeTable(
    "drives/bronze/drive_days",
    pl.Schema({"date": pl.Date, "value": pl.Int64, "month": pl.String}),
)
ORIGIN = Provenance(run_id="run-1", source_hash="hash-1")

WRITE_FOR_EVER = """
import sys
import polars as pl
from lakehouse.resources.lake import Lake, LakeTable, Provenance
from lakehouse.settings import Settings
table = LakeTable(
    "drives/bronze/drive_days",
    pl.Schema({"date": pl.Date, "value": pl.Int64, "month": pl.String}),
)
lake = Lake(Settings(home=sys.argv[1]))
print("ready", flush=True)
while True:
    for value in range(9):
        frame = pl.DataFrame({"value": [value] * 1000, f"smart_{value}_raw": [value] * 1000})
        lake.replace(table, "2018-02", [frame], Provenance("killed", "?"))
"""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(Settings(home=tmp_path))


def values(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"value": numbers}, schema={"value": pl.Int64})


def put(lake: Lake, month: str, *numbers: int) -> None:
    lake.replace(TABLE, month, [values(*numbers)], ORIGIN)


def content(lake: Lake, *months: str) -> dict[str, list[int]]:
    """The values of each month, sorted."""
    found: dict[str, list[int]] = {}
    for month, value in lake.scan(TABLE, *months).select("month", "value").collect().rows():
        found.setdefault(month, []).append(value)
    return {month: sorted(numbers) for month, numbers in sorted(found.items())}


def files_of(home: Path, kind: str) -> list[Path]:
    return [path for path in (home / "lake" / TABLE.name).rglob(kind) if path.is_file()]


# Replacing


def test_replacing_a_month_twice_leaves_what_replacing_it_once_leaves(lake):
    for _ in range(2):
        put(lake, "2018-01", 1, 2, 3)
        assert content(lake) == {"2018-01": [1, 2, 3]}


def test_a_month_is_what_was_written_last_and_other_months_are_as_they_were(lake):
    put(lake, "2018-01", 1)
    put(lake, "2018-02", 2, 2)
    put(lake, "2018-01", 3, 4)
    assert content(lake) == {"2018-01": [3, 4], "2018-02": [2, 2]}
    assert content(lake, "2018-02") == {"2018-02": [2, 2]}
    assert content(lake, "2018-01", "2018-03") == {"2018-01": [3, 4]}
    assert lake.row_counts(TABLE) == {"2018-01": 2, "2018-02": 2}


def test_frames_of_a_month_come_one_by_one_and_some_may_be_empty(lake):
    frames = (values(*numbers) for numbers in ([1], [], [2, 3], []))
    written = lake.replace(TABLE, "2018-01", frames, ORIGIN)
    assert (written.rows, written.files) == (3, 1)
    assert written.bytes > 0
    assert written.version == lake.version(TABLE)
    assert content(lake) == {"2018-01": [1, 2, 3]}


@pytest.mark.parametrize("nothing", [[], [values()]])
def test_a_month_without_rows_is_cleared(lake, nothing):
    put(lake, "2018-01", 1)
    put(lake, "2018-02", 2)
    written = lake.replace(TABLE, "2018-01", nothing, ORIGIN)
    assert (written.rows, written.files) == (0, 0)
    assert content(lake) == {"2018-02": [2]}
    assert lake.row_counts(TABLE) == {"2018-02": 1}


def test_a_month_without_rows_makes_an_empty_table(lake):
    lake.replace(TABLE, "2018-01", [], ORIGIN)
    assert lake.scan(TABLE).collect().is_empty()
    assert lake.scan(TABLE).collect_schema() == TABLE.schema
    assert lake.row_counts(TABLE) == {}


def test_every_type_comes_back_as_it_was(lake):
    noon = datetime(2018, 1, 31, 12, tzinfo=UTC)
    row = {
        "date": date(2018, 1, 31),
        "value": -(2**63),
        "smart_1_raw": Decimal(2**64 - 1),
        "is_legacy_format": True,
        "rack id": "a, ü",
        "_extracted_at": noon,
    }
    types = {"smart_1_raw": pl.Decimal(20, 0), "_extracted_at": pl.Datetime("us", "UTC")}
    lake.replace(TABLE, "2018-01", [pl.DataFrame([row], schema_overrides=types)], ORIGIN)
    found = lake.scan(TABLE).collect()
    assert found.row(0, named=True) == row | {"month": "2018-01"}
    assert {name: found.schema[name] for name in types} == types


def test_a_table_can_be_partitioned_by_a_year(lake):
    years = LakeTable(
        "drives/gold/yearly_summary", pl.Schema({"year": pl.Int32, "n": pl.Int64}), "year"
    )
    for number in (1, 2):
        lake.replace(years, "2018", [pl.DataFrame({"n": [number]})], ORIGIN)
    lake.replace(years, "2019", [pl.DataFrame({"n": [3]})], ORIGIN)
    assert sorted(lake.scan(years).select("year", "n").collect().rows()) == [(2018, 2), (2019, 3)]
    assert lake.scan(years, "2019").collect()["n"].to_list() == [3]
    assert lake.row_counts(years) == {"2018": 1, "2019": 1}


def test_the_lake_may_lie_in_a_folder_with_spaces_and_umlauts(tmp_path):
    lake = Lake(Settings(home=tmp_path / "Meine Übungen 100%"))
    put(lake, "2018-01", 1)
    put(lake, "2018-02", 2)
    assert content(lake, "2018-02") == {"2018-02": [2]}


# Columns


def test_new_columns_grow_the_table_and_older_months_read_as_null(lake):
    put(lake, "2018-01", 1)
    grown = pl.DataFrame({"value": [2], "smart_9_raw": [9], "rack_id": ["7"]})
    lake.replace(TABLE, "2018-02", [values(1), grown], ORIGIN)
    columns = ["month", "value", "smart_9_raw", "rack_id"]
    assert sorted(lake.scan(TABLE).select(columns).collect().rows()) == [
        ("2018-01", 1, None, None),
        ("2018-02", 1, None, None),
        ("2018-02", 2, 9, "7"),
    ]


def test_columns_that_the_frames_lack_are_null(lake):
    put(lake, "2018-01", 1)
    assert lake.scan(TABLE).collect().to_dicts() == [{"date": None, "value": 1, "month": "2018-01"}]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (
            pl.Series("value", [1.5]),
            "column value of drives/bronze/drive_days is Int64, and Float64",
        ),
        (
            pl.Series("value", ["1"]),
            "column value of drives/bronze/drive_days is Int64, and String",
        ),
        (pl.Series("rack_id", [7]), "column rack_id of drives/bronze/drive_days is string in the"),
    ],
)
def test_a_mistyped_column_is_refused_and_nothing_changes(lake, column, said):
    lake.replace(TABLE, "2018-01", [values(1).with_columns(rack_id=pl.lit("7"))], ORIGIN)
    version = lake.version(TABLE)
    with pytest.raises(LakehouseError) as raised:
        lake.replace(TABLE, "2018-01", [column.to_frame()], ORIGIN)
    assert said in str(raised.value)
    assert content(lake) == {"2018-01": [1]}
    assert lake.version(TABLE) == version


def test_two_frames_of_a_month_cannot_differ_in_a_type(lake):
    frames = [pl.DataFrame({"rack_id": [7]}), pl.DataFrame({"rack_id": ["7"]})]
    with pytest.raises(LakehouseError, match=r"column rack_id of .* is Int64, and String"):
        lake.replace(TABLE, "2018-01", frames, ORIGIN)


# What the log tells


def test_an_absent_table_is_empty_and_has_no_history(lake):
    assert not lake.exists(TABLE)
    assert lake.scan(TABLE).collect().is_empty()
    assert lake.scan(TABLE, "2018-01").collect_schema() == TABLE.schema
    assert lake.row_counts(TABLE) == {}
    assert lake.version(TABLE) is None
    assert lake.history(TABLE) == []


def test_the_history_says_which_run_replaced_what_from_which_source(lake):
    lake.replace(TABLE, "2018-01", [values(1)], Provenance("run-1", "hash-1"))
    lake.replace(TABLE, "2018-02", [values(2)], Provenance("run-2", "hash-2"))
    latest, before = lake.history(TABLE, limit=2)
    keys = ("run_id", "partition", "source_hash")
    assert [latest[key] for key in keys] == ["run-2", "2018-02", "hash-2"]
    assert [before[key] for key in keys] == ["run-1", "2018-01", "hash-1"]
    assert latest["version"] == lake.version(TABLE)


def test_rows_are_counted_without_reading_them(lake, tmp_path):
    put(lake, "2018-01", 1, 2)
    put(lake, "2018-02", 3)
    for path in files_of(tmp_path, "*.parquet"):
        path.unlink()
    assert lake.row_counts(TABLE) == {"2018-01": 2, "2018-02": 1}


def test_a_month_and_a_day_are_read_without_touching_other_months(lake, tmp_path):
    for month in (1, 2, 3):
        frame = values(month).with_columns(date=pl.date(2018, month, 1))
        lake.replace(TABLE, f"2018-{month:02d}", [frame], ORIGIN)
    for other in ("2018-01", "2018-03"):
        for path in files_of(tmp_path, f"month={other}/*"):
            path.unlink()
    assert content(lake, "2018-02") == {"2018-02": [2]}
    of_a_day = lake.scan(TABLE).filter(pl.col("date") == date(2018, 2, 1))
    assert of_a_day.collect()["value"].to_list() == [2]


def test_what_a_replacement_costs_does_not_grow_with_the_history(lake, tmp_path):
    """Each writes one file and one commit, and reads the log from the last checkpoint on."""
    for number in range(60):
        before = Counter(path.suffix for path in files_of(tmp_path, "*"))
        put(lake, f"{2013 + number // 12}-{number % 12 + 1:02d}", number)
        new = Counter(path.suffix for path in files_of(tmp_path, "*")) - before
        assert new[".json"] <= 2
        assert new[".parquet"] <= 2
        checkpoints = [int(path.name[:20]) for path in files_of(tmp_path, "*.checkpoint.parquet")]
        assert lake.version(TABLE) - max(checkpoints, default=0) <= 20
    assert len(files_of(tmp_path, "month=*/*.parquet")) == 60
    assert sum(lake.row_counts(TABLE).values()) == 60


# Others at the same time


def write_with_others(home: Path, writer: int, month: str, start: Barrier) -> None:
    frame = values(*[writer] * 100)
    if writer % 3 == 0:
        frame = frame.with_columns(pl.lit(writer).alias(f"smart_{writer}_raw"))
    lake = Lake(Settings(home=home))
    start.wait()
    lake.replace(TABLE, month, [frame], Provenance(str(writer), ""))


def test_eight_first_writers_of_the_same_and_of_other_months(tmp_path):
    spawned = multiprocessing.get_context("spawn")
    start = spawned.Barrier(8)
    months = ["2018-01"] * 4 + ["2018-02", "2018-03", "2018-04", "2018-05"]
    writers = [
        spawned.Process(target=write_with_others, args=(tmp_path, number, month, start))
        for number, month in enumerate(months)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 8
    found = content(Lake(Settings(home=tmp_path)))
    (winner,) = set(found.pop("2018-01"))
    assert winner in range(4)
    assert found == {months[writer]: [writer] * 100 for writer in range(4, 8)}
    assert set(Lake(Settings(home=tmp_path)).row_counts(TABLE).values()) == {100}


def test_of_many_first_writers_of_a_month_one_stays(lake):
    """Nothing is there that they would all remove, so Delta alone would keep the rows of all."""
    lake.ensure_table(TABLE)
    with ThreadPoolExecutor(8) as writers:
        for month in ("2018-01", "2018-02", "2018-03", "2018-04", "2018-05"):
            list(writers.map(lambda number, month=month: put(lake, month, number), range(8)))
    assert list(lake.row_counts(TABLE).values()) == [1] * 5


def test_a_writer_that_is_killed_leaves_a_whole_month_and_the_next_run_is_right(tmp_path):
    lake = Lake(Settings(home=tmp_path))
    moments = random.Random(7)
    for attempt in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, tmp_path], stdout=subprocess.PIPE
        ) as writer:
            writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.4))
            writer.kill()
        left = content(lake)
        assert len(left.get("2018-02", [])) in (0, 1000)
        assert len(set(left.get("2018-02", []))) <= 1
        assert left.get("2018-01") == ([attempt - 1] if attempt else None)
        put(lake, "2018-01", attempt)
    put(lake, "2018-02", 1, 2, 3)
    assert content(lake) == {"2018-01": [3], "2018-02": [1, 2, 3]}


def held_up(lake: Lake, month: str) -> bool:
    """Whether another one who wants the month has to wait while it is held here."""
    entered = threading.Event()

    def enter() -> None:
        with lake.exclusive(TABLE.name, month):
            entered.set()

    other = threading.Thread(target=enter)
    with lake.exclusive(TABLE.name, "2018-01"):
        other.start()
        waited = not entered.wait(0.2)
    other.join()
    assert entered.is_set()
    return waited


def test_one_at_a_time_reads_and_writes_a_month(lake):
    assert held_up(lake, "2018-01")
    assert not held_up(lake, "2018-02")


# Buckets


@pytest.fixture(scope="module")
def buckets(free_port: Callable[[], int]) -> Iterator[Buckets]:
    with running_buckets(free_port()) as running:
        yield running


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_lake_in_a_bucket_is_like_one_in_a_folder(buckets, scheme, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "dummy")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    options = buckets.options(scheme)
    lake = Lake(
        Settings(home=tmp_path, lake_uri=f"{scheme}://lake/{scheme}", lake_storage_options=options)
    )
    assert lake.scan(TABLE).collect().is_empty()
    with ThreadPoolExecutor(4) as writers:
        list(writers.map(lambda number: put(lake, f"2018-0{number % 2 + 1}", number), range(4)))
    put(lake, "2018-03", 7)
    put(lake, "2018-03", 8, 9)
    lake.replace(TABLE, "2018-04", [values(10).with_columns(rack_id=pl.lit("7"))], ORIGIN)
    found = content(lake)
    assert found.pop("2018-01") in ([0], [2])
    assert found.pop("2018-02") in ([1], [3])
    assert found == {"2018-03": [8, 9], "2018-04": [10]}
    assert content(lake, "2018-03") == {"2018-03": [8, 9]}
    assert lake.row_counts(TABLE) == {"2018-01": 1, "2018-02": 1, "2018-03": 2, "2018-04": 1}
    assert lake.history(TABLE, 1)[0]["run_id"] == "run-1"
    assert held_up(lake, "2018-01")


def test_a_bucket_that_does_not_answer_is_one_sentence(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    options = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "planted",
        "max_retries": "0",
    }
    lake = Lake(Settings(home=tmp_path, lake_uri="s3://bucket/lake", lake_storage_options=options))

    for ask in (lake.exists, lake.snapshot):
        with pytest.raises(UnavailableError) as raised:
            ask(TABLE)
        assert str(raised.value) == (
            "The lake at s3://bucket/lake cannot be read (Connection refused (os error 111)):"
            " check LAKEHOUSE_LAKE_URI, the credentials and the network"
        )
