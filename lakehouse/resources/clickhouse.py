"""ClickHouse, where the tables are published: partitions are replaced whole, readers only read."""

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit
from uuid import uuid4

import polars as pl
from pydantic import SecretStr

from lakehouse.errors import LakehouseError, UnavailableError, UsageError
from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from clickhouse_connect.driver import Client
    from clickhouse_connect.driver.exceptions import DatabaseError

# The driver also logs what it raises; a person should read it once.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)

_STAGING = "staging"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DATES = (date(1970, 1, 1), date(2149, 6, 6))
_ADDRESS = re.compile(r"(?P<scheme>https?)://(?P<host>[^/@:]+):(?P<port>\d+)/?")
_AUTHENTICATION_CODES = {192, 193, 194, 516}
_ACCESS_DENIED = 497
_NOT_ENOUGH_SPACE = 243
_DISK_FULL = "No space left on device"
_NO_PATHS = "getcwd failed"
"""What libchdb says of every path, since the folder that it works in is gone: see the service."""
_LEAST_FREE_BYTES = 1 << 20
"""What ClickHouse itself wants before it writes rows."""
_INTEGERS = {
    str(dtype): dtype
    for dtype in (
        *(pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64()),
        *(pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64()),
    )
}
_LOOPBACK = ("127.0.0.1", "localhost")
_ARROW = {
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "output_format_arrow_compression_method": "none",  # HTTP's own packs what leaves the machine
}


@dataclass(frozen=True)
class Table:
    """A published table, as ClickHouse knows it.

    Attributes:
        database: One of the published databases.
        name: The table's name in it.
        columns: The ClickHouse type of each column, as ClickHouse itself writes it.
        order_by: The columns of the sorting key.
        partition_by: A ClickHouse expression, such as `toYYYYMM(date)` or `(period, start)`.
        comment: What a row is, for people.
        projections: Queries by name, such as `SELECT key, count() GROUP BY key`, whose answers
            ClickHouse keeps for each partition, so that they do not read all rows. Only a table
            that is new has them.
    """

    database: str
    name: str
    columns: dict[str, str]
    order_by: tuple[str, ...]
    partition_by: str
    comment: str
    projections: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = (self.database, self.name, *self.columns, *self.order_by, *self.projections)
        for name in names:
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r} is not an identifier")

    def __str__(self) -> str:
        return f"{self.database}.{self.name}"


class Account(NamedTuple):
    """Where a server is, and as whom to log in."""

    host: str
    port: int
    secure: bool
    user: str
    password: SecretStr


class Rows(NamedTuple):
    """The answer to a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class ClickHouse:
    """The ClickHouse server of the settings; the local service is started on first need."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._of_thread = threading.local()
        self._has_staging = False

    @property
    def _connections(self) -> dict[str, tuple[str, "Client"]]:
        """This thread's own, by account: what a connection says of its queries can change."""
        connections: dict[str, tuple[str, Client]] = self._of_thread.__dict__.setdefault(
            "opened", {}
        )
        return connections

    @contextmanager
    def client(self, run_id: str = "") -> Iterator["Client"]:
        """A connection of the writer; its queries carry the run id as their log comment.

        Raises:
            UnavailableError: the server does not answer.
            LakehouseError: it refuses the account, the account lacks a right, or the local server
                cannot be started.
        """
        user, password = self._writer
        with self._connect("LAKEHOUSE_CLICKHOUSE", user, password, run_id) as client:
            yield client

    @property
    def _writer(self) -> tuple[str, SecretStr]:
        if self._settings.clickhouse_url is None:
            return "default", SecretStr("")
        return self._settings.clickhouse_user, self._settings.clickhouse_password

    def account(self) -> Account:
        """Where the server is, which was made sure of, and as whom to write: for other programs.

        Raises:
            UnavailableError: the server does not answer.
            LakehouseError: it refuses the account, or the local server cannot be started.
        """
        with self.client():
            user, password = self._writer
            url = urlsplit(self._connections[user][0])
        return Account(str(url.hostname), int(url.port or 0), url.scheme == "https", user, password)

    @contextmanager
    def reader(self) -> Iterator["Client"]:
        """A connection of the account that can only read what is published.

        Raises:
            UnavailableError: the server does not answer.
            LakehouseError: it refuses the account, or the local server cannot be started.
        """
        user = self._settings.clickhouse_reader_user
        password = self._settings.clickhouse_reader_password
        with self._connect("LAKEHOUSE_CLICKHOUSE_READER", user, password, "query") as client:
            yield client

    def query(self, sql: str) -> Rows:
        """Reads through the reader account.

        Raises:
            UsageError: ClickHouse refuses the query; the message is ClickHouse's own.
            UnavailableError: the server does not answer.
            LakehouseError: it refuses the account, or the local server cannot be started.
        """
        from clickhouse_connect.driver.exceptions import DatabaseError

        with self.reader() as client:
            try:
                result = client.query(sql)
            except DatabaseError as error:
                if not _is_from_server(error):
                    raise
                raise UsageError(_message(error)) from error
        return Rows(tuple(result.column_names), list(map(tuple, result.result_rows)))

    def ensure_table(self, table: Table) -> None:
        """Creates the table, or adds the columns that it lacks.

        Raises:
            LakehouseError: a column of the table has another type.
            UnavailableError: the server does not answer.
        """
        with self.client() as client:
            _ensure_table(client, table)

    def replace_partition(
        self, table: Table, partition: tuple[Any, ...], frame: pl.DataFrame, run_id: str
    ) -> int:
        """Makes the frame the whole content of the partition; an empty one removes it.

        Readers see the old rows or the new ones. When it fails, they see the old ones.

        Args:
            table: The table, created if it is missing.
            partition: The values of `table.partition_by` that all rows must have.
            frame: The rows, with just the columns of the table.
            run_id: Marks the queries.

        Returns:
            How many rows the partition has now.

        Raises:
            LakehouseError: the rows do not fit the table or belong to another partition.
            UnavailableError: the server does not answer.
        """
        rows = _fitting(table, frame)
        with self.client(run_id) as client:
            _ensure_table(client, table)
            self._ensure_staging(client)
            if rows.is_empty():
                _drop_partition(client, table, partition)
            else:
                _load_and_replace(client, table, partition, rows)
        return rows.height

    def partition_frame(
        self, table: Table, partition: tuple[Any, ...], *names: str
    ) -> pl.DataFrame:
        """The rows of a partition as a frame, UUIDs as text; empty where it is absent.

        Args:
            table: The table.
            partition: The values of `table.partition_by`.
            names: Its columns; all where none are named.

        Raises:
            UnavailableError: the server does not answer.
        """
        columns = ", ".join(
            f"toString({quoted(name)}) AS {quoted(name)}"
            if table.columns[name] == "UUID"
            else quoted(name)
            for name in names or table.columns
        )
        with self.client() as client:
            _ensure_table(client, table)
            target = quoted(table.database, table.name)
            present = _partitions(client, target)
            partition_id = present[partition][0] if partition in present else ""
            rows = client.query_arrow(
                f"SELECT {columns} FROM {target} "  # noqa: S608
                "WHERE _partition_id = {partition:String}",
                parameters={"partition": partition_id},
                settings=_ARROW,
                use_strings=True,
            )
        return cast("pl.DataFrame", pl.from_arrow(rows))

    def partition_rows(self, table: Table, partition: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The rows of a partition, their columns in the table's order; none where it is absent.

        Raises:
            UnavailableError: the server does not answer.
        """
        columns = ", ".join(map(quoted, table.columns))
        with self.client() as client:
            _ensure_table(client, table)
            target = quoted(table.database, table.name)
            present = _partitions(client, target)
            if partition not in present:
                return []
            result = client.query(
                f"SELECT {columns} FROM {target} "  # noqa: S608
                "WHERE _partition_id = {partition:String}",
                parameters={"partition": present[partition][0]},
            )
        return list(map(tuple, result.result_rows))

    def partition_bytes(self, table: Table, partition: tuple[Any, ...]) -> int:
        """What a partition takes on disk; 0 where it is absent.

        Raises:
            UnavailableError: the server does not answer.
        """
        with self.client() as client:
            present = _partitions(client, quoted(table.database, table.name))
            result = client.query(
                "SELECT sum(bytes_on_disk) FROM system.parts WHERE active"
                " AND database = {database:String} AND table = {table:String}"
                " AND partition_id = {partition:String}",
                parameters={
                    "database": table.database,
                    "table": table.name,
                    "partition": present[partition][0] if partition in present else "",
                },
            )
        return int(result.result_rows[0][0])

    def _ensure_staging(self, client: "Client") -> None:
        """Once: the database where rows are loaded, without what killed runs left behind there."""
        if not self._has_staging:
            _require_room(client)
            client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(_STAGING)}")
            _drop_leftovers(client)
            self._has_staging = True

    @contextmanager
    def _connect(
        self, variables: str, user: str, password: SecretStr, run_id: str
    ) -> Iterator["Client"]:
        """The account's connection, kept open: opening one costs more than a small table does.

        One that does not answer is opened anew, which starts the local service where it is down.
        """
        from clickhouse_connect.driver.exceptions import (
            DatabaseError,
            OperationalError,
            StreamFailureError,
        )

        transport_errors = (DatabaseError, OperationalError, StreamFailureError)
        address, client = self._connections.get(user, (self._settings.clickhouse_url, None))
        if client is not None and not client.ping():
            address, client = self._settings.clickhouse_url, None
        if address is None:
            address = ClickHouseService(self._settings).start().address
        try:
            if client is None:
                client = self._opened(address, user, password)
                self._connections[user] = (address, client)
            client.set_client_setting("log_comment", f"lakehouse {run_id}")
            yield client
        except DatabaseError as error:
            if error.code in _AUTHENTICATION_CODES:
                raise LakehouseError(
                    f"ClickHouse at {address} refuses the user {user}: "
                    f"check {variables}_USER and {variables}_PASSWORD."
                ) from error
            if error.code == _ACCESS_DENIED:
                raise LakehouseError(
                    f"ClickHouse at {address} does not let {user} do this: {_message(error)} "
                    "Give the account the grants that SECURITY.md names."
                ) from error
            if _is_disk_full(error):
                raise LakehouseError(
                    f"The disk of ClickHouse at {address} is full and nothing was changed: "
                    "make room and run again."
                ) from error
            if not _is_from_server(error) and type(error) in transport_errors:
                raise UnavailableError(
                    f"ClickHouse at {address} does not answer: "
                    "start it with `lakehouse up` or check LAKEHOUSE_CLICKHOUSE_URL."
                ) from error
            raise

    def _opened(self, address: str, user: str, password: SecretStr) -> "Client":
        import clickhouse_connect

        url = _ADDRESS.fullmatch(address)
        if url is None:
            raise UsageError(
                "LAKEHOUSE_CLICKHOUSE_URL must be an address with a port and without an account, "
                "such as https://clickhouse.example.org:8443."
            )
        return clickhouse_connect.get_client(
            interface=url["scheme"],
            host=url["host"],
            port=int(url["port"]),
            username=user,
            password=password.get_secret_value(),
            # Without a session, queries of one client may run at the same time.
            autogenerate_session_id=False,
            # Between two programs of one machine packing takes longer than sending.
            compress=url["host"] not in _LOOPBACK,
            pool_mgr=_loopback_pool() if url["host"] in _LOOPBACK else None,
        )


def _ensure_table(client: "Client", table: Table) -> None:
    from clickhouse_connect.driver.binding import format_str

    existing = _columns(client, table)
    if not existing:
        columns = ", ".join(
            [
                *(f"{quoted(name)} {kind}" for name, kind in table.columns.items()),
                *(f"PROJECTION {name} ({query})" for name, query in table.projections.items()),
            ]
        )
        order = ", ".join(map(quoted, table.order_by))
        _require_room(client)
        client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(table.database)}")
        client.command(
            f"CREATE TABLE IF NOT EXISTS {quoted(table.database, table.name)} ({columns}) "
            f"ENGINE = MergeTree PARTITION BY {table.partition_by} ORDER BY ({order}) "
            f"COMMENT {format_str(table.comment)}"
        )
        existing = _columns(client, table)
    for column, kind in table.columns.items():
        if column not in existing:
            _require_room(client)
            client.command(
                f"ALTER TABLE {quoted(table.database, table.name)} "
                f"ADD COLUMN IF NOT EXISTS {quoted(column)} {kind}"
            )
        elif existing[column] != kind:
            raise LakehouseError(
                f"Column {column} of {table} in ClickHouse is {existing[column]} and should be "
                f"{kind}: drop the table and materialize it again."
            )


def _columns(client: "Client", table: Table) -> dict[str, str]:
    """The types of the columns that a table has now; none where it is absent."""
    result = client.query(
        "SELECT name, type FROM system.columns "
        "WHERE database = {database:String} AND table = {table:String}",
        parameters={"database": table.database, "table": table.name},
    )
    return {str(name): str(kind) for name, kind in result.result_rows}


def _require_room(client: "Client") -> None:
    """Fails on a full disk, before a table is defined: libchdb does not notice that it cannot write
    a definition, and leaves an empty one, with which the table is gone."""
    client.command(f"SELECT throwIf(filesystemAvailable() < {_LEAST_FREE_BYTES}, '{_DISK_FULL}')")


def _fitting(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, with the integers of the table.

    Checked here, since ClickHouse wraps an integer and clips a date that is out of range.
    """
    if set(frame.columns) != set(table.columns):
        differing = ", ".join(sorted(set(frame.columns) ^ set(table.columns)))
        raise LakehouseError(
            f"The rows for {table} have other columns than the table: {differing}."
        )
    integers = []
    for column, kind in table.columns.items():
        base = re.sub(r"(?:Nullable|LowCardinality)\(|\)", "", kind)
        if base in _INTEGERS:
            if not frame.schema[column].is_integer():
                raise LakehouseError(
                    f"Column {column} of the rows for {table} is {frame.schema[column]} "
                    f"and should be {base}."
                )
            integers.append(pl.col(column).cast(_INTEGERS[base]))
        if base == "Date" and not frame[column].is_between(*_DATES).all():
            raise LakehouseError(
                f"Column {column} of the rows for {table} has a date outside "
                f"{_DATES[0]} to {_DATES[1]}."
            )
    try:
        return frame.with_columns(integers)
    except pl.exceptions.InvalidOperationError as error:
        reason = str(error).splitlines()[0]
        raise LakehouseError(f"The rows for {table} do not fit the table: {reason}.") from error


def _load_and_replace(
    client: "Client", table: Table, partition: tuple[Any, ...], rows: pl.DataFrame
) -> None:
    from clickhouse_connect.driver.exceptions import DatabaseError

    name = f"{table.database}__{table.name}__{uuid4().hex}"
    target, staging = quoted(table.database, table.name), quoted(_STAGING, name)
    _require_room(client)
    client.command(f"CREATE TABLE {staging} AS {target}")
    try:
        try:
            client.insert_arrow(
                name,
                rows.to_arrow(),
                database=_STAGING,
                # By default a null becomes the zero of a column that takes no nulls.
                settings={"input_format_null_as_default": 0},
            )
        except DatabaseError as error:
            if not _is_from_server(error) or _is_disk_full(error):
                raise
            raise LakehouseError(
                f"ClickHouse refuses the rows for {table}: {_message(error)}"
            ) from error
        loaded = _partitions(client, staging)
        if set(loaded) != {partition}:
            found = ", ".join(map(str, sorted(loaded)))
            raise LakehouseError(
                f"The rows for partition {partition} of {table} belong to {found}: "
                "nothing was published."
            )
        partition_id, count = loaded[partition]
        if count != rows.height:
            raise LakehouseError(
                f"ClickHouse holds {count} of the {rows.height} rows for partition {partition} "
                f"of {table}: nothing was published."
            )
        client.command(
            f"ALTER TABLE {target} REPLACE PARTITION ID {{partition:String}} FROM {staging}",
            parameters={"partition": partition_id},
        )
    finally:
        client.command(f"DROP TABLE IF EXISTS {staging} SYNC")


def _drop_partition(client: "Client", table: Table, partition: tuple[Any, ...]) -> None:
    target = quoted(table.database, table.name)
    present = _partitions(client, target)
    if partition in present:
        client.command(
            f"ALTER TABLE {target} DROP PARTITION ID {{partition:String}}",
            parameters={"partition": present[partition][0]},
        )


def _partitions(client: "Client", table: str) -> dict[tuple[Any, ...], tuple[str, int]]:
    """For each partition of the table its id and number of rows."""
    result = client.query(
        f"SELECT _partition_value, _partition_id, count() FROM {table} GROUP BY ALL"  # noqa: S608
    )
    return {
        tuple(value): (partition_id, count) for value, partition_id, count in result.result_rows
    }


def _drop_leftovers(client: "Client") -> None:
    """Removes the staging tables that killed runs left behind."""
    leftovers = client.query(
        "SELECT name FROM system.tables WHERE database = {database:String} "
        "AND metadata_modification_time < now() - INTERVAL 1 DAY",
        parameters={"database": _STAGING},
    )
    for (name,) in leftovers.result_rows:
        client.command(f"DROP TABLE IF EXISTS {quoted(_STAGING, name)} SYNC")


def quoted(*names: str) -> str:
    """Names as SQL takes them, such as of a database and its table."""
    from clickhouse_connect.driver.binding import quote_identifier

    return ".".join(map(quote_identifier, names))


@cache
def _loopback_pool() -> Any:
    """A pool without the environment's proxy, which must not stand between a machine and itself."""
    from clickhouse_connect.driver.httputil import get_pool_manager

    return get_pool_manager()


def _is_from_server(error: "DatabaseError") -> bool:
    """Whether ClickHouse answered with the error, rather than not at all."""
    return error.code is not None or "DB::Exception" in str(error)


def _is_disk_full(error: "DatabaseError") -> bool:
    return error.code == _NOT_ENOUGH_SPACE or _DISK_FULL in str(error)


def _message(error: "DatabaseError") -> str:
    """The first sentence of ClickHouse's own message."""
    if _NO_PATHS in str(error):
        return "The local ClickHouse finds no files by their paths."
    text = re.split(r"DB::\w*Exception: ", str(error))[-1]
    text = re.sub(r"( \([A-Z_0-9]+\))? \((version|for url) .*", "", text, flags=re.DOTALL)
    sentence = re.split(r"\.\s|\s*\n", text, maxsplit=1)[0]
    return f"{sentence.rstrip('.')}."
