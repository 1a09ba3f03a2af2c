"""Maintenance leaves the same rows in fewer files, and takes nothing that somebody still needs."""

import os
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from deltalake import write_deltalake

from lakehouse.automation.datasets import datasets
from lakehouse.automation.maintenance import QUERIED, build_maintenance
from lakehouse.definitions import build_definitions
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.lake import KEPT_DAYS, Lake, LakeTable, Provenance
from lakehouse.resources.maintenance import (
    FEW,
    MANY_PARTS,
    clickhouse_parts,
    compact,
    data_files,
    problem,
    scattered,
    unnamed_files,
    vacuum,
    versions,
    z_ordered,
)
from lakehouse.settings import Settings
from lakehouse.tables.drives import CH_DAILY_SUMMARY

TABLE = LakeTable(
    "drives/silver/drive_days",
    pl.Schema(
        {
            "date": pl.Date,
            "model": pl.String,
            "value": pl.Int64,
            "month": pl.String,
        }
    ),
)
WRITES = 300
DAY = 24 * 3600


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(Settings(home=tmp_path / "home"))


def rows(number: int, month: str = "2018-01") -> pl.DataFrame:
    """Thirty rows of one day."""
    day = date.fromisoformat(f"{month}-01") + timedelta(days=number % 28)
    return pl.DataFrame(
        {"date": [day] * 30, "model": [f"M{n % 7}" for n in range(30)], "value": range(30)},
        schema_overrides={"value": pl.Int64},
    )


def append(lake: Lake, frame: pl.DataFrame, month: str) -> None:
    """A small write as other programs do it."""
    frame = frame.with_columns(month=pl.lit(month))
    write_deltalake(lake.uri(TABLE), frame.to_arrow(), mode="append", partition_by=["month"])


def content(lake: Lake) -> pl.DataFrame:
    return lake.scan(TABLE).collect().sort(pl.all())


def files_of(lake: Lake) -> list[Path]:
    return list(Path(lake.uri(TABLE)).glob("month=*/*.parquet"))


def put(lake: Lake, month: str, *frames: pl.DataFrame) -> None:
    lake.replace(TABLE, month, frames, Provenance("run", "hash"))


# The files of a table


def test_after_many_small_writes_there_are_as_many_files_as_in_a_fresh_table(lake: Lake) -> None:
    put(lake, "2018-01", rows(0))
    put(lake, "2018-02", rows(0, "2018-02"))
    for number in range(WRITES):
        append(lake, rows(number), "2018-01")
    before = content(lake)
    assert len(data_files(lake.snapshot(TABLE), TABLE)) == WRITES + 2
    assert scattered(lake, TABLE) == ["2018-01"]

    assert compact(lake, TABLE, "2018-01", ("date",), "maintenance")

    assert content(lake).equals(before)
    assert len(data_files(lake.snapshot(TABLE), TABLE)) == 2
    assert scattered(lake, TABLE) == []
    january = lake.scan(TABLE, "2018-01").collect()
    assert january["date"].is_sorted()


def test_joined_files_have_their_hashes_and_the_history_says_what_was_done(lake: Lake) -> None:
    put(lake, "2018-01", *[rows(0)] * 3)
    compact(lake, TABLE, "2018-01", (), "the-run")

    (file,) = data_files(lake.snapshot(TABLE), TABLE)
    assert file.sha256
    assert problem(lake, TABLE, file) is None
    latest = versions(lake, TABLE)[0]
    assert (latest.operation, latest.partition, latest.run_id) == ("COMPACT", "2018-01", "the-run")


def test_whoever_writes_a_partition_while_its_files_are_joined_wins(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake, "2018-01", rows(0))
    other = Lake(Settings(home=Path(lake.uri(TABLE)).parents[3]))
    newer = rows(1).with_columns(value=pl.lit(7, pl.Int64))

    def z_ordered_and_overtaken(frame: pl.DataFrame, columns: Any) -> pl.DataFrame:
        put(other, "2018-01", newer)
        return z_ordered(frame, columns)

    monkeypatch.setattr("lakehouse.resources.maintenance.z_ordered", z_ordered_and_overtaken)
    assert not compact(lake, TABLE, "2018-01", (), "maintenance")

    assert lake.scan(TABLE).collect()["value"].unique().to_list() == [7]


def test_columns_that_only_some_files_have_stay(lake: Lake) -> None:
    put(lake, "2018-01", rows(0))
    grown = rows(1).with_columns(rack=pl.lit("7"))
    put(lake, "2018-02", grown)
    append(lake, grown, "2018-01")
    before = content(lake)

    compact(lake, TABLE, "2018-01", ("date", "model"), "maintenance")

    assert content(lake).equals(before)


def test_z_order_keeps_a_range_of_either_column_together() -> None:
    side = 64
    grid = pl.DataFrame(
        {"a": [n // side for n in range(side**2)], "b": [n % side for n in range(side**2)]}
    ).sample(fraction=1, shuffle=True, seed=1)

    ordered = z_ordered(grid, ("a", "b"))

    assert ordered.sort("a", "b").equals(grid.sort("a", "b"))
    sixteenth = side**2 // 16
    for start in range(0, side**2, sixteenth):
        piece = ordered.slice(start, sixteenth)
        for column in ("a", "b"):
            assert piece[column].max() - piece[column].min() < side // 4


def test_bronze_keeps_the_order_of_rows_of_a_day() -> None:
    frame = pl.DataFrame({"date": [2, 1, 2, 1] * 50, "line": range(200)})

    ordered = z_ordered(frame, QUERIED["drives/bronze/drive_days"])

    assert ordered.filter(pl.col("date") == 1)["line"].is_sorted()


# The assets


@pytest.fixture
def care(settings: Settings) -> Callable[..., dict[str, Any]]:
    """Materializes an asset of maintenance; its metadata, and the checks that failed."""
    definitions = dg.Definitions.merge(
        build_maintenance(settings, list(datasets(settings).values())),
        dg.Definitions(resources=build_definitions(settings).resources),
    )
    instance = dg.DagsterInstance.ephemeral()

    def run(*path: str) -> dict[str, Any]:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[dg.AssetKey(["maintenance", *path])],
            instance=instance,
            raise_on_error=False,
        )
        (event,) = result.get_asset_materialization_events()
        metadata = event.materialization.metadata.items()
        checks = result.get_asset_check_evaluations()
        return {name: value.value for name, value in metadata} | {
            "failed": [check.check_name for check in checks if not check.passed]
        }

    return run


@pytest.fixture
def our_lake(settings: Settings) -> Lake:
    return Lake(settings)


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    for each in [*path.rglob("*"), path]:
        os.utime(each, (then, then))


def test_maintenance_of_the_lake(care: Callable[..., dict[str, Any]], our_lake: Lake) -> None:
    put(our_lake, "2018-01", rows(0))
    for number in range(FEW + 1):
        append(our_lake, rows(number), "2018-01")
    before = content(our_lake)

    first = care("lake", "tables")

    assert content(our_lake).equals(before)
    assert first["partitions_joined"] == 1
    assert first["failed"] == []
    assert first["files_before"] == FEW + 2
    assert first["files_after"] == FEW + 3  # the former versions stay for some time
    second = care("lake", "tables")
    assert second["partitions_joined"] == second["files_removed"] == 0
    assert second["bytes_after"] == second["bytes_before"]


def test_what_was_replaced_long_ago_and_what_killed_runs_left_goes(
    care: Callable[..., dict[str, Any]], our_lake: Lake
) -> None:
    put(our_lake, "2018-01", rows(0))
    folder = Path(our_lake.uri(TABLE)) / "month=2018-01"
    old, young = folder / "old.parquet", folder / "young.parquet"
    old.write_bytes(b"PAR1")
    young.write_bytes(b"PAR1")
    age(old, KEPT_DAYS + 1)
    assert len(unnamed_files(our_lake, TABLE)) == 2

    done = care("lake", "tables")

    assert done["files_removed"] == 1
    assert done["bytes_before"] - done["bytes_after"] == 4
    assert not old.exists()
    assert young.exists()  # a run may be writing it
    assert content(our_lake).height == 30


def test_versions_of_the_last_weeks_can_be_read_after_maintenance(
    care: Callable[..., dict[str, Any]], our_lake: Lake
) -> None:
    put(our_lake, "2018-01", rows(0))
    version = our_lake.version(TABLE)
    put(our_lake, "2018-01", rows(1))
    for path in files_of(our_lake):
        age(path, KEPT_DAYS + 10)  # written long ago, and replaced just now

    care("lake", "tables")

    former = pl.scan_delta(our_lake.snapshot(TABLE, version)).collect()
    assert former["date"].unique().to_list() == [date(2018, 1, 1)]


def test_a_table_that_another_program_made_keeps_its_former_versions_as_long(
    our_lake: Lake,
) -> None:
    append(our_lake, rows(0), "2018-01")

    vacuum(our_lake, TABLE)

    kept = our_lake.snapshot(TABLE).metadata().configuration
    assert kept["delta.deletedFileRetentionDuration"] == f"interval {KEPT_DAYS} days"


def test_leftovers_of_the_home_go_once_they_are_old(
    care: Callable[..., dict[str, Any]], settings: Settings
) -> None:
    home = settings.state
    left = [
        home / "landing" / "drives" / "data_Q1_2018.zip.part",
        home / "landing" / "drives" / "data_Q1_2018.zip.part.json",
        home / "landing" / "taxi" / "inbox" / ".incoming" / "green.parquet",
        home / "landing" / "retail" / "staged" / "publisher" / "abc.part" / "lines.parquet",
        home / "scratch" / "tmp1" / "000001.parquet",
        home / "cache" / "objects" / "0123-green.parquet",
    ]
    kept = [
        home / "landing" / "drives" / "data_Q1_2018.zip",
        home / "landing" / "drives" / "data_Q1_2018.zip.landed.json",
        home / "landing" / "retail" / "staged" / "publisher" / "abc.1" / "lines.parquet",
        home / "landing" / "taxi" / "inbox" / "20200101T000000" / "green.parquet",
    ]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    age(home, 8)
    young = home / "landing" / "taxi" / "green.parquet.part"
    young.write_bytes(b"1")

    done = care("home", "leftovers")

    assert (done["files_removed"], done["bytes_removed"]) == (len(left), 5 * len(left))
    assert not [path for path in left if path.exists()]
    assert not [path for path in (*kept, young) if not path.exists()]
    assert care("home", "leftovers")["files_removed"] == 0


def test_many_parts_of_a_partition_are_merged(
    care: Callable[..., dict[str, Any]], settings: Settings
) -> None:
    clickhouse = ClickHouse(settings)
    clickhouse.ensure_table(CH_DAILY_SUMMARY)
    with clickhouse.client() as client:
        client.command("SYSTEM STOP MERGES drives.daily_summary")
        for day in range(1, MANY_PARTS + 3):
            client.command(f"INSERT INTO drives.daily_summary VALUES ('2018-01-{day:02d}', 1, 0)")
        client.command("SYSTEM START MERGES drives.daily_summary")

    care("clickhouse", "tables")

    (table,) = clickhouse_parts(clickhouse)
    assert (table.table, table.partitions, table.most) == ("drives.daily_summary", 1, 1)
    assert table.rows == MANY_PARTS + 2


def test_a_weekly_verification_says_what_differs(
    care: Callable[..., dict[str, Any]], our_lake: Lake
) -> None:
    put(our_lake, "2018-01", rows(0))
    assert care("verification", "drives")["failed"] == []

    (path,) = files_of(our_lake)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")

    done = care("verification", "drives")
    assert done["failed"] == ["nothing_differs"]
    assert "has other bytes than were written" in done["examples"][0]
