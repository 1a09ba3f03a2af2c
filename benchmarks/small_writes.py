"""What 300 small writes cost readers of a Delta table, before and after maintenance."""

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import polars as pl
from deltalake import write_deltalake

from benchmarks.harness import Comparison, at_most
from lakehouse.resources.lake import Lake, LakeTable, Provenance
from lakehouse.resources.maintenance import checkpoint, compact
from lakehouse.settings import Settings

WRITES = 300
ROWS = 10_000
TABLE = LakeTable(
    "drives/silver/drive_days",
    pl.Schema({"date": pl.Date, "model": pl.String, "value": pl.Int64, "month": pl.String}),
)


def rows(number: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "date": [date(2018, 1, 1) + timedelta(days=number % 31)] * ROWS,
            "model": [f"M{n % 50}" for n in range(ROWS)],
            "value": range(ROWS),
        },
        schema_overrides={"value": pl.Int64},
    )


def read_seconds(lake: Lake) -> float:
    """The best of fifteen reads by a reader that opens the table anew."""

    def read() -> None:
        pl.scan_delta(lake.uri(TABLE)).select(pl.col("value").sum(), pl.len()).collect()

    return min(seconds(read) for _ in range(15))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def reads() -> Iterator[Comparison]:
    """Reads of a table after 300 small writes, before and after maintenance."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Settings(home=Path(folder) / "small"))
        fresh = Lake(Settings(home=Path(folder) / "fresh"))
        lake.ensure_table(TABLE)
        for number in range(WRITES):
            frame = rows(number).with_columns(month=pl.lit("2018-01"))
            write_deltalake(lake.uri(TABLE), frame.to_arrow(), mode="append")
        fresh.replace(TABLE, "2018-01", map(rows, range(WRITES)), Provenance("", ""))
        before = read_seconds(lake)
        compact(lake, TABLE, "2018-01", ("date", "model"), "benchmark")
        checkpoint(lake, TABLE)
        after, best = read_seconds(lake), read_seconds(fresh)
    what = f"a read after {WRITES} small writes / of a fresh table"
    yield Comparison(what, before, best)
    yield Comparison(f"{what}, after maintenance", after, best, at_most(1.2))
