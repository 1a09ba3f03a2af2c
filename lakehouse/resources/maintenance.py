"""What keeps tables healthy: whole files, few files, and nothing that killed runs left behind."""

import hashlib
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import polars as pl
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from lakehouse.errors import LakehouseError, UsageError
from lakehouse.resources.clickhouse import ClickHouse, quoted
from lakehouse.resources.lake import (
    FILE_BYTES,
    KEPT_DAYS,
    Lake,
    LakeTable,
    gathered,
    next_turn,
    write_file,
)
from lakehouse.services.clickhouse import PUBLISHED_DATABASES
from lakehouse.settings import Settings

SMALL_ROWS = 100_000
"""A file with fewer rows is small: what is written in one go has more, but for its last file."""

FEW = 4
"""Small files that a partition may have before they are joined."""

FORGOTTEN_SECONDS = 7 * 24 * 3600.0
"""How old something unfinished is before nobody is believed to finish it."""

MANY_PARTS = 10
"""Parts that a partition in ClickHouse may have; its own merges leave it fewer."""

_BITS = 16
"""Of each column that is in the Z-order; four columns fill 64."""

_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"\.([0-9a-f]{64})\.parquet$")
_RETENTION = f"interval {KEPT_DAYS} days"
_PROPERTIES = {
    "delta.deletedFileRetentionDuration": _RETENTION,
    "delta.logRetentionDuration": _RETENTION,
}


@dataclass(frozen=True)
class DataFile:
    """A Parquet file that a version of a table names; `path` is relative to the table."""

    path: str
    partition: str
    bytes: int
    rows: int

    @property
    def sha256(self) -> str | None:
        """What its bytes had when it was written; None where another program wrote it."""
        match = _SHA256.search(self.path)
        return match[1] if match else None


@dataclass
class Size:
    """Files and their bytes, added up."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one more file."""
        self.files += 1
        self.bytes += size


@dataclass(frozen=True)
class Version:
    """A commit of a table, as people look at it; what it does not say is None.

    `rows`, `files` and `bytes` are what it put in the place of the partition's; `restored` is the
    version that it brought back.
    """

    version: int
    time: datetime
    operation: str
    partition: str | None = None
    run_id: str | None = None
    source_hash: str | None = None
    rows: int | None = None
    files: int | None = None
    bytes: int | None = None
    restored: int | None = None


@dataclass(frozen=True)
class Restored:
    """What a restoration came to.

    Attributes:
        of: The version that was restored.
        version: The table's new version.
        partitions: Those whose files are others than before, with the commit that they are of;
            None where the table has nothing of them now, or its log forgot the commit.
    """

    of: int
    version: int
    partitions: dict[str, Version | None] = field(default_factory=dict)


def data_files(opened: DeltaTable, table: LakeTable) -> list[DataFile]:
    """The files of a version."""
    actions = pl.DataFrame(opened.get_add_actions(flatten=True))
    if actions.is_empty():
        return []
    key = f"partition.{table.partition_by}"
    columns = actions.select("path", pl.col(key).cast(pl.String), "size_bytes", "num_records")
    return [DataFile(*row) for row in columns.sort(key, "path").iter_rows()]


def problem(lake: Lake, table: LakeTable, file: DataFile) -> str | None:
    """What is wrong with a file, after all of it was read; None where nothing is.

    A file whose name has its SHA-256 is hashed. One that another program wrote is decoded and its
    rows are counted, by which not every flipped bit shows.
    """
    store = lake.store(table)
    digest, size = hashlib.sha256(), 0
    try:
        stream = store.open_input_file(file.path)
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read ({str(error).splitlines()[0]})"
    if size != file.bytes:
        return f"has {size:,} bytes, and {file.bytes:,} in the log"
    if file.sha256:
        return None if digest.hexdigest() == file.sha256 else "has other bytes than were written"
    return _problem_inside(f"{lake.uri(table)}/{file.path}", lake, file.rows)


def _problem_inside(uri: str, lake: Lake, rows: int) -> str | None:
    try:
        frame = pl.scan_parquet(uri, storage_options=lake.options, glob=False)
        found = sum(batch.height for batch in frame.collect_batches(chunk_size=SMALL_ROWS))
    except (pl.exceptions.PolarsError, OSError) as error:
        return f"is damaged ({str(error).splitlines()[0]})"
    return None if found == rows else f"has {found:,} rows, and {rows:,} in the log"


def unnamed_files(lake: Lake, table: LakeTable) -> list[str]:
    """Files that no version names: of killed runs, and of those that are writing now."""
    opened = lake.snapshot(table)
    now: dict[str, Any] = {"retention_hours": 0, "enforce_retention_duration": False}
    all_removable = opened.vacuum(**now, full=True)
    return sorted({*all_removable} - {*opened.vacuum(**now)})


def versions(lake: Lake, table: LakeTable) -> list[Version]:
    """The commits that the log still has, newest first."""
    return [_version(commit) for commit in lake.history(table)]


def version_at(lake: Lake, table: LakeTable, moment: datetime) -> int | None:
    """The version that the table had at a moment; None where the log does not reach back."""
    return next((v.version for v in versions(lake, table) if v.time <= moment), None)


def _version(commit: dict[str, Any]) -> Version:
    counts = commit if "rows" in commit else {}
    return Version(
        version=commit["version"],
        time=datetime.fromtimestamp(commit["timestamp"] / 1000, UTC),
        operation="COMPACT" if commit.get("compacted") else commit["operation"],
        partition=commit.get("partition"),
        run_id=commit.get("run_id"),
        source_hash=commit.get("source_hash"),
        rows=counts.get("rows"),
        files=counts.get("files"),
        bytes=counts.get("bytes"),
        restored=int(commit["operationParameters"]["version"])
        if commit["operation"] == "RESTORE"
        else None,
    )


def scattered(lake: Lake, table: LakeTable) -> list[str]:
    """The partitions that have more than a few small files."""
    small: dict[str, int] = defaultdict(int)
    for file in data_files(lake.snapshot(table), table):
        small[file.partition] += file.rows < SMALL_ROWS
    return [partition for partition, files in sorted(small.items()) if files > FEW]


def compact(
    lake: Lake, table: LakeTable, partition: str, order_by: Sequence[str], run_id: str
) -> bool:
    """Join the files of a partition, and lay rows that are queried together side by side.

    The rows stay the same. They are read as a stream; memory holds about `FILE_BYTES` of them
    twice. Whoever writes the partition meanwhile wins.

    Args:
        lake: The lake.
        table: The table.
        partition: The partition.
        order_by: The columns by which the rows of a file are put in Z-order.
        run_id: What the table's history says.

    Returns:
        Whether it was done; False where somebody wrote the partition meanwhile.
    """
    with lake.exclusive(table.name, partition):
        opened = lake.snapshot(table)
        rows = pl.scan_delta(opened, storage_options=lake.options).filter(
            pl.col(table.partition_by) == pl.lit(partition).cast(table.schema[table.partition_by])
        )
        store = lake.store(table)
        actions = []
        batches = rows.drop(table.partition_by).collect_batches(chunk_size=SMALL_ROWS)
        for frame in gathered(_owned(batches), FILE_BYTES):
            action = write_file(store, table, partition, z_ordered(frame, order_by))
            action.data_change = False
            actions.append(action)
        try:
            opened.create_write_transaction(
                cast("list[Any]", actions),
                "overwrite",
                opened.schema(),
                [table.partition_by],
                [(table.partition_by, "=", partition)],
                commit_properties=CommitProperties(
                    custom_metadata={"run_id": run_id, "partition": partition, "compacted": True},
                    app_transactions=[next_turn(opened, table, partition)],
                ),
            )
        except CommitFailedError:
            return False
    return True


def _owned(batches: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    yield from batches


def z_ordered(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The rows in Z-order of these columns, so that a range of any of them lies close together.

    Of one column that is its order; of none, the order stays.
    """
    present = [column for column in columns if column in frame.columns]
    if not present or frame.is_empty():
        return frame
    if len(present) == 1:
        return frame.sort(present, maintain_order=True)
    shares = [_share(frame[column]) for column in present]
    # A bit of each in turn: the bits of every number, spread so that those of others fit between.
    numbers = pl.int_range(2**_BITS, dtype=pl.UInt64, eager=True)
    spread = pl.zeros(2**_BITS, pl.UInt64, eager=True)
    for bit in range(_BITS):
        spread += (numbers // 2**bit % 2) * 2 ** (bit * len(shares))
    place = pl.zeros(frame.height, pl.UInt64, eager=True)
    for number, share in enumerate(shares):
        place += spread.gather(share) * 2**number
    return frame.sort(pl.lit(place), *present, maintain_order=True)


def _share(column: pl.Series) -> pl.Series:
    """Where each value stands among all values of the column, from 0 to 2 ** `_BITS` - 1."""
    values = column.unique().sort()
    # Several times as fast as rank() where the values are texts.
    places = pl.int_range(len(values), dtype=pl.UInt64, eager=True) * 2**_BITS // len(values)
    return column.replace_strict(values, places)


def vacuum(lake: Lake, table: LakeTable) -> Size:
    """Remove files that no version of the last `KEPT_DAYS` days names, once they are that old.

    What running writers write is younger, and stays. Returns what was removed.
    """
    opened = lake.snapshot(table)
    kept = opened.metadata().configuration
    if any(kept.get(name) != value for name, value in _PROPERTIES.items()):
        opened.alter.set_table_properties(_PROPERTIES)
    hours = KEPT_DAYS * 24
    removed = Size()
    forgotten = opened.vacuum(hours, full=True)
    if not forgotten:
        return removed
    for info in lake.store(table).get_file_info(forgotten):
        removed.add(info.size or 0)
    opened.vacuum(hours, dry_run=False, full=True)
    return removed


def stored(lake: Lake, table: LakeTable) -> Size:
    """All data files of a table, those of former versions too."""
    size = Size()
    for info in lake.store(table).get_file_info_selector("", True, True):
        if info.size is not None and not info.path.startswith("_delta_log/"):
            size.add(info.size)
    return size


def checkpoint(lake: Lake, table: LakeTable) -> None:
    """Write the table's state in one file, so that readers need no older part of the log."""
    lake.snapshot(table).create_checkpoint()


def restore(lake: Lake, table: LakeTable, version: int, run_id: str) -> Restored:
    """Make a former version of a table its newest one.

    Raises:
        UsageError: There is no such version.
        LakehouseError: Files of that version are gone, or somebody wrote the table meanwhile.
    """
    known = versions(lake, table)
    if version not in {each.version for each in known}:
        raise UsageError(
            f"{table.name} has no version {version} that its log still knows:"
            f" `lakehouse history {table.name}` shows those that it has"
        )
    with ExitStack() as held:
        now, then = (
            _paths(lake.snapshot(table, number), table) for number in (known[0].version, version)
        )
        changed = [p for p in sorted({*now, *then}) if now.get(p) != then.get(p)]
        if not changed:
            return Restored(version, known[0].version)
        for partition in changed:
            held.enter_context(lake.exclusive(table.name, partition))
        opened = lake.snapshot(table)
        if opened.version() != known[0].version:
            raise LakehouseError(f"{table.name} was written meanwhile: look again, and run again")
        try:
            opened.restore(
                version,
                commit_properties=CommitProperties(
                    custom_metadata={"run_id": run_id}, max_commit_retries=0
                ),
            )
        except CommitFailedError as error:
            raise LakehouseError(
                f"{table.name} was written meanwhile: look again, and run again"
            ) from error
        except DeltaError as error:
            raise LakehouseError(
                f"version {version} of {table.name} cannot be restored, since files of it are gone:"
                f" they are kept for {KEPT_DAYS} days; choose a later one"
            ) from error
    origins = {p: _origin(known, version, p) if p in then else None for p in changed}
    return Restored(version, opened.version(), origins)


def _origin(known: Sequence[Version], version: int, partition: str) -> Version | None:
    """The commit that the rows of a partition in a version are of; None where the log forgot it."""
    for each in known:
        if each.version > version or each.operation == "COMPACT":
            continue
        if each.restored is not None:
            version = each.restored
        elif each.partition == partition:
            return each
    return None


def _paths(opened: DeltaTable, table: LakeTable) -> dict[str, set[str]]:
    paths: dict[str, set[str]] = defaultdict(set)
    for file in data_files(opened, table):
        paths[file.partition].add(file.path)
    return dict(paths)


def remove_leftovers(settings: Settings) -> Size:
    """Remove what killed processes left below the home, once it is `FORGOTTEN_SECONDS` old.

    These are downloads and copies that were begun, scratch files, and copies of objects that
    nobody has read for as long. Returns what was removed.
    """
    removed = Size()
    landing, cache = settings.state / "landing", settings.state / "cache" / "objects"
    begun = [
        *landing.glob("*/*.part"),
        *landing.glob("*/*.part.json"),
        *landing.glob("*/inbox/.incoming/*"),
        *landing.glob("*/staged/*/*.part"),
        *(settings.state / "scratch").glob("*"),
        *cache.glob("*"),
        *cache.glob(".*.part"),
    ]
    oldest = time.time() - FORGOTTEN_SECONDS
    for path in begun:
        # One that goes away meanwhile is none.
        with suppress(FileNotFoundError):
            inside = [path, *path.rglob("*")]
            if max(each.stat().st_mtime for each in inside) < oldest:
                for file in (each for each in inside if each.is_file()):
                    removed.add(file.stat().st_size)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return removed


@dataclass(frozen=True)
class Parts:
    """How a table in ClickHouse is stored; `most` is the parts of the partition that has most."""

    table: str
    partitions: int
    parts: int
    most: int
    rows: int
    bytes: int


def clickhouse_parts(clickhouse: ClickHouse) -> list[Parts]:
    """The tables of all our databases, by name."""
    with clickhouse.client() as client:
        rows = client.query(
            "SELECT table, count(), sum(parts), max(parts), sum(rows), sum(bytes) FROM ("
            " SELECT database || '.' || table AS table, partition_id, count() AS parts,"
            "  sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts"
            " WHERE active AND database IN {databases:Array(String)} GROUP BY ALL"
            ") GROUP BY table ORDER BY table",
            parameters={"databases": list(PUBLISHED_DATABASES)},
        ).result_rows
    return [Parts(*row) for row in rows]


def join_parts(clickhouse: ClickHouse, run_id: str) -> int:
    """Have ClickHouse merge partitions of more than `MANY_PARTS`; returns how many there were."""
    with clickhouse.client(run_id) as client:
        many = client.query(
            "SELECT database, table, partition_id FROM system.parts"
            " WHERE active AND database IN {databases:Array(String)}"
            " GROUP BY ALL HAVING count() > {many:UInt32}",
            parameters={"databases": list(PUBLISHED_DATABASES), "many": MANY_PARTS},
        ).result_rows
        for database, table, partition in many:
            client.command(
                f"OPTIMIZE TABLE {quoted(database, table)} PARTITION ID {{partition:String}} FINAL",
                parameters={"partition": partition},
            )
    return len(many)


def drop_staging(clickhouse: ClickHouse, run_id: str) -> int:
    """Drop the staging tables of killed runs, once a day old; returns how many there were."""
    with clickhouse.client(run_id) as client:
        names = client.query(
            "SELECT name FROM system.tables WHERE database = 'staging'"
            " AND metadata_modification_time < now() - INTERVAL 1 DAY"
        ).result_rows
        for (name,) in names:
            client.command(f"DROP TABLE IF EXISTS {quoted('staging', name)} SYNC")
    return len(names)
