"""PostgreSQL, where trips are published month by month: each month is replaced whole."""

import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import polars as pl

from lakehouse.errors import LakehouseError, UnavailableError, UsageError
from lakehouse.services.postgres import PostgresService
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from psycopg import Connection, Error
    from psycopg.sql import Composed, Identifier

# The driver also logs what it raises; a person should read it once.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A partition's name adds up to 17 characters, and PostgreSQL cuts names off after 63.
_NAME_LENGTH = 45
_CONNECT_SECONDS = 10
# Longer than deadlock_timeout: only after that does autovacuum make way for who waits.
_LOCK_TIMEOUT = "2s"
_LOCK_PATIENCE_SECONDS = 600.0
_LOCK_PAUSE_SECONDS = 1.0
_INTEGERS = {"smallint": pl.Int16(), "integer": pl.Int32(), "bigint": pl.Int64()}
_DTYPES: dict[str, tuple[pl.DataType, ...]] = {
    "boolean": (pl.Boolean(),),
    "date": (pl.Date(),),
    "double precision": (pl.Float32(), pl.Float64()),
    "text": (pl.String(),),
    "timestamp without time zone": (pl.Datetime("us"), pl.Datetime("ms")),
}
"""Which Polars types a PostgreSQL type takes as they are; integers are cast, and checked."""

_ADDRESS_FORM = "postgresql://user:password@host:5432/database"
_CHECK_ADDRESS = "start it with `lakehouse up` or check LAKEHOUSE_POSTGRES_URL"
_MOMENTARY_REFUSALS = ("starting up", "shutting down", "recovery", "too many", "connection slots")


@dataclass(frozen=True)
class PostgresTable:
    """A published table, as PostgreSQL knows it, partitioned by month.

    Attributes:
        schema: The schema it is in, created if it is missing.
        name: Its name there, of at most 45 characters.
        columns: The type of each column, as PostgreSQL itself writes it: `boolean`, `date`,
            `double precision`, `text`, `timestamp without time zone`, or an integer type.
        partition_by: The column with the first day of the month; one of `columns`, of type `date`.
        indexes: For each index, its columns.
        comment: What a row is, for people.
    """

    schema: str
    name: str
    columns: dict[str, str]
    partition_by: str = "month"
    indexes: tuple[tuple[str, ...], ...] = ()
    comment: str = ""

    def __post_init__(self) -> None:
        for name in (self.schema, self.name, *self.columns):
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r} is not an identifier")
        if len(self.name) > _NAME_LENGTH:
            raise ValueError(f"{self.name!r} is longer than {_NAME_LENGTH} characters")
        for kind in self.columns.values():
            if kind not in _DTYPES and kind not in _INTEGERS:
                raise ValueError(f"{kind!r} is not among the types that are written here")
        if self.columns.get(self.partition_by) != "date":
            raise ValueError(f"{self.partition_by!r} is not a column of type date")
        for column in (column for index in self.indexes for column in index):
            if column not in self.columns:
                raise ValueError(f"{column!r} is indexed and is not a column")

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def loaded(self) -> list[str]:
        """The columns that rows bring with them: all but the month."""
        return [column for column in self.columns if column != self.partition_by]


class Rows(NamedTuple):
    """The answer to a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Postgres:
    """The PostgreSQL database of the settings; the local service is started on first need."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @contextmanager
    def connection(self, run_id: str = "") -> "Iterator[Connection]":
        """A connection in a transaction, committed at the end; the run id is its application name.

        Raises:
            UnavailableError: the server does not answer, or breaks the connection off.
            LakehouseError: it refuses the account or the database, the account lacks a right, the
                disk is full, or the local server cannot be started.
            UsageError: LAKEHOUSE_POSTGRES_URL is not an address.
        """
        import psycopg

        url = self._settings.postgres_url.get_secret_value()
        if not url:
            service = PostgresService(self._settings)
            service.start()
            url = service.owner_url().get_secret_value()
        place = _place(url)
        try:
            connection = psycopg.connect(
                url,
                connect_timeout=_CONNECT_SECONDS,
                application_name=f"lakehouse {run_id}",
                client_encoding="utf8",
            )
        except psycopg.OperationalError as error:
            raise _not_connected(place, str(error)) from error
        try:
            with connection:
                yield connection
        except psycopg.Error as error:
            explained = _explained(place, error, lost=connection.broken)
            if explained is None:
                raise
            raise explained from error

    def ensure_table(self, table: PostgresTable) -> None:
        """Creates the table, or adds the columns and indexes that it lacks.

        Raises:
            LakehouseError: a column of the table has another type; or see `connection`.
            UnavailableError: readers kept the table busy; or see `connection`.
        """
        with self.connection() as connection:
            _ensure_table(connection, table)

    def replace_month(
        self,
        table: PostgresTable,
        month: date,
        batches: Iterable[pl.DataFrame],
        rows: int,
        run_id: str,
    ) -> int:
        """Makes the batches the whole content of the month; without a row it is removed.

        The month is loaded into a table of its own and takes the old one's place in the same
        transaction: readers see the old rows or the new ones, and a run that is killed leaves
        nothing. A second run of the month waits until the first is done.

        Args:
            table: The table, created if it is missing.
            month: The first day of the month.
            batches: The rows, with just the columns of the table without the month; taken one at a
                time.
            rows: How many rows there must be.
            run_id: Marks the connection, and the partition in its comment.

        Returns:
            How many rows the month has now.

        Raises:
            LakehouseError: the rows do not fit the table or are not as many as they should be; or
                see `connection`.
            UnavailableError: readers kept the table busy; or see `connection`.
        """
        if month.day != 1:
            raise ValueError(f"{month} is not the first day of a month")
        with self.connection(run_id) as connection:
            _ensure_table(connection, table)
            connection.commit()
            _lock(connection, f"{table} {month}")
            # Else a machine that went away would hold the lock for two hours.
            connection.execute("SET LOCAL tcp_keepalives_idle = 60")
            incoming = _load(connection, table, month, batches, rows)
            comment = f"Made by run {run_id}."
            connection.execute(_sql("COMMENT ON TABLE {} IS {}", incoming, comment))
            _when_free(connection, table, lambda: _swap(connection, table, month, incoming, rows))
        return rows

    def months(self, table: PostgresTable) -> dict[date, int]:
        """How many rows each month has, counted; nothing where the table is absent.

        Raises:
            LakehouseError, UnavailableError: see `connection`.
        """
        with self.connection() as connection:
            if not _exists(connection, table):
                return {}
            month, target = _name(table.partition_by), _name(table.schema, table.name)
            counted = _sql("SELECT {0}, count(*) FROM {1} GROUP BY 1 ORDER BY 1", month, target)
            return dict(connection.execute(counted).fetchall())

    def month_bytes(self, table: PostgresTable, month: date) -> int:
        """What a month takes on disk, with its indexes; 0 where it is absent.

        Raises:
            LakehouseError, UnavailableError: see `connection`.
        """
        with self.connection() as connection:
            target, column = _name(table.schema, table.name), _name(table.partition_by)
            partition = _sql("SELECT tableoid FROM {} WHERE {} = {} LIMIT 1", target, column, month)
            size = _sql("SELECT pg_total_relation_size(({}))", partition)
            [found] = connection.execute(size).fetchone() or (None,)
        return found or 0

    def query(self, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> Rows:
        """Reads; `%s` and `%(name)s` in the SQL stand for the parameters.

        Raises:
            UsageError: PostgreSQL refuses the query, or it would write; the message is
                PostgreSQL's own.
            LakehouseError, UnavailableError: see `connection`.
        """
        import psycopg

        with self.connection("query") as connection:
            connection.read_only = True
            try:
                cursor = connection.execute(sql.encode(), params)
                names = tuple(column.name for column in cursor.description or ())
                return Rows(names, cursor.fetchall() if names else [])
            except (psycopg.ProgrammingError, psycopg.DataError, psycopg.InternalError) as error:
                raise UsageError(_message(error)) from error


def _ensure_table(connection: "Connection", table: PostgresTable) -> None:
    if not _lacks(connection, table):
        return
    # Two at once would both find it missing.
    _lock(connection, str(table))
    if not _exists(connection, table):
        _create(connection, table)
    if _lacks(connection, table):
        _when_free(connection, table, lambda: _extend(connection, table))


def _lacks(connection: "Connection", table: PostgresTable) -> bool:
    """Whether the table, a column or an index is missing."""
    if not _exists(connection, table):
        return True
    return bool(_missing_columns(connection, table) or _missing_indexes(connection, table))


def _create(connection: "Connection", table: PostgresTable) -> None:
    _lock(connection, table.schema)
    # `IF NOT EXISTS` asks for the right to create schemas even where there is nothing to do.
    found = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (table.schema,))
    if found.fetchone() is None:
        connection.execute(_sql("CREATE SCHEMA {}", _name(table.schema)))
    target, month = _name(table.schema, table.name), _name(table.partition_by)
    connection.execute(
        _sql(
            "CREATE TABLE {} ({} date NOT NULL) PARTITION BY LIST ({})",
            *(target, month, month),
        )
    )
    connection.execute(_sql("COMMENT ON TABLE {} IS {}", target, table.comment))


def _extend(connection: "Connection", table: PostgresTable) -> None:
    target = _name(table.schema, table.name)
    for column in _missing_columns(connection, table):
        connection.execute(
            _sql(f"ALTER TABLE {{}} ADD COLUMN {{}} {table.columns[column]}", target, _name(column))
        )
    for index in _missing_indexes(connection, table):
        _create_index(connection, target, index)


def _create_index(connection: "Connection", target: "Identifier", index: tuple[str, ...]) -> None:
    from psycopg.sql import SQL

    columns = SQL(", ").join(map(_name, index))
    connection.execute(_sql("CREATE INDEX ON {} ({})", target, columns))


def _columns(connection: "Connection", table: PostgresTable) -> dict[str, str]:
    """The table's columns as they are in PostgreSQL, and their types."""
    found = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass "
        "AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (table.schema, table.name),
    )
    return dict(found.fetchall())


def _missing_columns(connection: "Connection", table: PostgresTable) -> list[str]:
    existing = _columns(connection, table)
    for column, kind in table.columns.items():
        if existing.get(column, kind) != kind:
            raise LakehouseError(
                f"Column {column} of {table} in PostgreSQL is {existing[column]} and should be "
                f"{kind}: drop the table and materialize it again."
            )
    return [column for column in table.columns if column not in existing]


def _missing_indexes(connection: "Connection", table: PostgresTable) -> list[tuple[str, ...]]:
    found = connection.execute(
        "SELECT array(SELECT attname::text FROM unnest(indkey) WITH ORDINALITY AS k(attnum, place) "
        "JOIN pg_attribute a ON a.attrelid = indrelid AND a.attnum = k.attnum ORDER BY place) "
        "FROM pg_index WHERE indrelid = format('%%I.%%I', %s::text, %s::text)::regclass",
        (table.schema, table.name),
    ).fetchall()
    existing = {tuple(columns) for (columns,) in found}
    return [index for index in table.indexes if index not in existing]


def _load(
    connection: "Connection",
    table: PostgresTable,
    month: date,
    batches: Iterable[pl.DataFrame],
    rows: int,
) -> "Identifier":
    """Fills a new table with the month; returns its name."""
    from psycopg import DataError, IntegrityError
    from psycopg.sql import SQL

    incoming = _name(table.schema, f"{_partition(table, month)}_{uuid4().hex[:8]}")
    columns = [_sql(f"{{}} {table.columns[name]}", _name(name)) for name in table.loaded]
    # Not CREATE TABLE LIKE, which would keep the table itself locked until the load ends. By the
    # constraint, PostgreSQL knows without reading the rows that they belong to the month.
    connection.execute(
        _sql(
            "CREATE TABLE {0} ({1} date NOT NULL DEFAULT {2}, {3}, "
            "CONSTRAINT of_one_month CHECK ({1} = {2}))",
            *(incoming, _name(table.partition_by), month, SQL(", ").join(columns)),
        )
    )
    # Frozen rows are seen by transactions that began before the swap, too; they would find
    # neither the old rows nor the new ones. They also need no vacuum.
    copy_into = _sql(
        "COPY {} ({}) FROM STDIN (FORMAT binary, FREEZE)",
        *(incoming, SQL(", ").join(map(_name, table.loaded))),
    )
    with connection.cursor() as cursor:
        try:
            with cursor.copy(copy_into) as copy:
                # Binary rows took three quarters of the time of CSV that Polars writes.
                copy.set_types([table.columns[name] for name in table.loaded])
                for batch in batches:
                    for row in _fitting(table, batch).iter_rows():
                        copy.write_row(row)
        except (DataError, IntegrityError) as error:
            raise LakehouseError(
                f"PostgreSQL refuses the rows for {table}: {_message(error)}"
            ) from error
        loaded = cursor.rowcount
    if loaded != rows:
        raise LakehouseError(
            f"PostgreSQL holds {loaded} rows for {month:%Y-%m} of {table} and should hold {rows}: "
            "nothing was published."
        )
    for index in table.indexes:
        _create_index(connection, incoming, index)
    return incoming


def _fitting(table: PostgresTable, batch: pl.DataFrame) -> pl.DataFrame:
    """The batch in the table's order, with its integers.

    Checked here, since in COPY's binary format an integer that is too large is cut off, in silence.
    """
    if set(batch.columns) != set(table.loaded):
        differing = ", ".join(sorted(set(batch.columns) ^ set(table.loaded)))
        raise LakehouseError(
            f"The rows for {table} have other columns than the table: {differing}."
        )
    for column in table.loaded:
        kind, dtype = table.columns[column], batch.schema[column]
        if not (dtype.is_integer() if kind in _INTEGERS else dtype in _DTYPES[kind]):
            raise LakehouseError(
                f"Column {column} of the rows for {table} is {dtype} and should be {kind}."
            )
    integers = {
        column: pl.col(column).cast(_INTEGERS[table.columns[column]])
        for column in table.loaded
        if table.columns[column] in _INTEGERS
    }
    try:
        return batch.select(table.loaded).with_columns(**integers)
    except pl.exceptions.InvalidOperationError as error:
        reason = str(error).splitlines()[0]
        raise LakehouseError(f"The rows for {table} do not fit the table: {reason}.") from error


def _swap(
    connection: "Connection", table: PostgresTable, month: date, incoming: "Identifier", rows: int
) -> None:
    """Puts the new partition in the place of the old one, while the table is locked."""
    target, name = _name(table.schema, table.name), _partition(table, month)
    partition = _name(table.schema, name)
    if _is_partition(connection, table, name):
        connection.execute(_sql("DROP TABLE {}", partition))
    if not rows:
        connection.execute(_sql("DROP TABLE {}", incoming))
        return
    for column, kind in _columns(connection, table).items():
        if column not in table.columns:  # one that another version of this program knows
            added = f"ALTER TABLE {{}} ADD COLUMN {{}} {kind}"
            connection.execute(_sql(added, incoming, _name(column)))
    attach = "ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})"
    connection.execute(_sql(attach, target, incoming, month))
    connection.execute(_sql("ALTER TABLE {} DROP CONSTRAINT of_one_month", incoming))
    connection.execute(_sql("ALTER TABLE {} RENAME TO {}", incoming, _name(name)))


def _when_free(connection: "Connection", table: PostgresTable, change: Callable[[], None]) -> None:
    """Makes the change while nobody reads the table.

    Those who come while it waits for readers wait too, so it gives way again and again.
    """
    from psycopg.errors import LockNotAvailable

    target = _name(table.schema, table.name)
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while True:
        try:
            with connection.transaction():
                connection.execute(_sql("SET LOCAL lock_timeout = {}", _LOCK_TIMEOUT))
                connection.execute(_sql("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", target))
                return change()
        except LockNotAvailable as error:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"Readers kept {table} in PostgreSQL busy for "
                    f"{_LOCK_PATIENCE_SECONDS:.0f} seconds and nothing was changed: "
                    "try again, or end their transactions."
                ) from error
        time.sleep(random.uniform(0, _LOCK_PAUSE_SECONDS))  # noqa: S311


def _lock(connection: "Connection", what: str) -> None:
    """Waits until no other process holds this; held to the end of the transaction."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (what,))


def _exists(connection: "Connection", table: PostgresTable) -> bool:
    # Not to_regclass: it remembers what was absent before the lock was waited for.
    found = connection.execute(
        "SELECT FROM pg_tables WHERE schemaname = %s AND tablename = %s", (table.schema, table.name)
    )
    return found.fetchone() is not None


def _is_partition(connection: "Connection", table: PostgresTable, name: str) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM pg_inherits "
        "WHERE inhparent = format('%%I.%%I', %(schema)s::text, %(table)s::text)::regclass "
        "AND inhrelid = to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text))",
        {"schema": table.schema, "table": table.name, "name": name},
    ).fetchone()
    return found == (1,)


def _partition(table: PostgresTable, month: date) -> str:
    return f"{table.name}_{month:%Y_%m}"


def _name(*parts: str) -> "Identifier":
    from psycopg.sql import Identifier

    return Identifier(*parts)


def _sql(template: str, *parts: Any) -> "Composed":
    """The template with names as they are and values as literals, all quoted."""
    from psycopg.sql import SQL

    return SQL(template).format(*parts)


def _place(url: str) -> str:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        address = conninfo_to_dict(url)
    except ProgrammingError:
        # The driver's own message quotes the address, and with it the password.
        address = {"port": "none"}
    host, port = str(address.get("host", "localhost")), str(address.get("port", 5432))
    # Of a password with a bare @ or /, the driver takes a part for the host or the port.
    if "@" in host or not re.fullmatch(r"[\d,]+", port):
        raise UsageError(
            f"LAKEHOUSE_POSTGRES_URL must be an address such as {_ADDRESS_FORM};"
            " write %40 for @ and %2F for / in the password."
        )
    return f"{host}:{port}"


def _not_connected(place: str, text: str) -> LakehouseError:
    refusal = re.search(r"(?:FATAL:|fe_sendauth:)\s+(.*)", text)
    if refusal is None:
        return UnavailableError(f"PostgreSQL at {place} does not answer: {_CHECK_ADDRESS}.")
    if any(reason in refusal[1] for reason in _MOMENTARY_REFUSALS):
        return UnavailableError(
            f"PostgreSQL at {place} takes no connections now: {refusal[1]}: try again in a moment."
        )
    return LakehouseError(
        f"PostgreSQL at {place} refuses the connection: {refusal[1]}: check LAKEHOUSE_POSTGRES_URL."
    )


def _explained(place: str, error: "Error", lost: bool) -> LakehouseError | None:
    """What a person can do about the error; None where it is a mistake in the program."""
    from psycopg import errors

    state = error.sqlstate or ""
    if lost or state.startswith(("08", "57P")):
        return UnavailableError(
            f"PostgreSQL at {place} broke off the connection: {_CHECK_ADDRESS}, and try again."
        )
    if isinstance(error, errors.DiskFull):
        return LakehouseError(
            f"The disk of PostgreSQL at {place} is full and nothing was changed: "
            "make room and run again."
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return LakehouseError(
            f"PostgreSQL at {place} refuses the account: {_message(error)}: "
            "grant it that right or name another one in LAKEHOUSE_POSTGRES_URL."
        )
    # Out of memory or of connections, a deadlock, a time limit.
    if state.startswith(("40", "53", "55P", "57")):
        return UnavailableError(
            f"PostgreSQL at {place} gave up and nothing was changed: {_message(error)}: try again."
        )
    return None


def _message(error: "Error") -> str:
    return error.diag.message_primary or str(error).splitlines()[0]
