"""The sample months are the publisher's in form, the same every time, and true to what they say."""

import csv
import gzip
from pathlib import Path

import polars as pl
import pytest
from taxi_heads import REAL_HEADS

from lakehouse.samples.taxi import (
    CSV_FOLDER,
    DEMO_MONTHS,
    TRIP_FOLDER,
    UNKNOWN_COLUMN,
    ZONES_FILE,
    TaxiTruth,
    TripsTruth,
    columns,
    make_taxi_csvs,
    make_taxi_months,
)
from lakehouse.transforms.delimited import column_names
from lakehouse.transforms.taxi.csv import read_csv
from lakehouse.transforms.taxi.gold import daily
from lakehouse.transforms.taxi.trips import Trips, canonical, count
from lakehouse.transforms.taxi.zones import read_zones

ERAS = {
    "yellow": ("2009-05", "2010-02", "2014-03", "2015-08", "2017-01", "2020-01", "2024-02"),
    "green": ("2013-08", "2015-04", "2016-09", "2020-01"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TaxiTruth]:
    root = tmp_path_factory.mktemp("mirror")
    return root, make_taxi_months(root)


def parquet(root: Path, service: str, month: str) -> Path:
    return root / TRIP_FOLDER / f"{service}_tripdata_{month}.parquet"


def assert_true(truth: TripsTruth, service: str, trips: Trips) -> None:
    frame = trips.frame.collect()
    counts = count(frame.lazy())
    inside = daily(frame.lazy(), service)
    assert counts.rows == truth.rows - truth.rejected
    assert trips.rejects.collect().height == truth.rejected
    assert counts.passenger_count_missing == truth.passenger_count_missing
    assert counts.unreadable_rows == truth.unreadable_rows
    assert counts.flags == truth.flags
    assert trips.unknown == truth.unknown
    assert inside["trips"].sum() == truth.trips
    assert round(inside["revenue"].sum() * 100) == truth.revenue_cents
    assert round(inside["tips"].sum() * 100) == truth.tip_cents


@pytest.mark.parametrize(
    ("service", "month"), [(s, month) for s, months in DEMO_MONTHS.items() for month in months]
)
def test_the_truth_comes_out_of_the_demo_months(made, service, month):
    root, truth = made
    zones = read_zones((root / ZONES_FILE).read_bytes())
    raw = pl.scan_parquet(parquet(root, service, month))
    assert_true(truth.months[service, month], service, canonical(raw, service, month, zones))


def test_the_truth_comes_out_of_the_csv_months_of_all_eras(tmp_path):
    truth = make_taxi_csvs(tmp_path, months=ERAS, trips=200)
    zones = read_zones((tmp_path / ZONES_FILE).read_bytes())
    for (service, month), of_month in truth.months.items():
        path = tmp_path / CSV_FOLDER / service / f"{service}_tripdata_{month}.csv.gz"
        with gzip.open(path) as stream:
            pieces = list(read_csv(stream, service, month))
        assert sum(piece.records for piece in pieces) == of_month.rows
        raw = pl.concat(piece.frame for piece in pieces).lazy()
        assert_true(of_month, service, canonical(raw, service, month, zones))


def test_the_demo_has_coordinates_and_zones_of_two_services(made):
    root, _ = made
    for service, months in DEMO_MONTHS.items():
        schemas = [pl.read_parquet_schema(parquet(root, service, month)) for month in months]
        plain = [{name.strip().lower() for name in schema} for schema in schemas]
        assert any("pickup_longitude" in names for names in plain)
        assert any("pulocationid" in names for names in plain)
        assert [UNKNOWN_COLUMN in names for names in plain] == [m.endswith("-02") for m in months]


def test_the_same_seed_makes_the_same_bytes_and_another_one_others(made, tmp_path):
    root, truth = made
    one_month = {"yellow": ("2024-01",)}
    again = make_taxi_months(tmp_path / "again", months=one_month)
    other = make_taxi_months(tmp_path / "other", months=one_month, seed=1)
    path = again.files[0].relative_to(tmp_path / "again")
    assert (root / path) in truth.files
    assert again.files[0].read_bytes() == (root / path).read_bytes()
    assert other.files[0].read_bytes() != (root / path).read_bytes()
    csvs = [
        make_taxi_csvs(tmp_path / name, months=one_month).files[0].read_bytes()
        for name in ("one", "two")
    ]
    assert csvs[0] == csvs[1]


def test_the_lookup_is_the_publishers_in_form(made):
    root, _ = made
    rows = list(csv.reader((root / ZONES_FILE).read_text().splitlines()))
    assert rows[0] == ["LocationID", "Borough", "Zone", "service_zone"]
    assert [int(row[0]) for row in rows[1:]] == list(range(1, 266))
    assert rows[-1][3] == "N/A"


@pytest.mark.mirror
@pytest.mark.parametrize(
    "name", [name for name in sorted(REAL_HEADS) if name.startswith(("yellow", "green"))]
)
def test_headers_are_the_publishers(name):
    service, _, month = name.split("_")
    real = REAL_HEADS[name].splitlines()[0].decode()
    assert ",".join(columns(service, month)) == real
    assert len(columns(service, month)) == len(column_names(REAL_HEADS[name]))
