"""BigQuery, the warehouse of trips: months are replaced whole, in one transaction."""

import hashlib
import itertools
import json
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

from lakehouse.errors import LakehouseError, UnavailableError, UsageError
from lakehouse.services.bigquery import PROJECT, BigQueryService
from lakehouse.services.gcs import GcsService
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud.bigquery import (
        Client,
        DatasetReference,
        QueryJob,
        SchemaField,
        TableReference,
    )
    from google.cloud.bigquery.job import LoadJob

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STAGING_LIFE = timedelta(days=1)
_SWAP_TRIES = 20
_PATIENCE_SECONDS = 60.0
# The local service is up or it is not; nothing between here and there recovers by itself.
_LOCAL_PATIENCE_SECONDS = 3.0
_UPLOAD_RETRIES = 3

_API_TYPES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}
"""What BigQuery's tables call the types that its SQL calls otherwise."""

_SQL_TYPES: dict[type, str] = {
    bool: "BOOL",
    int: "INT64",
    float: "FLOAT64",
    str: "STRING",
    datetime: "DATETIME",
    date: "DATE",
}


_ROLES = (
    "give the account the roles BigQuery Job User on the project {project} and BigQuery Data "
    "Editor on the dataset {dataset}, or set LAKEHOUSE_BIGQUERY_PROJECT to a project of yours"
)
_REMEDIES = (
    (
        r"different locations|not found in location",
        "the bucket and the dataset {dataset} must be in one place, so set "
        "LAKEHOUSE_BIGQUERY_LOCATION to the bucket's, and LAKEHOUSE_BIGQUERY_DATASET to a dataset "
        "that is there or not made yet",
    ),
    (r"has not been used in project|disabled", "enable the BigQuery API in the project {project}"),
    (r"[Bb]illing", "enable billing for the project {project}, which transactions need"),
    (r"[Qq]uota exceeded", "wait until the quota is renewed, or have it raised"),
    (
        r"Access Denied: (File|Bucket)|storage\.objects",
        "give the account the role Storage Object Viewer on the bucket",
    ),
    (
        r"(?i)not found: project|invalid project|project .*(invalid|unknown|deleted)",
        "set LAKEHOUSE_BIGQUERY_PROJECT to the id of a project that is there",
    ),
    (r"[Nn]ot found: URI", "materialize the object again"),
)
"""What to do, by what BigQuery says; the first that fits."""


@dataclass(frozen=True)
class BigQueryTable:
    """A table of the warehouse, partitioned by month.

    Attributes:
        name: The table's name in the dataset.
        columns: The type of each column as BigQuery's SQL calls it, such as `INT64`.
        cluster_by: The columns by which the rows of a month are kept together; at most four.
        description: What a row is, for people.
        partition_by: The `DATE` column that holds the first day of the row's month.
    """

    name: str
    columns: dict[str, str]
    cluster_by: tuple[str, ...]
    description: str
    partition_by: str = "month"

    def __post_init__(self) -> None:
        for name in (self.name, *self.columns, *self.cluster_by):
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r} is not an identifier")
        if self.columns.get(self.partition_by) != "DATE":
            raise ValueError(f"{self.partition_by!r} is not a DATE column of {self.name}")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Loaded:
    """What it took to replace a month.

    Attributes:
        rows: How many rows the month has now.
        bytes: Bytes of Parquet that were read.
        job_id: The load job's id in the project.
        slot_ms: Slot milliseconds of the swap; loading takes none of the project's.
        staged_from: The address or the file that the rows came from.
    """

    rows: int
    bytes: int
    job_id: str
    slot_ms: int
    staged_from: str


@dataclass(frozen=True)
class _Replacement:
    """What `replace_month` was called with, and where."""

    table: BigQueryTable
    month: date
    source: Path | str
    rows: int
    run_id: str
    version: str
    location: str | None
    """Where the dataset is; a job has to be asked for there."""

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} of {self.table}"


class Rows(NamedTuple):
    """The answer to a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class BigQuery:
    """The dataset of the settings; the local service is started on first need.

    The client is the one of dagster-gcp's `BigQueryResource`. For the local service it is made
    here, since that resource cannot be given an address, or told to go without credentials.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._locks = settings.state / "locks"
        self._clients: dict[str | None, Client] = {}

    @property
    def project(self) -> str:
        """The project that holds the dataset and pays for the jobs."""
        return self._settings.bigquery_project or PROJECT

    def reads(self, uri: str) -> bool:
        """Whether BigQuery reads an object by itself; all others are sent to it.

        It reads the buckets of Google's; the local service reads that of the local GCS service.
        """
        is_local = self._settings.bigquery_project is None
        return uri.startswith("gs://") and not (is_local and self._settings.objects)

    def name(self, table: BigQueryTable) -> str:
        """The table's full name, as SQL and people write it."""
        return f"{self.project}.{self._settings.bigquery_dataset}.{table.name}"

    @contextmanager
    def client(self) -> Iterator["Client"]:
        """Google's client; its errors come out as ours.

        Raises:
            UnavailableError: BigQuery does not answer, or asks to be left alone for a while.
            LakehouseError: there are no credentials, they do not suffice, or the local service
                cannot be started.
        """
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            yield self._client()
        except (GoogleAPIError, GoogleAuthError, RequestException, ConnectionError) as error:
            raise explained(error, self._settings) from error

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Runs SQL in which `@name` stands for a parameter and tables need no dataset.

        Raises:
            UsageError: BigQuery refuses the query; the message is BigQuery's own.
            UnavailableError: BigQuery does not answer.
            LakehouseError: see `client`.
        """
        from google.api_core.exceptions import BadRequest, NotFound

        with self.client() as client:
            try:
                return self._query(client, sql, parameters or {})[0]
            except (BadRequest, NotFound) as error:
                raise UsageError(_words(error)) from error

    def months(self, table: BigQueryTable) -> dict[date, int]:
        """How many rows each month has, which costs nothing; empty where the table is absent.

        Raises:
            UnavailableError: BigQuery does not answer.
            LakehouseError: see `client`.
        """
        from google.api_core.exceptions import NotFound

        with self.client() as client:
            try:
                client.get_table(self._dataset.table(table.name), retry=self._retry)
            except NotFound:
                return {}
            found, _ = self._query(
                client,
                "SELECT partition_id, total_rows "  # noqa: S608
                f"FROM `{self.project}.{self._settings.bigquery_dataset}`"
                ".INFORMATION_SCHEMA.PARTITIONS "
                "WHERE table_name = @table AND total_rows > 0 ORDER BY partition_id",
                {"table": table.name},
            )
        return {
            datetime.strptime(month, "%Y%m").date(): rows
            for month, rows in found.rows
            if month.isdigit()
        }

    def replace_month(
        self,
        table: BigQueryTable,
        month: date,
        source: Path | str,
        rows: int,
        run_id: str,
        version: str,
    ) -> Loaded:
        """Makes the rows of a Parquet file the whole content of a month.

        Readers see the old rows or the new ones. When it fails, they see the old ones. The file is
        loaded by a job whose id follows from the table, the month and the version, so that a run
        that takes the place of a killed one finds its job and does not load a second time.

        Args:
            table: The table, created if it is absent; columns that it lacks are added.
            month: The first day of the month, which all rows must have in `table.partition_by`.
            source: A `gs://` address, or a file that is uploaded. It has all columns of the table;
                others are passed over.
            rows: How many rows it has.
            run_id: Marks the jobs.
            version: Changes whenever the content does, such as a SHA-256.

        Raises:
            LakehouseError: the file does not fit the table, does not have that many rows or has
                rows of another month, or BigQuery refuses the account or the location.
            UnavailableError: BigQuery does not answer, or others kept changing the table.
        """
        from google.api_core.exceptions import NotFound

        if self._settings.bigquery_project is None and isinstance(source, str):
            GcsService(self._settings).start()  # the local service reads gs:// from it
        with self._alone(f"{table.name}.{month:%Y-%m}"), self.client() as client:
            location = self._ensure_table(client, table)
            wanted = _Replacement(table, month, source, rows, run_id, version, location)
            job, staging = self._staged(client, wanted)
            try:
                self._verify(client, wanted, staging)
                slot_ms = self._swap(client, wanted, staging)
            except NotFound as error:
                raise UnavailableError(
                    f"The rows that were staged for {wanted} in BigQuery are gone, as when another "
                    "machine publishes the same: run again."
                ) from error
            except LakehouseError:
                client.delete_table(staging, retry=self._retry, not_found_ok=True)
                raise
            client.delete_table(staging, retry=self._retry, not_found_ok=True)
        return Loaded(rows, job.input_file_bytes or 0, job.job_id, slot_ms, str(source))

    def _client(self) -> "Client":
        if self._settings.bigquery_project is None:
            return self._local_client(BigQueryService(self._settings).start().address)
        if None not in self._clients:
            from dagster_gcp import BigQueryResource

            resource = BigQueryResource(
                project=self.project, location=self._settings.bigquery_location
            )
            with resource.get_client() as client:
                self._clients[None] = client
        return self._clients[None]

    def _local_client(self, address: str) -> "Client":
        if address not in self._clients:
            from google.auth.credentials import AnonymousCredentials
            from google.auth.transport.requests import AuthorizedSession
            from google.cloud.bigquery import Client

            credentials = AnonymousCredentials()
            session = AuthorizedSession(credentials)
            # No proxy of the environment may stand between a machine and itself.
            session.trust_env = False
            self._clients[address] = Client(
                project=PROJECT,
                credentials=credentials,
                client_options={"api_endpoint": address},
                _http=session,
            )
        return self._clients[address]

    @property
    def _retry(self) -> "Retry":
        from google.cloud.bigquery import DEFAULT_RETRY

        local = self._settings.bigquery_project is None
        return DEFAULT_RETRY.with_timeout(_LOCAL_PATIENCE_SECONDS if local else _PATIENCE_SECONDS)

    @property
    def _dataset(self) -> "DatasetReference":
        from google.cloud.bigquery import DatasetReference

        return DatasetReference(self.project, self._settings.bigquery_dataset)

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """Waits for one's turn on this machine; across machines, transactions see to it.

        Of two that change a table at once one is cancelled, by BigQuery and by the emulator, so
        waiting saves doing it again.
        """
        self._locks.mkdir(parents=True, exist_ok=True)
        place = f"{self.project}.{self._settings.bigquery_dataset}"
        with FileLock(self._locks / f"bigquery.{place}.{what}.lock"):
            yield

    def _query(
        self,
        client: "Client",
        sql: str,
        parameters: Mapping[str, Any],
        wanted: _Replacement | None = None,
    ) -> tuple[Rows, "QueryJob"]:
        from google.cloud.bigquery import QueryJobConfig, ScalarQueryParameter

        config = QueryJobConfig(
            default_dataset=self._dataset,
            query_parameters=[
                ScalarQueryParameter(name, _SQL_TYPES[type(value)], value)
                for name, value in parameters.items()
            ],
            labels=_labels(wanted.run_id) if wanted else {},
        )
        job = client.query(
            sql,
            job_config=config,
            location=wanted.location if wanted else None,
            retry=self._retry,
            job_retry=None,
        )
        result = job.result(retry=self._retry, job_retry=None)
        columns = tuple(field.name for field in result.schema)
        return Rows(columns, [row.values() for row in result]), job

    def _ensure_table(self, client: "Client", table: BigQueryTable) -> str | None:
        """Creates the dataset, the table and the columns that are missing; the dataset's location.

        Looked for before they are created, since an account may write and yet not create.
        """
        from google.api_core.exceptions import NotFound
        from google.cloud.bigquery import Dataset

        with self._alone("schema"):
            try:
                dataset = client.get_dataset(self._dataset, retry=self._retry)
            except NotFound:
                wanted = Dataset(self._dataset)
                wanted.location = self._settings.bigquery_location
                dataset = client.create_dataset(wanted, exists_ok=True, retry=self._retry)
            self._require_location(dataset.location)
            try:
                present = client.get_table(self._dataset.table(table.name), retry=self._retry)
            except NotFound:
                present = self._create_table(client, table)
            self._add_columns(client, table, present)
        return dataset.location

    def _require_location(self, found: str | None) -> None:
        wanted = self._settings.bigquery_location
        if wanted and found and wanted.upper() != found.upper():
            raise LakehouseError(
                f"BigQuery's dataset {self.project}.{self._settings.bigquery_dataset} is in "
                f"{found} and LAKEHOUSE_BIGQUERY_LOCATION says {wanted}: correct that, "
                "or name another dataset with LAKEHOUSE_BIGQUERY_DATASET."
            )

    def _create_table(self, client: "Client", table: BigQueryTable) -> Any:
        from google.cloud.bigquery import Table, TimePartitioning, TimePartitioningType

        wanted = Table(self._dataset.table(table.name), schema=_schema(table))
        wanted.description = table.description
        wanted.time_partitioning = TimePartitioning(
            type_=TimePartitioningType.MONTH, field=table.partition_by
        )
        wanted.clustering_fields = list(table.cluster_by) or None
        return client.create_table(wanted, exists_ok=True, retry=self._retry)

    def _add_columns(self, client: "Client", table: BigQueryTable, present: Any) -> None:
        types = {field.name: field.field_type for field in present.schema}
        for column, kind in table.columns.items():
            if types.get(column, _api_type(kind)) != _api_type(kind):
                raise LakehouseError(
                    f"Column {column} of {self.name(table)} in BigQuery is {types[column]} and "
                    f"should be {kind}: drop the table and materialize it again."
                )
        missing = [field for field in _schema(table) if field.name not in types]
        if missing:
            present.schema = [*present.schema, *missing]
            client.update_table(present, ["schema"], retry=self._retry)

    def _staged(self, client: "Client", wanted: _Replacement) -> tuple["LoadJob", "TableReference"]:
        """The finished load job and its staging table, from this run or from one before it.

        BigQuery remembers a job's id for months, also that of one that failed or whose rows were
        published long since; then the next number is taken.
        """
        from google.api_core.exceptions import GoogleAPICallError, NotFound

        for number in itertools.count(1):
            staging = self._dataset.table(f"{self._staging_stem(wanted)}_{number}")
            remembered = self._job(client, staging.table_id, wanted.location)
            job = remembered or self._load(client, wanted, staging)
            try:
                job.result(retry=self._retry)
                client.get_table(staging, retry=self._retry)
            except GoogleAPICallError as error:
                if job.error_result:
                    client.delete_table(staging, retry=self._retry, not_found_ok=True)
                elif not isinstance(error, NotFound):
                    raise
                if not remembered:
                    raise
            else:
                break
        return job, staging

    def _staging_stem(self, wanted: _Replacement) -> str:
        """What the load jobs and staging tables of this content are called, but for a number."""
        content = [self._settings.bigquery_dataset, wanted.table.columns, wanted.version]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        return f"lakehouse_staging_{wanted.table.name}_{wanted.month:%Y%m}_{digest}"

    def _job(self, client: "Client", job_id: str, location: str | None) -> Any:
        from google.api_core.exceptions import NotFound

        try:
            return client.get_job(job_id, location=location, retry=self._retry)
        except NotFound:
            return None

    def _load(self, client: "Client", wanted: _Replacement, staging: "TableReference") -> Any:
        """Starts the load job, or finds the one that another machine has started meanwhile."""
        from google.api_core.exceptions import Conflict
        from google.cloud.bigquery import LoadJobConfig, SourceFormat, Table, WriteDisposition

        empty = Table(staging, schema=_schema(wanted.table))
        empty.expires = datetime.now(UTC) + _STAGING_LIFE
        client.create_table(empty, exists_ok=True, retry=self._retry)
        config = LoadJobConfig(
            source_format=SourceFormat.PARQUET,
            # Named, so that a time without a zone becomes a DATETIME, and an integer stays one.
            schema=_schema(wanted.table),
            ignore_unknown_values=True,
            write_disposition=WriteDisposition.WRITE_EMPTY,
            labels=_labels(wanted.run_id),
        )
        how: dict[str, Any] = {
            "job_id": staging.table_id,
            "location": wanted.location,
            "job_config": config,
        }
        try:
            if isinstance(wanted.source, str):
                return client.load_table_from_uri(wanted.source, staging, retry=self._retry, **how)
            with wanted.source.open("rb") as file:
                return client.load_table_from_file(
                    file, staging, num_retries=_UPLOAD_RETRIES, **how
                )
        except Conflict:
            return client.get_job(staging.table_id, location=wanted.location, retry=self._retry)

    def _verify(self, client: "Client", wanted: _Replacement, staging: "TableReference") -> None:
        month = wanted.table.partition_by
        found, _ = self._query(
            client,
            f"SELECT COUNT(*), COUNTIF({month} = @month) FROM {_quoted(staging)}",  # noqa: S608
            {"month": wanted.month},
            wanted,
        )
        count, of_month = found.rows[0]
        if count != wanted.rows:
            raise LakehouseError(
                f"BigQuery loaded {count} rows for {wanted}, and there should be {wanted.rows}: "
                "nothing was published."
            )
        if of_month != count:
            raise LakehouseError(
                f"Of the {count} rows for {wanted}, {count - of_month} belong to another month: "
                "nothing was published."
            )

    def _swap(self, client: "Client", wanted: _Replacement, staging: "TableReference") -> int:
        """Puts the staged rows in the month's place; the slot milliseconds that it took.

        Of two transactions that change a table at once BigQuery cancels one, which is tried again.
        The count afterwards finds the case in which two first writers of a month both inserted.
        """
        from google.api_core.exceptions import BadRequest

        script = _swap_script(wanted.table, self._dataset.table(wanted.table.name), staging)
        for attempt in range(_SWAP_TRIES):
            try:
                with self._alone(wanted.table.name):
                    found, job = self._query(client, script, {"month": wanted.month}, wanted)
                if found.rows == [(wanted.rows,)]:
                    job.reload(retry=self._retry)
                    return job.slot_millis or 0
            except BadRequest as error:
                if "concurrent update" not in _words(error):
                    raise
            time.sleep(random.uniform(0, min(10.0, 0.5 * 2**attempt)))  # noqa: S311
        raise UnavailableError(
            f"{wanted} could not be published in BigQuery in {_SWAP_TRIES} tries: "
            "other writers kept changing the table; run again."
        )


def _swap_script(table: BigQueryTable, target: "TableReference", staging: "TableReference") -> str:
    columns = ", ".join(f"`{column}`" for column in table.columns)
    of_month = f"FROM {_quoted(target)} WHERE `{table.partition_by}` = @month"
    return f"""
        BEGIN TRANSACTION;
        DELETE {of_month};
        INSERT INTO {_quoted(target)} ({columns}) SELECT {columns} FROM {_quoted(staging)};
        COMMIT TRANSACTION;
        SELECT COUNT(*) {of_month};
    """  # noqa: S608


def explained(error: Exception, settings: Settings) -> LakehouseError:
    """What went wrong and what to do, for an error of Google's libraries."""
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    project = settings.bigquery_project or PROJECT
    place = {"project": project, "dataset": f"{project}.{settings.bigquery_dataset}"}
    words = _words(error)
    if isinstance(error, auth.DefaultCredentialsError):
        return LakehouseError(
            "There are no Google Cloud credentials that can be read: "
            "run `gcloud auth application-default login`, "
            "or set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account."
        )
    if isinstance(error, auth.RefreshError | api.Unauthorized) and not _passes(error):
        return LakehouseError(
            f"Google Cloud refuses the credentials ({words}): run "
            "`gcloud auth application-default login` or check GOOGLE_APPLICATION_CREDENTIALS."
        )
    if isinstance(error, api.ClientError) and not _passes(error):
        remedies = [remedy for pattern, remedy in _REMEDIES if re.search(pattern, words)]
        if isinstance(error, api.Forbidden):
            remedies.append(_ROLES)
        remedy = f": {remedies[0].format(**place)}." if remedies else "."
        return LakehouseError(f"BigQuery refuses ({words}){remedy}")
    detail = f" ({words})" if isinstance(error, api.GoogleAPICallError) else ""
    if settings.bigquery_project is None:
        return UnavailableError(
            f"The local BigQuery service does not answer{detail}: try again, "
            "and look into its log, which `lakehouse ps` names."
        )
    return UnavailableError(
        f"BigQuery does not answer for the project {project}{detail}: "
        "check the network, and try again."
    )


def _passes(error: Exception) -> bool:
    """Whether the error, though it refuses, is one to try again after."""
    from google.api_core.exceptions import PreconditionFailed, TooManyRequests

    return (
        isinstance(error, TooManyRequests | PreconditionFailed)
        or _first(error).get("reason") == "rateLimitExceeded"
        or getattr(error, "retryable", False)
    )


def _words(error: Exception) -> str:
    """What BigQuery says, in one line and without the address that was called."""
    words = _first(error).get("message") or getattr(error, "message", None) or str(error)
    return " ".join(words.split()).rstrip(".")


def _first(error: Exception) -> dict[str, Any]:
    """The first of the errors in BigQuery's answer."""
    errors = getattr(error, "errors", None)
    return errors[0] if errors and isinstance(errors[0], dict) else {}


def _schema(table: BigQueryTable) -> list["SchemaField"]:
    from google.cloud.bigquery import SchemaField

    return [SchemaField(column, _api_type(kind)) for column, kind in table.columns.items()]


def _api_type(kind: str) -> str:
    return _API_TYPES.get(kind, kind)


def _labels(run_id: str) -> dict[str, str]:
    """The run as a job's label, of which BigQuery takes small letters, digits, `-` and `_`."""
    return {"lakehouse_run": re.sub(r"[^a-z0-9_-]", "_", run_id.lower())[:63]} if run_id else {}


def _quoted(table: "TableReference") -> str:
    return f"`{table.project}.{table.dataset_id}.{table.table_id}`"
