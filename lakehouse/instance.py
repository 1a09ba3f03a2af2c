"""Where Dagster's history lives: below the home, or in PostgreSQL.

`dagster.yaml` names these classes, since it can take a value from the environment but cannot give
one a default.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from alembic.runtime.migration import MigrationContext

# Dagster has no public name for the classes that dagster.yaml lets one replace.
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log import (
    ConsolidatedSqliteEventLogStorage,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    _runs_directory,
    _schedule_directory,
)
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from filelock import FileLock

from lakehouse.errors import UnavailableError
from lakehouse.settings import Settings

_CONFIG_FOLDER = Path(__file__).resolve().parent.parent

_EVENTS_AT_ONCE = 1000
"""Far fewer than SQLite takes in a statement."""

_PRINTS_ARE_SHOWN = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The instance that `dagster dev` uses here; that of DAGSTER_HOME where it is set.

    What the command's steps print goes to its terminal alone: to keep it as well takes two more
    processes a run.
    """
    if os.environ.get("DAGSTER_HOME"):
        return dg.DagsterInstance.get()
    base = settings.state / "dagster"
    base.mkdir(parents=True, exist_ok=True)
    return dg.DagsterInstance.from_ref(
        InstanceRef.from_dir(str(base), config_dir=str(_CONFIG_FOLDER), overrides=_PRINTS_ARE_SHOWN)
    )


class RunHistory(DagsterStorage, ConfigurableClass):
    """Runs, events and schedules: PostgreSQL where the settings name one, else SQLite."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """Nothing to configure in dagster.yaml; the environment does."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]  # one class stands for two
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> DagsterStorage:
        """The storage that the settings ask for.

        Raises:
            UnavailableError: PostgreSQL does not answer, or refuses the account.
        """
        # By default Dagster stores what a run of several partitions says event by event.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(_EVENTS_AT_ONCE))
        settings = Settings()
        address = settings.dagster_postgres_url.get_secret_value()
        if address:
            return _postgres_history(address, inst_data)
        storage = settings.state / "dagster" / "storage"
        storage.mkdir(parents=True, exist_ok=True)
        # Two processes that come first would both make the tables, and one of them would fail.
        with FileLock(storage / ".lock"):
            return _SqliteHistory.from_local(str(storage), inst_data=inst_data)


def _postgres_history(address: str, inst_data: ConfigurableClassData | None) -> DagsterStorage:
    from dagster_postgres import DagsterPostgresStorage

    # The driver that dagster-postgres brings; SQLAlchemy would look for a newer one.
    url = sqlalchemy.make_url(address).set(drivername="postgresql+psycopg2")
    try:
        # Asked first: Dagster would log every one of its tries, and end with a traceback.
        sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect().close()
    except sqlalchemy.exc.OperationalError as error:
        raise UnavailableError(
            f"PostgreSQL at {url.host}:{url.port or 5432}, which keeps Dagster's history, does not"
            " answer or refuses the account: check LAKEHOUSE_DAGSTER_POSTGRES_URL."
        ) from error
    return DagsterPostgresStorage(
        url.render_as_string(hide_password=False),
        should_autocreate_tables=True,
        inst_data=inst_data,
    )


def _engine(address: str) -> sqlalchemy.Engine:
    """An engine that keeps its connections: opening one costs more than most statements."""
    engine = sqlalchemy.create_engine(
        address, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
    )

    @sqlalchemy.event.listens_for(engine, "connect")
    def write_ahead(connection: Any, _: object) -> None:
        # With a write-ahead log no process that dies can harm the database; only when the machine
        # itself loses power may the last moments be missing.
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine


class _EventLog(ConsolidatedSqliteEventLogStorage):
    """All events in one database, through one engine.

    Dagster's own choice makes a database for every run and an engine for every statement, which is
    more than half of what a step costs.
    """

    _begun: ContextVar[sqlalchemy.Connection | None] = ContextVar("begun", default=None)
    """The transaction that is under way here, if one is."""

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        return _engine(self._conn_string)

    @cached_property
    def _tables(self) -> set[str]:
        return set(sqlalchemy.inspect(self._engine).get_table_names())

    def has_table(self, table_name: str) -> bool:
        """Whether there is such a table: asked for most events, and the same while this runs."""
        return table_name in self._tables

    @contextmanager
    def _connect(self) -> Iterator[sqlalchemy.Connection]:
        if (begun := self._begun.get()) is not None:
            yield begun
            return
        with self._engine.begin() as connection:
            yield connection

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """All of these events or none, in one transaction.

        Of an asset the log keeps what it was last heard of, which is that of the last event.
        """
        with self._connect() as connection:
            begun = self._begun.set(connection)
            try:
                insert = self.prepare_insert_event_batch(events)
                inserted = connection.execute(insert.returning(SqlEventLogStorageTable.c.id))
                ids: list[int] = sorted(inserted.scalars())
                stored = list(zip(events, ids, strict=True))
                of_assets = [each for each in stored if each[0].dagster_event_type in ASSET_EVENTS]
                if of_assets:
                    self._store_asset_event_tags(connection, *zip(*of_assets, strict=True))
                for event, event_id in {_subject(each[0]): each for each in of_assets}.values():
                    self._store_asset_event(connection, event, event_id)
                for event, event_id in stored:
                    if event.dagster_event_type in ASSET_CHECK_EVENTS:
                        self.store_asset_check_event(event, event_id)
            finally:
                self._begun.reset(begun)

    def _store_asset_check_evaluation_planned(
        self, event: dg.EventLogEntry, event_id: int | None
    ) -> None:
        # As Dagster does, which words the event again for every partition of the run.
        planned: Any = event.get_dagster_event().event_specific_data
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": dg.serialize_value(event),
            "evaluation_event_timestamp": self._event_insert_timestamp(event),
            "evaluation_event_storage_id": event_id,
        }
        subset = planned.partitions_subset
        partitions = subset.get_partition_keys() if subset else [None]
        with self._connect() as connection:
            connection.execute(
                AssetCheckExecutionsTable.insert(),
                [row | {"partition": partition} for partition in partitions],
            )

    def _update_asset_check_evaluation(self, event: dg.EventLogEntry, event_id: int | None) -> None:
        # A check of a whole table is planned for each partition of the run, and evaluated once;
        # what was planned would stand there for ever, and be gone through at every question.
        evaluation: Any = event.get_dagster_event().event_specific_data
        if evaluation.partition is None:
            rows = AssetCheckExecutionsTable.c
            planned = AssetCheckExecutionsTable.delete().where(
                rows.asset_key == evaluation.asset_key.to_string(),
                rows.check_name == evaluation.check_name,
                rows.run_id == event.run_id,
                rows.partition.is_not(None),
            )
            with self._connect() as connection:
                connection.execute(planned)
        super()._update_asset_check_evaluation(event, event_id)

    def dispose(self) -> None:
        """Close what is open, by which SQLite puts its write-ahead log away."""
        super().dispose()
        self._engine.dispose()


def _subject(event: dg.EventLogEntry) -> tuple[dg.AssetKey | None, dg.DagsterEventType]:
    told = event.get_dagster_event()
    return told.asset_key, told.event_type


class _MadeOnce:
    """Reads Dagster's migrations, a tenth of a second of them, only where the tables are new."""

    _name: str
    """What its file is called, without the ending."""

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Any:
        """The storage in this folder, made where it is not there."""
        address = create_db_conn_string(base_dir, cls._name)
        if _has_revision(address):
            return cls(address, inst_data)  # type: ignore[call-arg]  # as its storage is made
        return super().from_local(base_dir, inst_data)  # type: ignore[misc]  # the storage's own


def _has_revision(address: str) -> bool:
    """Whether Dagster has made all its tables in a database, which it says in there at last."""
    if not Path(str(sqlalchemy.make_url(address).database)).exists():
        return False
    engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() is not None


class _Schedules(_MadeOnce, SqliteScheduleStorage):
    _name = "schedules"


class _Runs(_MadeOnce, SqliteRunStorage):
    """Runs through one engine."""

    _name = "runs"

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        return _engine(self._conn_string)

    @contextmanager
    def connect(self) -> Iterator[sqlalchemy.Connection]:
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """The same."""
        super().dispose()
        self._engine.dispose()


class _SqliteHistory(DagsterSqliteStorage):
    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None):
        # Not Dagster's own, which would make a database for events besides.
        super(DagsterSqliteStorage, self).__init__()
        self.base_dir = base_dir
        self._inst_data = inst_data
        self._run_storage = _Runs.from_local(_runs_directory(base_dir))
        self._event_log_storage = _EventLog(base_dir)  # type: ignore[assignment]
        self._schedule_storage = _Schedules.from_local(_schedule_directory(base_dir))


class ComputeLogs(LocalComputeLogManager):
    """What steps print, below the home."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """Nothing to configure in dagster.yaml; the environment does."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "ComputeLogs":
        """The folder below the home."""
        return cls(base_dir=str(Settings().state / "dagster" / "logs"), inst_data=inst_data)
