"""When taxi trips run: the calendar, the publisher, the inbox, and who else fills the bucket."""

import gzip
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse.automation.taxi import due_months
from lakehouse.history import latest_materializations
from lakehouse.instance import open_instance
from lakehouse.resources.bigquery import BigQuery
from lakehouse.resources.objects import Objects
from lakehouse.resources.postgres import Postgres
from lakehouse.samples.taxi import TRIP_FOLDER, make_taxi_csvs
from lakehouse.services import bigquery
from lakehouse.services.local import local_services
from lakehouse.settings import Settings
from lakehouse.tables.taxi import object_name

JANUARY, FEBRUARY = "2020-01", "2020-02"
RAW = dg.AssetKey(["taxi", "raw", "green_trips"])


def test_on_the_first_of_a_month_the_months_are_due_that_ended_two_months_ago():
    assert due_months(datetime(2024, 3, 1, 5, tzinfo=UTC)) == ["2023-10", "2023-11", "2023-12"]
    assert due_months(datetime(2024, 4, 1, 5, tzinfo=UTC))[-1] == "2024-01"
    assert due_months(datetime(2024, 4, 30, 5, tzinfo=UTC))[-1] == "2024-02"


def test_every_month_becomes_due_at_a_tick_of_the_schedule(taxi_house):
    schedule = taxi_house.definitions.resolve_schedule_def("taxi_green_monthly")
    ticks = [datetime(y, m, 1, 5, tzinfo=UTC) for y in (2022, 2023) for m in range(1, 13)]
    due = {month for tick in ticks for month in due_months(tick)}

    assert schedule.cron_schedule == "0 5 1 * *"
    assert {f"2022-{m:02d}" for m in range(1, 13)} <= due
    assert max(due_months(ticks[-1])) == "2023-09"


def test_the_schedule_asks_for_the_months_that_are_missing(taxi_house):
    made = dg.AssetMaterialization(RAW, partition="2023-11")
    taxi_house.instance.report_runless_asset_event(made)
    context = dg.build_schedule_context(
        taxi_house.instance,
        scheduled_execution_time=datetime(2024, 3, 1, 5, tzinfo=UTC),
        repository_def=taxi_house.definitions.get_repository_def(),
    )
    schedule = taxi_house.definitions.resolve_schedule_def("taxi_green_monthly")

    requests = schedule.evaluate_tick(context).run_requests

    assert [request.partition_key for request in requests] == ["2023-10", "2023-12"]


def land(house, service: str, *months: str) -> None:
    raw = {dg.AssetKey(["taxi", "raw", f"{service}_trips"])}
    assert all(r.ok for r in house.backfill(*months, service=service, selection=raw).values())


def asked_for(tick: dg.SensorResult) -> list[tuple[str, str]]:
    return [(request.job_name, request.partition_key) for request in tick.run_requests]


def test_a_new_month_and_one_that_is_published_again_are_asked_for_of_their_service(taxi_house):
    for service in ("green", "yellow"):
        taxi_house.publish_trips(service, JANUARY)
        land(taxi_house, service, JANUARY)
    publications = taxi_house.sensor("taxi_publications")
    assert asked_for(publications.tick()) == []

    taxi_house.publish_trips("green", FEBRUARY)
    assert asked_for(publications.tick()) == [("taxi_green_month", FEBRUARY)]

    taxi_house.publish_trips("yellow", JANUARY, seed=2)
    tick = publications.tick()

    assert sorted(asked_for(tick)) == [
        ("taxi_green_month", FEBRUARY),
        ("taxi_yellow_month", JANUARY),
    ]
    assert [(event.asset_key.path[-1], event.partition) for event in tick.asset_events] == [
        ("yellow_trips", JANUARY)
    ]
    assert taxi_house.status("taxi/raw/yellow_trips")["stale"] == 1
    assert taxi_house.status("taxi/raw/green_trips")["fresh"] == 1


def sample(house, service: str = "green", month: str = JANUARY) -> bytes:
    """A month's file as the publisher has it, who does not have it any more."""
    house.publish_trips(service, month)
    path = house.root / TRIP_FOLDER / f"{service}_tripdata_{month}.parquet"
    content = path.read_bytes()
    path.unlink()
    return content


def sample_csv(house, month: str = JANUARY) -> bytes:
    (path, _) = make_taxi_csvs(house.root, months={"green": (month,)}, trips=1000).files
    return path.read_bytes()


def land_zones(house) -> None:
    house.publish_trips("green")
    zones = {dg.AssetKey(["taxi", "raw", "zones"])}
    assert all(report.ok for report in house.backfill(JANUARY, selection=zones).values())


@pytest.mark.parametrize("form", ["parquet", "csv", "csv.gz"])
def test_a_dropped_file_becomes_the_month(taxi_house, form):
    land_zones(taxi_house)
    inbox = taxi_house.sensor("taxi_inbox")
    inbox.tick()
    content = sample(taxi_house) if form == "parquet" else sample_csv(taxi_house)
    if form == "csv":
        content = gzip.decompress(content)
    dropped = taxi_house.drop(f"green_tripdata_{JANUARY}.{form}", content)
    inbox.tick()
    (request,) = inbox.tick().run_requests

    assert taxi_house.run(request).success

    assert not dropped.exists()
    assert request.job_name == "taxi_green_month"
    daily = "SELECT sum(trips) FROM taxi.daily WHERE service = 'green'"
    assert taxi_house.query(daily) == [(996,)]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", lambda house: b"hello", "is no month of taxi trips: name it such as"),
        ("green.parquet", sample, "is no month of taxi trips"),
        ("green_tripdata_2012-01.parquet", sample, "has whole months from 2013-08 on"),
        ("green_tripdata_2999-01.parquet", sample, "has whole months from 2013-08 on"),
        ("yellow_tripdata_2020-01.parquet", sample, "this is no file of yellow trips"),
        (
            "green_tripdata_2020-01.parquet",
            lambda house: sample(house)[:5000],
            "whose end is missing",
        ),
        ("green_tripdata_2020-01.parquet", lambda house: b"<html>", "but an HTML page"),
        ("green_tripdata_2020-01.csv", lambda house: b"a,b\n1,2\n", "no file of green trips"),
        (
            "green_tripdata_2020-01.csv.gz",
            lambda house: sample_csv(house)[:5000],
            "is cut short or damaged",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_what_cannot_be_used_is_set_aside_with_the_reason(
    taxi_house, webhook, name, content, reason
):
    inbox = taxi_house.sensor("taxi_inbox")
    inbox.tick()
    taxi_house.drop(name, content(taxi_house))

    assert [inbox.requested() for _ in range(3)] == [[], [], []]
    assert (taxi_house.inbox / "refused" / name).exists()
    assert reason in (taxi_house.inbox / "refused" / f"{name}.reason.txt").read_text()
    assert webhook.titles == [f"File refused: {name}"]


def foreign(january: pl.DataFrame, rows: int = 300) -> pl.DataFrame:
    """Trips as somebody else might have cleaned them, in February."""
    later = pl.col("pickup_datetime", "dropoff_datetime").dt.offset_by("31d")
    month = pl.lit(date(2020, 2, 1)).alias("month")
    ordinary = pl.col("pickup_datetime").is_between(datetime(2020, 1, 1), datetime(2020, 1, 28))
    return january.filter(ordinary).head(rows).with_columns(later, month)


def january_of(house) -> pl.DataFrame:
    house.publish_trips("green", JANUARY)
    assert all(report.ok for report in house.backfill(JANUARY, service="green").values())
    with Objects(house.settings).local(object_name("green", JANUARY)) as local:
        return pl.read_parquet(local.path)


def test_only_what_others_put_into_the_bucket_is_asked_for_and_once(taxi_house):
    january = january_of(taxi_house)
    sensor = taxi_house.sensor("taxi_objects")
    assert asked_for(sensor.tick()) == []

    object_of_february = taxi_house.objects / object_name("green", FEBRUARY)
    foreign(january).write_parquet(object_of_february)
    (taxi_house.objects / "data" / "green" / "notes.txt").write_text("hello")
    first, second = sensor.tick(), sensor.tick()
    foreign(january, rows=200).write_parquet(object_of_february)
    third = sensor.tick()

    assert asked_for(first) == asked_for(third) == [("taxi_green_load", FEBRUARY)]
    assert asked_for(second) == []
    assert second.skip_message == "Nothing new in the bucket."
    assert first.run_requests[0].run_key != third.run_requests[0].run_key


def february(house) -> list[tuple]:
    sql = "SELECT sum(trips) FROM taxi.daily WHERE toYYYYMM(date) = 202002"
    return house.query(sql)


def test_a_foreign_object_that_breaks_the_contract_is_not_loaded(taxi_house):
    january = january_of(taxi_house)
    no_times = pl.lit(None, pl.Datetime("us")).alias("pickup_datetime")
    path = taxi_house.objects / object_name("green", FEBRUARY)
    foreign(january).with_columns(no_times).write_parquet(path)
    (request,) = taxi_house.sensor("taxi_objects").tick().run_requests

    result = taxi_house.run(request)

    assert not result.success
    assert result.get_asset_materialization_events() == []
    failed = [
        check.check_name for check in result.get_asset_check_evaluations() if not check.passed
    ]
    assert "contract" in failed
    assert february(taxi_house) == [(0,)]


@pytest.fixture
def whole_house(taxi_house, free_port, monkeypatch) -> Iterator[dg.DagsterInstance]:
    """A house with GCS, BigQuery and PostgreSQL of its own."""
    if reason := bigquery.available(taxi_house.settings):
        pytest.skip(reason)
    for name in ("OBJECTS", "WITHOUT"):
        monkeypatch.delenv(f"LAKEHOUSE_{name}")
    for name in ("GCS", "BIGQUERY", "POSTGRES"):
        monkeypatch.setenv(f"LAKEHOUSE_{name}_PORT", str(free_port()))
    settings = Settings()
    with open_instance(settings) as instance:
        yield type(taxi_house)(settings, instance)
    for service in local_services(settings):
        service.stop()


def test_a_foreign_object_in_the_bucket_is_loaded_everywhere(whole_house, tmp_path: Path):
    january = january_of(whole_house)
    foreign(january).write_parquet(tmp_path / "february.parquet")
    put_by_somebody_else(whole_house, tmp_path / "february.parquet")
    (request,) = whole_house.sensor("taxi_objects").tick().run_requests

    assert whole_house.run(request).success

    counted = "SELECT count(*) FROM {} WHERE month = '2020-02-01'"
    postgres, warehouse = Postgres(whole_house.settings), BigQuery(whole_house.settings)
    assert postgres.query(counted.format("taxi.green_trips")).rows == [(300,)]
    assert warehouse.query(counted.format("green_trips")).rows == [(300,)]
    assert february(whole_house) == [(300,)]
    for name in ("bigquery/green_trips", "postgres/green_trips", "clickhouse/green_daily"):
        key = dg.AssetKey(["taxi", *name.split("/")])
        made = latest_materializations(whole_house.instance, key)["2020-02"]
        assert made.metadata["bytes"] > 0, name


def put_by_somebody_else(house, file: Path) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    (gcs,) = [s for s in local_services(house.settings) if s.name == "gcs"]
    client = Client(
        project="somebody",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": gcs.status().address},
    )
    bucket = client.bucket("lakehouse")
    bucket.blob(object_name("green", FEBRUARY)).upload_from_filename(str(file))
