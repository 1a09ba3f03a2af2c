"""What is published in BigQuery: whole months or none, whatever happens on the way.

Most of it runs on the local service, and also in a real project where there are credentials for the
one that LAKEHOUSE_TEST_BIGQUERY_PROJECT names.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date, datetime
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import polars as pl
import psutil
import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.bigquery import Dataset

from lakehouse.errors import LakehouseError, UnavailableError, UsageError
from lakehouse.resources.bigquery import BigQuery, BigQueryTable, explained
from lakehouse.services.bigquery import BigQueryService, available
from lakehouse.services.gcs import LOCAL_BUCKET, GcsService
from lakehouse.settings import Settings

CLOUD_PROJECT = os.environ.get("LAKEHOUSE_TEST_BIGQUERY_PROJECT")

TRIPS = BigQueryTable(
    name="trips",
    columns={
        "month": "DATE",
        "pickup_datetime": "DATETIME",
        "passengers": "INT64",
        "fare": "FLOAT64",
        "vendor_id": "STRING",
        "negative_total": "BOOL",
    },
    cluster_by=("vendor_id",),
    description="One row for each trip; it's a test.",
)
JANUARY, FEBRUARY = date(2024, 1, 1), date(2024, 2, 1)


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Settings]:
    """A home with a BigQuery and a GCS of its own, each started on first need."""
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), bigquery_port=free_port(), gcs_port=free_port()
    )
    if reason := available(settings):
        pytest.skip(reason)
    yield settings
    BigQueryService(settings).stop()
    GcsService(settings).stop()


@pytest.fixture
def local(home: Settings) -> Settings:
    """An empty dataset of the local service."""
    return home.model_copy(update={"bigquery_dataset": f"taxi_{uuid4().hex}"})


@pytest.fixture(params=["local", "cloud"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """An empty dataset, on the local service and in a real project."""
    if request.param == "local":
        yield request.getfixturevalue("local")
        return
    if CLOUD_PROJECT is None:
        pytest.skip("LAKEHOUSE_TEST_BIGQUERY_PROJECT is not set")
    settings = Settings(
        home=tmp_path / "home",
        bigquery_project=CLOUD_PROJECT,
        bigquery_dataset=f"lakehouse_test_{uuid4().hex}",
    )
    yield settings
    with BigQuery(settings).client() as client:
        client.delete_dataset(settings.bigquery_dataset, delete_contents=True, not_found_ok=True)


@pytest.fixture
def bigquery(settings: Settings) -> BigQuery:
    return BigQuery(settings)


def trips(month: date, rows: int, fare: float = 10.0) -> pl.DataFrame:
    """Trips as their file has them, which has a column more than the table."""
    seconds = pl.int_range(rows, eager=True)
    first = datetime(month.year, month.month, 1, 23, 59)
    return pl.DataFrame({"second": seconds}).select(
        month=pl.lit(month),
        pickup_datetime=pl.lit(first) + pl.duration(seconds="second"),
        passengers=pl.when(pl.col("second") % 3 == 0).then(None).otherwise(2),
        fare=pl.lit(fare),
        vendor_id=pl.lit("ü'"),
        negative_total=pl.lit(False),
        surprise=pl.lit("new this month"),
    )


def replace(
    bigquery: BigQuery,
    frame: pl.DataFrame,
    folder: Path,
    month: date = JANUARY,
    table: BigQueryTable = TRIPS,
    version: str = "",
    rows: int | None = None,
) -> str:
    """Publishes the frame by way of a file; the id of the load job."""
    file = folder / f"{uuid4().hex}.parquet"
    frame.write_parquet(file)
    version = version or str(frame.hash_rows().sum())
    count = frame.height if rows is None else rows
    loaded = bigquery.replace_month(table, month, file, count, "run-1", version)
    assert (loaded.rows, loaded.bytes) == (count, file.stat().st_size)
    assert loaded.staged_from == str(file)
    return loaded.job_id


def published(bigquery: BigQuery) -> list[tuple]:
    return bigquery.query("SELECT * FROM trips ORDER BY pickup_datetime").rows


def fares(bigquery: BigQuery) -> list[tuple]:
    return bigquery.query(
        "SELECT month, fare, COUNT(*) AS trips FROM trips GROUP BY month, fare ORDER BY month, fare"
    ).rows


def tables(bigquery: BigQuery) -> list[str]:
    with bigquery.client() as client:
        return [table.table_id for table in client.list_tables(bigquery._dataset)]


def test_a_month_published_twice_has_its_rows_once(bigquery: BigQuery, tmp_path: Path) -> None:
    for _ in range(2):
        replace(bigquery, trips(JANUARY, 3), tmp_path)
    assert published(bigquery) == [
        (JANUARY, datetime(2024, 1, 1, 23, 59, 0), None, 10.0, "ü'", False),
        (JANUARY, datetime(2024, 1, 1, 23, 59, 1), 2, 10.0, "ü'", False),
        (JANUARY, datetime(2024, 1, 1, 23, 59, 2), 2, 10.0, "ü'", False),
    ]
    assert tables(bigquery) == ["trips"]


def test_new_rows_take_the_place_of_the_old_ones_of_their_month_only(
    bigquery: BigQuery, tmp_path: Path
) -> None:
    replace(bigquery, trips(JANUARY, 3), tmp_path)
    replace(bigquery, trips(FEBRUARY, 2), tmp_path, FEBRUARY)
    replace(bigquery, trips(JANUARY, 5, fare=11.0), tmp_path)
    assert fares(bigquery) == [(JANUARY, 11.0, 5), (FEBRUARY, 10.0, 2)]
    assert bigquery.months(TRIPS) == {JANUARY: 5, FEBRUARY: 2}


def test_a_file_without_rows_empties_its_month_only(bigquery: BigQuery, tmp_path: Path) -> None:
    replace(bigquery, trips(JANUARY, 3), tmp_path)
    replace(bigquery, trips(FEBRUARY, 2), tmp_path, FEBRUARY)
    replace(bigquery, trips(JANUARY, 0), tmp_path, version="empty")
    assert bigquery.months(TRIPS) == {FEBRUARY: 2}


def test_a_table_that_is_absent_has_no_months(bigquery: BigQuery) -> None:
    assert bigquery.months(TRIPS) == {}


def test_the_table_is_partitioned_clustered_and_described(
    bigquery: BigQuery, tmp_path: Path
) -> None:
    replace(bigquery, trips(JANUARY, 3), tmp_path)
    with bigquery.client() as client:
        table = client.get_table(bigquery.name(TRIPS))
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "month")
    assert table.clustering_fields == ["vendor_id"]
    assert table.description == TRIPS.description
    assert {field.name: field.field_type for field in table.schema} == {
        "month": "DATE",
        "pickup_datetime": "DATETIME",
        "passengers": "INTEGER",
        "fare": "FLOAT",
        "vendor_id": "STRING",
        "negative_total": "BOOLEAN",
    }


def test_a_column_that_is_new_is_added_to_the_table(bigquery: BigQuery, tmp_path: Path) -> None:
    replace(bigquery, trips(JANUARY, 2), tmp_path)
    wider = BigQueryTable(**vars(TRIPS) | {"columns": TRIPS.columns | {"surprise": "STRING"}})
    replace(bigquery, trips(FEBRUARY, 1), tmp_path, FEBRUARY, wider)
    assert [row[-1] for row in published(bigquery)] == [None, None, "new this month"]


def test_a_column_of_another_type_is_an_error_that_says_what_to_do(
    bigquery: BigQuery, tmp_path: Path
) -> None:
    replace(bigquery, trips(JANUARY, 2), tmp_path)
    other = BigQueryTable(**vars(TRIPS) | {"columns": TRIPS.columns | {"fare": "STRING"}})
    with pytest.raises(LakehouseError, match=r"fare of .*trips .* is FLOAT and should be STRING"):
        replace(bigquery, trips(JANUARY, 2), tmp_path, table=other)


@pytest.mark.parametrize(
    ("frame", "rows", "reason"),
    [
        (trips(JANUARY, 3), 4, "BigQuery loaded 3 rows for 2024-01 of trips, .* should be 4"),
        (trips(FEBRUARY, 3), 3, "Of the 3 rows for 2024-01 of trips, 3 belong to another month"),
        (trips(JANUARY, 3).with_columns(month=None), 3, "3 belong to another month"),
        (trips(JANUARY, 3).with_columns(fare=pl.lit("a lot")), 3, "BigQuery refuses .*fare"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_the_old_ones_stay(
    bigquery: BigQuery, tmp_path: Path, frame: pl.DataFrame, rows: int, reason: str
) -> None:
    replace(bigquery, trips(JANUARY, 5), tmp_path)
    before = published(bigquery)
    with pytest.raises(LakehouseError, match=reason) as error:
        replace(bigquery, frame, tmp_path, rows=rows, version="bad")
    assert not isinstance(error.value, UnavailableError)
    assert published(bigquery) == before
    assert tables(bigquery) == ["trips"]


def test_a_version_that_failed_can_be_loaded_once_it_is_mended(
    bigquery: BigQuery, tmp_path: Path
) -> None:
    broken = trips(JANUARY, 3).with_columns(fare=pl.lit("a lot"))
    for _ in range(2):
        with pytest.raises(LakehouseError):
            replace(bigquery, broken, tmp_path, version="one")
    replace(bigquery, trips(JANUARY, 3), tmp_path, version="one")
    assert bigquery.months(TRIPS) == {JANUARY: 3}


def test_queries_take_parameters_and_give_values_as_they_are(
    bigquery: BigQuery, tmp_path: Path
) -> None:
    replace(bigquery, trips(JANUARY, 3), tmp_path)
    moment = datetime(2024, 1, 1, 23, 59, 2)
    found = bigquery.query(
        "SELECT vendor_id, passengers + @more AS more FROM trips "
        "WHERE pickup_datetime = @moment AND month = @month AND vendor_id = @vendor AND fare < @f",
        {"more": 1, "moment": moment, "month": JANUARY, "vendor": "ü'", "f": 10.5},
    )
    assert found == (("vendor_id", "more"), [("ü'", 3)])


@pytest.mark.parametrize(
    ("sql", "message"), [("SELEC 1", "Syntax error"), ("SELECT * FROM missing", "Not found: Table")]
)
def test_a_query_that_bigquery_refuses_is_answered_with_its_own_words(
    bigquery: BigQuery, tmp_path: Path, sql: str, message: str
) -> None:
    replace(bigquery, trips(JANUARY, 3), tmp_path)
    with pytest.raises(UsageError) as error:
        bigquery.query(sql)
    assert str(error.value).startswith(message)


def test_a_proxy_of_the_environment_is_not_asked_for_the_local_service(
    local: Settings, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert BigQuery(local).query("SELECT 1 AS one") == (("one",), [(1,)])


def publish(settings: Settings, folder: Path, worker: int) -> None:
    """Publishes the shared January and a month of its own, again and again."""
    bigquery = BigQuery(settings)
    for turn in range(2):
        replace(bigquery, trips(JANUARY, 100 + worker, fare=worker), folder)
        own = date(2024, 2 + worker, 1)
        replace(bigquery, trips(own, 10, fare=turn), folder, own)


def test_two_processes_at_once_leave_what_one_leaves(
    bigquery: BigQuery, settings: Settings, tmp_path: Path
) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(publish, settings, tmp_path, worker) for worker in range(2)]:
            done.result()
    (first, fare, count), *own = fares(bigquery)
    assert (first, count) == (JANUARY, 100 + fare)
    assert own == [(date(2024, 2, 1), 1.0, 10), (date(2024, 3, 1), 1.0, 10)]
    assert tables(bigquery) == ["trips"]


PUBLISH = """
import sys
from datetime import date
from pathlib import Path
sys.path[:0] = sys.argv[2].split(":")
from lakehouse.resources.bigquery import BigQuery
from lakehouse.settings import Settings
from test_bigquery import JANUARY, TRIPS
settings = Settings.model_validate_json(sys.argv[1])
BigQuery(settings).replace_month(TRIPS, JANUARY, Path(sys.argv[3]), 3, "killed", "one")
"""


def wait_for_the_swap(bigquery: BigQuery, rows: int, run: Callable[[], bool]) -> str:
    """Waits until a run has loaded and counted that many rows; the name of its staging table."""
    with bigquery.client() as client:
        while run():
            jobs = [job for job in client.list_jobs(max_results=50) if job.state == "DONE"]
            for load in jobs:
                if load.job_type == "load" and load.output_rows == rows:
                    staging = load.destination
                    counted = f"COUNTIF(month = @month) FROM `{staging}`"
                    if staging.dataset_id == bigquery._dataset.dataset_id and any(
                        job.job_type == "query" and counted in job.query for job in jobs
                    ):
                        return staging.table_id
            time.sleep(0.05)
    raise AssertionError("the run ended before it came to the swap")


def test_a_run_killed_between_load_and_swap_is_taken_up_where_it_was(
    bigquery: BigQuery, settings: Settings, tmp_path: Path
) -> None:
    replace(bigquery, trips(JANUARY, 5, fare=1.0), tmp_path)
    file = tmp_path / "trips.parquet"
    trips(JANUARY, 3, fare=2.0).write_parquet(file)
    folders = ":".join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    with bigquery._alone("trips"):  # where the run waits for its turn to swap
        run = subprocess.Popen(
            [sys.executable, "-c", PUBLISH, settings.model_dump_json(), folders, str(file)]
        )
        staging = wait_for_the_swap(bigquery, rows=3, run=lambda: run.poll() is None)
        run.kill()
        run.wait()
    assert fares(bigquery) == [(JANUARY, 1.0, 5)]

    loaded = bigquery.replace_month(TRIPS, JANUARY, file, 3, "after", "one")
    assert loaded.job_id == staging
    assert fares(bigquery) == [(JANUARY, 2.0, 3)]
    assert tables(bigquery) == ["trips"]


def test_a_swap_that_fails_half_way_leaves_the_old_rows(
    bigquery: BigQuery, settings: Settings, tmp_path: Path
) -> None:
    replace(bigquery, trips(JANUARY, 5, fare=1.0), tmp_path)
    with ThreadPoolExecutor() as pool:
        with bigquery._alone("trips"), bigquery.client() as client:
            run = pool.submit(replace, BigQuery(settings), trips(JANUARY, 3, fare=2.0), tmp_path)
            staging = wait_for_the_swap(bigquery, rows=3, run=lambda: not run.done())
            client.delete_table(bigquery._dataset.table(staging))
        with pytest.raises(UnavailableError, match=r"staged for 2024-01 of trips .* are gone"):
            run.result()
    assert fares(bigquery) == [(JANUARY, 1.0, 5)]
    replace(bigquery, trips(JANUARY, 3, fare=2.0), tmp_path)
    assert fares(bigquery) == [(JANUARY, 2.0, 3)]


def test_an_object_of_the_bucket_is_loaded_from_there(local: Settings, tmp_path: Path) -> None:
    bigquery, name = BigQuery(local), "data/green/green_tripdata_2024-01.parquet"
    bucket = storage.Client(
        project="any",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": GcsService(local).start().address},
    ).bucket(LOCAL_BUCKET)
    file = tmp_path / "trips.parquet"
    for rows in (4, 2):  # the second time somebody has put another object there
        trips(JANUARY, rows, fare=rows).write_parquet(file)
        bucket.blob(name).upload_from_filename(str(file))
        uri = f"gs://{LOCAL_BUCKET}/{name}"
        loaded = bigquery.replace_month(TRIPS, JANUARY, uri, rows, "run", f"generation {rows}")
        assert (loaded.staged_from, loaded.bytes) == (uri, file.stat().st_size)
        assert fares(bigquery) == [(JANUARY, rows, rows)]

    with pytest.raises(LakehouseError, match=r"BigQuery refuses .*missing\.parquet"):
        bigquery.replace_month(
            TRIPS, JANUARY, f"gs://{LOCAL_BUCKET}/missing.parquet", 1, "run", "x"
        )


def test_a_service_killed_in_the_middle_of_a_load_keeps_the_old_rows(
    local: Settings, tmp_path: Path
) -> None:
    bigquery = BigQuery(local)
    replace(bigquery, trips(JANUARY, 5), tmp_path)
    many = trips(JANUARY, 1_000_000, fare=99.0)
    with ThreadPoolExecutor() as pool:
        load = pool.submit(replace, bigquery, many, tmp_path, version="many")
        while not load.done() and tables(bigquery) == ["trips"]:
            time.sleep(0.01)
        psutil.Process(BigQueryService(local).status().pid).send_signal(signal.SIGKILL)
        with pytest.raises(UnavailableError, match="local BigQuery service does not answer"):
            load.result()

    assert fares(bigquery) == [(JANUARY, 10.0, 5)]
    replace(bigquery, many, tmp_path, version="many")
    assert fares(bigquery) == [(JANUARY, 99.0, 1_000_000)]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a`b"},
        {"columns": TRIPS.columns | {"a b": "STRING"}},
        {"cluster_by": ("a;DROP",)},
        {"partition_by": "fare"},
        {"partition_by": "missing"},
    ],
)
def test_a_table_has_plain_names_and_a_month(change: dict) -> None:
    with pytest.raises(ValueError, match=r"is not an identifier|is not a DATE column"):
        BigQueryTable(**vars(TRIPS) | change)


CLOUD = Settings(bigquery_project="my-project", bigquery_dataset="taxi")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            api.BadRequest(
                "Cannot read and write in different locations: source: EU, destination: US"
            ),
            "LAKEHOUSE_BIGQUERY_LOCATION",
        ),
        (
            api.NotFound("Not found: Dataset my-project:taxi was not found in location EU"),
            "LAKEHOUSE_BIGQUERY_LOCATION",
        ),
        (
            api.Forbidden("Access Denied: Project other: User does not have bigquery.jobs.create"),
            "BigQuery Job User on the project my-project and BigQuery Data Editor on the dataset "
            "my-project.taxi",
        ),
        (
            api.Forbidden("Access Denied: File gs://bucket/a.parquet: Access Denied"),
            "Storage Object Viewer on the bucket",
        ),
        (
            api.Forbidden("BigQuery API has not been used in project 12 before or it is disabled."),
            "enable the BigQuery API in the project my-project",
        ),
        (
            api.Forbidden("Billing has not been enabled for this project."),
            "enable billing for the project my-project",
        ),
        (api.Forbidden("Quota exceeded: Your project exceeded quota"), "wait until the quota"),
        (api.NotFound("Not found: Project nonsense"), "LAKEHOUSE_BIGQUERY_PROJECT"),
        (auth.DefaultCredentialsError("Your default credentials were not found."), "gcloud auth"),
        (auth.RefreshError("invalid_grant: Bad Request"), "gcloud auth application-default login"),
        (api.Unauthorized("Request had invalid authentication credentials."), "gcloud auth"),
    ],
)
def test_an_error_that_lasts_says_what_to_do(error: Exception, remedy: str) -> None:
    ours = explained(error, CLOUD)
    assert remedy in str(ours)
    assert not isinstance(ours, UnavailableError)
    assert "\n" not in str(ours)


@pytest.mark.parametrize(
    "error",
    [
        api.ServiceUnavailable("Visibility check was unavailable. Please retry"),
        api.InternalServerError("An internal error occurred"),
        api.TooManyRequests("Exceeded rate limits"),
        api.Forbidden("Exceeded rate limits", errors=[{"reason": "rateLimitExceeded"}]),
        api.RetryError("Timeout of 60.0s exceeded", requests.ConnectionError("no route to host")),
        requests.ConnectionError("no route to host"),
        requests.Timeout("read timed out"),
        api.PreconditionFailed("Precondition check failed."),
        auth.TransportError("no route to host"),
        auth.RefreshError("Internal failure", retryable=True),
        ConnectionResetError("reset by peer"),
    ],
)
def test_an_error_that_passes_is_worth_trying_again(error: Exception) -> None:
    ours = explained(error, CLOUD)
    assert isinstance(ours, UnavailableError)
    assert "BigQuery does not answer for the project my-project" in str(ours)


def test_what_bigquery_says_is_told_without_the_address_that_was_called() -> None:
    error = api.BadRequest(
        "POST https://bigquery.googleapis.com/…?key=sesame: Field fare has changed type.",
        errors=[{"message": "Field fare has changed type.", "reason": "invalid"}],
    )
    assert str(explained(error, CLOUD)) == "BigQuery refuses (Field fare has changed type)."


def test_a_dataset_that_is_elsewhere_than_it_should_be_is_named(
    local: Settings, tmp_path: Path
) -> None:
    with BigQuery(local).client() as client:
        dataset = Dataset(f"{client.project}.{local.bigquery_dataset}")
        dataset.location = "US"
        client.create_dataset(dataset)
    european = BigQuery(local.model_copy(update={"bigquery_location": "EU"}))
    with pytest.raises(LakehouseError, match=r"is in US and LAKEHOUSE_BIGQUERY_LOCATION says EU"):
        replace(european, trips(JANUARY, 1), tmp_path)


def test_where_there_are_no_credentials_it_is_said_how_to_get_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    settings = Settings(home=tmp_path, bigquery_project="my-project")
    with pytest.raises(
        LakehouseError, match=r"There are no Google Cloud credentials .* run `gcloud"
    ):
        BigQuery(settings).months(TRIPS)
