"""The same trips in other forms: from the older CSV, to other stores, without some branches."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from homes import Home
from resources.buckets import running_buckets

from lakehouse.resources.objects import Objects
from lakehouse.resources.postgres import Postgres
from lakehouse.samples.taxi import make_taxi_csvs, make_taxi_months
from lakehouse.settings import Settings
from lakehouse.tables.taxi import object_name

MONTHS = {"green": ("2020-01",), "yellow": ("2014-03",)}
TRIPS = 1000

MakeHome = Callable[..., Home]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mirror")
    make_taxi_months(root, months=MONTHS, trips=TRIPS)
    make_taxi_csvs(root, months=MONTHS, trips=TRIPS)
    return root


@pytest.fixture(scope="module")
def parquet(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The months from the publisher's Parquet, to the local GCS and PostgreSQL."""
    home = Home(tmp_path_factory.mktemp("parquet"), mirror, {"LAKEHOUSE_WITHOUT": "bigquery"})
    try:
        backfill(home)
        yield home
    finally:
        home.down()


def backfill(home: Home, *options: str) -> str:
    said = ""
    for service, (month,) in MONTHS.items():
        answer = home.call("backfill", "taxi", "--service", service, "--from", month, *options)
        assert answer.code == 0, answer.out + answer.err
        said += answer.out
    return said


def trips(home: Home, service: str, month: str) -> pl.DataFrame:
    with Objects(home.settings).local(object_name(service, month)) as local:
        return pl.read_parquet(local.path)


def daily(home: Home) -> list[dict[str, object]]:
    return home.query("SELECT * FROM taxi.daily ORDER BY service, date")


def object_hashes(settings: Settings) -> dict[str, str]:
    objects = Objects(settings)
    found = {}
    for name, _ in objects.list("data/"):
        with objects.local(name) as local:
            found[name] = hashlib.sha256(local.path.read_bytes()).hexdigest()
    return found


def test_the_older_csv_gives_the_same_trips(
    mirror: Path, parquet: Home, make_home: MakeHome
) -> None:
    home = make_home(mirror, variables={"LAKEHOUSE_TAXI_FORMAT": "csv"} | parquet.variables)

    backfill(home)

    for service, (month,) in MONTHS.items():
        here, there = trips(home, service, month), trips(parquet, service, month)
        # A line of a CSV is a row behind its header, and until 2014 behind a blank line.
        differ = ["_row", "_unreadable"]
        assert here.drop(differ).equals(there.drop(differ))
        assert here["_unreadable"].is_null().sum() == there["_unreadable"].is_null().sum()
        assert here["_row"].max() > there["_row"].max()
    assert daily(home) == daily(parquet) != []
    counted = "SELECT count(*), sum(total_amount) FROM taxi.yellow_trips"
    assert Postgres(home.settings).query(counted) == Postgres(parquet.settings).query(counted)


def test_a_folder_and_s3_at_once_have_the_bytes_that_gcs_has(
    mirror: Path,
    parquet: Home,
    make_home: MakeHome,
    tmp_path: Path,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = object_hashes(parquet.settings)
    assert sorted(expected) == sorted(object_name(s, month) for s, (month,) in MONTHS.items())
    off = {"LAKEHOUSE_WITHOUT": "bigquery postgres"}
    folder = tmp_path / "objects"
    with running_buckets(free_port()) as buckets:
        for name, value in {
            **{"AWS_ENDPOINT_URL": buckets.address, "AWS_DEFAULT_REGION": "us-east-1"},
            **{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        }.items():
            monkeypatch.setenv(name, value)
        home = make_home(mirror, variables=off | {"LAKEHOUSE_OBJECTS": f"{folder} s3://lake/taxi"})
        backfill(home)

        assert {s["name"] for s in home.call("ps", "--json").json} == {"clickhouse"}
        assert object_hashes(home.settings) == expected
        in_s3 = Settings(home=home.folder, objects="s3://lake/taxi")
        assert object_hashes(in_s3) == expected
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.parquet")
    }
    assert files == expected
    assert daily(home) == daily(parquet)


def test_what_is_switched_off_is_not_there_and_a_line_says_so(
    mirror: Path, parquet: Home, make_home: MakeHome
) -> None:
    home = make_home(mirror, variables={"LAKEHOUSE_WITHOUT": "bigquery postgres"})

    up = home.call("up")
    said = backfill(home)

    assert up.out.splitlines()[2:] == [
        "bigquery is switched off by LAKEHOUSE_WITHOUT",
        "postgres is switched off by LAKEHOUSE_WITHOUT",
    ]
    assert {s["name"] for s in home.call("ps", "--json").json} == {"clickhouse", "gcs"}
    assert said.splitlines()[-1] == "Switched off by LAKEHOUSE_WITHOUT: bigquery, postgres."
    (taxi,) = home.call("status", "taxi", "--json").json
    layers = {asset["asset"].split("/")[1] for asset in taxi["assets"]}
    assert layers == {"raw", "objects", "gold", "clickhouse"}
    assert daily(home) == daily(parquet)
    assert not (home.folder / "services" / "postgres").exists()
