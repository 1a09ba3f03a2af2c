"""The Delta lake: partitioned tables that are replaced a partition at a time, never appended to."""

import hashlib
import io
import json
import random
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction

# Its public wrapper hands on pyarrow's buffers, which it refuses, and takes pyarrow to import.
from deltalake._internal import DeltaFileSystemHandler
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction
from filelock import FileLock

from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.settings import Settings

FILE_BYTES = 512 * 1024**2
"""Rows are gathered to about this size in memory before they become one Parquet file."""

KEPT_DAYS = 30
"""How long what was replaced stays readable, by version or by time."""

_COMMIT_TRIES = 40


@dataclass(frozen=True)
class LakeTable:
    """A Delta table: its path below the lake's root, its columns, the column it is partitioned by.

    The partition column is part of `schema`, such as `month` with `2018-01`.
    """

    name: str
    schema: pl.Schema
    partition_by: str = "month"


@dataclass(frozen=True)
class Provenance:
    """What a commit says of itself in the table's history."""

    run_id: str
    source_hash: str


@dataclass(frozen=True)
class Written:
    """What a replacement wrote: rows, bytes of Parquet, files, and the table's version after it."""

    rows: int
    bytes: int
    files: int
    version: int


class Lake:
    """Reads and writes the Delta tables of one lake: a folder, `s3://…` or `gs://…`."""

    def __init__(self, settings: Settings):
        self._root = settings.lake.rstrip("/")
        self.options = {
            key: value.get_secret_value() for key, value in settings.lake_storage_options.items()
        } or None
        self._locks = settings.state / "locks"
        self._of_thread = threading.local()

    @property
    def _opened(self) -> dict[str, DeltaTable]:
        """The tables that this thread has open, each as it was last read."""
        opened: dict[str, DeltaTable] = self._of_thread.__dict__.setdefault("opened", {})
        return opened

    def uri(self, table: LakeTable) -> str:
        """The table's address."""
        return f"{self._root}/{table.name}"

    def store(self, table: LakeTable) -> DeltaFileSystemHandler:
        """The table's files, by their paths in its log."""
        return DeltaFileSystemHandler(self.uri(table), self.options)

    def ensure_table(self, table: LakeTable) -> None:
        """Create the table if it is absent, and add the columns that it lacks.

        Raises:
            LakehouseError: A column exists with another type.
        """
        if self.exists(table) and not self._missing_columns(table):
            return
        self._locks.mkdir(parents=True, exist_ok=True)
        with FileLock(self._locks / f"{table.name.replace('/', '.')}.schema.lock"):
            for attempt in range(_COMMIT_TRIES):
                try:
                    if not self.exists(table):
                        self._create(table)
                    missing = self._missing_columns(table)
                    if not missing:
                        return
                    self._open(table).alter.add_columns(missing)
                except CommitFailedError:
                    _pause(attempt)
        raise LakehouseError(
            f"the columns of {table.name} could not be settled: other writers kept changing it;"
            " run again"
        )

    def replace(
        self,
        table: LakeTable,
        partition: str,
        frames: Iterable[pl.DataFrame],
        provenance: Provenance,
    ) -> Written:
        """Put the frames in the place of all that the partition held, in one commit.

        The frames do not carry the partition column; they may lack columns of the table, and those
        that the table lacks are added to it. They are taken one at a time; memory holds about
        `FILE_BYTES` of them. Writers of other partitions go on meanwhile. Of two writers of one
        partition, the last one stays.

        Raises:
            LakehouseError: A column has another type than it is declared with or than the table
                has, or other writers kept committing to the partition.
        """
        self.ensure_table(table)
        store = self.store(table)
        actions: list[AddAction] = []
        columns = dict(table.schema)
        rows = 0
        for frame in gathered(_as_declared(frames, table.name, columns), FILE_BYTES):
            actions.append(write_file(store, table, partition, frame))
            rows += frame.height
        self.ensure_table(replace(table, schema=pl.Schema(columns)))
        version = self._commit(table, partition, actions, provenance)
        return Written(rows, sum(action.size for action in actions), len(actions), version)

    @contextmanager
    def exclusive(self, table: str, partition: str) -> Iterator[None]:
        """Hold what reads, computes and writes a partition apart from others that would.

        Without it a slow run could put back what it computed from rows that are replaced by now.
        It holds on one machine; across machines, Dagster's pools do.
        """
        self._locks.mkdir(parents=True, exist_ok=True)
        with FileLock(self._locks / f"{table.replace('/', '.')}.{partition}.lock"):
            yield

    def scan(self, table: LakeTable, *partitions: str) -> pl.LazyFrame:
        """The rows of these partitions, of all without any; empty where the table is absent."""
        if not self.exists(table):
            return pl.LazyFrame(schema=table.schema)
        frame = pl.scan_delta(self._open(table), storage_options=self.options)
        if partitions:
            wanted = pl.Series(partitions).cast(table.schema[table.partition_by])
            frame = frame.filter(pl.col(table.partition_by).is_in(wanted.implode()))
        return frame

    def exists(self, table: LakeTable) -> bool:
        """Whether the table was ever created.

        Raises:
            UnavailableError: The bucket does not answer, or refuses the credentials.
        """
        if table.name in self._opened:
            return True
        with self._reached():
            return DeltaTable.is_deltatable(self.uri(table), self.options)

    def row_counts(self, table: LakeTable) -> dict[str, int]:
        """Rows of every partition, from the log alone."""
        if not self.exists(table):
            return {}
        actions = pl.DataFrame(self._open(table).get_add_actions(flatten=True))
        if actions.is_empty():
            return {}
        key = f"partition.{table.partition_by}"
        counts = actions.group_by(key).agg(pl.col("num_records").sum()).sort(key)
        return {str(partition): rows for partition, rows in counts.iter_rows()}

    def version(self, table: LakeTable) -> int | None:
        """The table's current version; None where it is absent."""
        return self._open(table).version() if self.exists(table) else None

    def history(self, table: LakeTable, limit: int | None = None) -> list[dict[str, Any]]:
        """The commits, newest first, with run id, partition and source hash."""
        return self._open(table).history(limit) if self.exists(table) else []

    def find(self, name: str) -> LakeTable | None:
        """The table of this name as its log describes it; None where there is none."""
        if not self.exists(LakeTable(name, pl.Schema())):
            return None
        opened = self.snapshot(LakeTable(name, pl.Schema()))
        (partition_by,) = opened.metadata().partition_columns
        return LakeTable(name, pl.scan_delta(opened).collect_schema(), partition_by)

    def snapshot(self, table: LakeTable, version: int | None = None) -> DeltaTable:
        """The table as it is, or as it was in a version, and stays in this handle of it."""
        kind = DeltaTable if self._is_remote else _LocalTable
        with self._reached():
            return kind(self.uri(table), version=version, storage_options=self.options)

    @property
    def _is_remote(self) -> bool:
        return "://" in self._root

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._is_remote:
                raise
            reason = next(filter(None, map(_told, reversed(str(error).splitlines()))), "no reason")
            raise UnavailableError(
                f"The lake at {self._root} cannot be read ({reason}): check LAKEHOUSE_LAKE_URI, the"
                " credentials and the network"
            ) from error

    def _open(self, table: LakeTable) -> DeltaTable:
        """The table as it is now; of a log that was read before, only what is new is read."""
        if table.name in self._opened:
            opened = self._opened[table.name]
            opened.update_incremental()
            return opened
        self._opened[table.name] = self.snapshot(table)
        return self._opened[table.name]

    def _create(self, table: LakeTable) -> None:
        DeltaTable.create(
            self.uri(table),
            schema=Schema.from_arrow(table.schema),
            mode="ignore",
            partition_by=[table.partition_by],
            storage_options=self.options,
            configuration={
                "delta.checkpointInterval": "20",
                "delta.deletedFileRetentionDuration": f"interval {KEPT_DAYS} days",
                "delta.logRetentionDuration": f"interval {KEPT_DAYS} days",
            },
        )

    def _missing_columns(self, table: LakeTable) -> list[Field]:
        wanted = Schema.from_arrow(table.schema)
        present = {field.name: field for field in self._open(table).schema().fields}
        for field in wanted.fields:
            there = present.get(field.name)
            if there is not None and there.type != field.type:
                raise LakehouseError(
                    f"column {field.name} of {table.name} is {_named(there)} in the table and"
                    f" {_named(field)} in the data: move the table away and backfill it again"
                )
        return [field for field in wanted.fields if field.name not in present]

    def _commit(
        self, table: LakeTable, partition: str, actions: list[AddAction], provenance: Provenance
    ) -> int:
        """Commit the files; only a conflict with another commit is tried again.

        The application transaction makes two first writers of one partition conflict, which
        delta-rs would otherwise not notice: both would stay.
        """
        for attempt in range(_COMMIT_TRIES):
            opened = self._open(table)
            try:
                opened.create_write_transaction(
                    cast("list[Any]", actions),
                    "overwrite",
                    opened.schema(),
                    [table.partition_by],
                    [(table.partition_by, "=", partition)],
                    commit_properties=CommitProperties(
                        custom_metadata={
                            "run_id": provenance.run_id,
                            "partition": partition,
                            "source_hash": provenance.source_hash,
                            "rows": sum(
                                json.loads(action.stats)["numRecords"] for action in actions
                            ),
                            "files": len(actions),
                            "bytes": sum(action.size for action in actions),
                        },
                        app_transactions=[next_turn(opened, table, partition)],
                    ),
                )
            except CommitFailedError:
                _pause(attempt)
            else:
                opened.update_incremental()
                return opened.version()
        raise LakehouseError(
            f"{table.name} {partition} could not be committed in {_COMMIT_TRIES} tries:"
            " other writers kept changing the table; run again"
        )


class _LocalTable(DeltaTable):
    """A table in a folder whose path may have spaces and other letters than ASCII.

    delta-rs quotes them as in an address, and Polars looks for files of that name
    (https://github.com/pola-rs/polars/issues/20944).
    """

    def file_uris(self, *args: Any, **kwargs: Any) -> list[str]:
        return [unquote(path) for path in super().file_uris(*args, **kwargs)]


def next_turn(opened: DeltaTable, table: LakeTable, partition: str) -> Transaction:
    """What makes a commit to a partition fail where another one came first."""
    app_id = f"{table.partition_by}={partition}"
    return Transaction(app_id, (opened.transaction_version(app_id) or 0) + 1)


def write_file(
    store: DeltaFileSystemHandler, table: LakeTable, partition: str, frame: pl.DataFrame
) -> AddAction:
    """Write a file that no version names yet; its name has the SHA-256 of its bytes.

    Neither Delta nor Parquet, as they are written here, would notice a flipped bit.
    """
    buffer = io.BytesIO()
    # A column that a file lacks is null to every reader, and costs nothing.
    filled = [column.name for column in frame if column.null_count() < column.len()]
    frame.select(filled).write_parquet(buffer, compression="zstd")
    content = buffer.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"{table.partition_by}={partition}/{uuid.uuid4()}.{sha256}.parquet"
    stream = store.open_output_stream(path, None)
    stream.write(content)
    stream.close()  # type: ignore[attr-defined]  # the file is there from now on
    return AddAction(
        path=path,
        size=len(content),
        partition_values={table.partition_by: partition},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps(_stats(frame)),
    )


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, min(1.0, 0.02 * 2**attempt)))  # noqa: S311


def _as_declared(
    frames: Iterable[pl.DataFrame], table: str, columns: dict[str, pl.DataType]
) -> Iterator[pl.DataFrame]:
    """The frames, once their types are those of `columns`, to which new ones are added.

    Casting them would make 1 of 1.5, in silence.
    """
    for frame in frames:
        for name, dtype in frame.schema.items():
            if columns.setdefault(name, dtype) != dtype:
                raise LakehouseError(
                    f"column {name} of {table} is {columns[name]}, and {dtype} in the data:"
                    " nothing was written; convert the column first"
                )
        yield frame


def gathered(frames: Iterable[pl.DataFrame], size: int) -> Iterator[pl.DataFrame]:
    """Frames joined until they are about `size` bytes; small days would make too many files."""
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        if frame.is_empty():
            continue
        waiting.append(frame)
        if sum(f.estimated_size() for f in waiting) >= size:
            yield pl.concat(waiting, how="diagonal")
            waiting = []
    if waiting:
        yield pl.concat(waiting, how="diagonal")


def _stats(frame: pl.DataFrame) -> dict[str, Any]:
    """Delta statistics: the number of rows, and the range of dates, by which readers skip files."""
    dates = [name for name, dtype in frame.schema.items() if dtype == pl.Date]
    low = frame.select(pl.col(dates).min()).row(0, named=True) if dates else {}
    high = frame.select(pl.col(dates).max()).row(0, named=True) if dates else {}
    return {
        "numRecords": frame.height,
        "minValues": {name: str(value) for name, value in low.items() if value is not None},
        "maxValues": {name: str(value) for name, value in high.items() if value is not None},
        "nullCount": {name: frame[name].null_count() for name in dates},
    }


def _named(field: Field) -> str:
    return str(getattr(field.type, "type", field.type))


def _told(line: str) -> str:
    """A line of what delta-rs says, without the colours and arrows."""
    return re.sub(r"\x1b\[\d*m|[^\x20-\x7e]", "", line).strip()
