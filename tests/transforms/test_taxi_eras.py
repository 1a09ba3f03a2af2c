"""Every header of the publisher's maps to the columns of its era, and no other file does."""

import polars as pl
import pytest
from taxi_heads import REAL_HEADS

from lakehouse.errors import SourceRefusedError
from lakehouse.transforms.delimited import column_names
from lakehouse.transforms.taxi.eras import (
    COLUMNS,
    FIRST_MONTHS,
    REQUIRED,
    SCHEMAS,
    SERVICES,
    expected,
    recognise,
)

FHVHV_PARQUET = (
    *("hvfhs_license_num", "dispatching_base_num", "originating_base_num", "request_datetime"),
    *("on_scene_datetime", "pickup_datetime", "dropoff_datetime", "PULocationID"),
    *("DOLocationID", "trip_miles", "trip_time", "base_passenger_fare", "tolls", "bcf"),
    *("sales_tax", "congestion_surcharge", "airport_fee", "tips", "driver_pay"),
    *("shared_request_flag", "shared_match_flag", "access_a_ride_flag", "wav_request_flag"),
    "wav_match_flag",
)
FHV_PARQUET = (
    *("dispatching_base_num", "pickup_datetime", "dropOff_datetime", "PUlocationID"),
    *("DOlocationID", "SR_Flag", "Affiliated_base_number"),
)
YELLOW_2019 = (
    *("VendorID", "tpep_pickup_datetime", "tpep_dropoff_datetime", "passenger_count"),
    *("trip_distance", "RatecodeID", "store_and_fwd_flag", "PULocationID", "DOLocationID"),
    *("payment_type", "fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount"),
    *("improvement_surcharge", "total_amount", "congestion_surcharge"),
)
GREEN_2020 = (
    *("VendorID", "lpep_pickup_datetime", "lpep_dropoff_datetime", "store_and_fwd_flag"),
    *("RatecodeID", "PULocationID", "DOLocationID", "passenger_count", "trip_distance"),
    *("fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "ehail_fee"),
    *("improvement_surcharge", "total_amount", "payment_type", "trip_type"),
    "congestion_surcharge",
)


@pytest.mark.mirror
@pytest.mark.parametrize("name", sorted(REAL_HEADS))
def test_the_header_of_every_real_file_has_the_columns_of_its_era(name):
    service, _, month = name.split("_")
    found = recognise(column_names(REAL_HEADS[name]), service, month)
    of_csvs = {column.name for column in COLUMNS[service] if column.form == "csv"}
    assert found.unknown == {}
    assert found.missing == ()
    assert set(found.names) == {*expected(service, month), *of_csvs}


@pytest.mark.mirror
def test_the_real_headers_are_all_there():
    if not REAL_HEADS:
        pytest.skip("the heads of the publisher's files are not here")
    assert len(REAL_HEADS) == 303


@pytest.mark.parametrize(
    ("service", "month", "has", "has_not"),
    [
        ("yellow", "2009-01", "pickup_longitude", "pickup_location_id"),
        ("yellow", "2016-06", "pickup_longitude", "pickup_location_id"),
        ("yellow", "2016-07", "pickup_location_id", "pickup_longitude"),
        ("yellow", "2015-01", "improvement_surcharge", "congestion_surcharge"),
        ("green", "2014-12", "ehail_fee", "improvement_surcharge"),
        ("green", "2019-01", "congestion_surcharge", "cbd_congestion_fee"),
        ("green", "2025-01", "cbd_congestion_fee", "dropoff_latitude"),
        ("fhv", "2016-12", "pickup_location_id", "dropoff_datetime"),
        ("fhv", "2017-06", "dropoff_datetime", "sr_flag"),
        ("fhv", "2018-01", "dispatching_base_number", "affiliated_base_number"),
        ("fhv", "2019-01", "sr_flag", "dispatching_base_number"),
    ],
)
def test_an_era_begins_and_ends_with_its_month(service, month, has, has_not):
    assert has in expected(service, month)
    assert has_not not in expected(service, month)


@pytest.mark.parametrize(
    ("service", "month", "columns"),
    [
        ("fhvhv", "2024-01", FHVHV_PARQUET),
        ("fhvhv", "2025-01", (*FHVHV_PARQUET, "cbd_congestion_fee")),
        ("fhv", "2020-01", FHV_PARQUET),
        ("yellow", "2022-01", (*YELLOW_2019, "airport_fee")),
        ("yellow", "2025-01", (*YELLOW_2019, "Airport_fee", "cbd_congestion_fee")),
    ],
)
def test_the_columns_of_the_parquet_files_are_known(service, month, columns):
    found = recognise(columns, service, month)
    assert len(found.names) == len(columns)
    assert found.unknown == {}
    assert found.missing == ()


def test_a_name_is_found_in_any_case_and_with_blanks_around_it():
    found = recognise([f"  {name.upper()} " for name in YELLOW_2019], "yellow", "2019-01")
    assert found.names["pickup_location_id"] == "  PULOCATIONID "
    assert found.unknown == {}


def test_a_column_that_no_era_has_is_kept_under_its_name_without_blanks():
    found = recognise([*YELLOW_2019, " Shift_ID "], "yellow", "2019-01")
    assert found.unknown == {"Shift_ID": " Shift_ID "}
    assert found.by_file[" Shift_ID "] == "Shift_ID"


def test_a_column_that_the_month_should_have_is_missed():
    columns = [name for name in YELLOW_2019 if name not in ("extra", "congestion_surcharge")]
    assert recognise(columns, "yellow", "2019-01").missing == ("extra", "congestion_surcharge")
    assert recognise(columns, "yellow", "2018-12").missing == ("extra",)


def test_zones_in_place_of_coordinates_are_not_missed():
    """The publisher's Parquet files have them from 2011 on."""
    assert recognise(YELLOW_2019, "yellow", "2011-01").missing == ()


@pytest.mark.parametrize(
    ("service", "columns", "says"),
    [
        ("yellow", ["a", "b", "c", "d", "e"], "no column for pickup_datetime, dropoff_datetime"),
        (
            "yellow",
            [*YELLOW_2019[:4], "total_amount"],
            "it has no column for trip_distance, payment_type, fare_amount, tip_amount; its columns"
            " begin VendorID, tpep_pickup_datetime",
        ),
        ("yellow", GREEN_2020, "it has the columns of green trips (20 of its 20 are known there"),
        ("green", YELLOW_2019, "it has the columns of yellow trips"),
        ("fhv", FHVHV_PARQUET, "it has the columns of fhvhv trips"),
        ("fhvhv", FHV_PARQUET, "it has the columns of fhv trips"),
        ("yellow", ["LocationID", "Borough", "Zone", "service_zone"], "no file of yellow trips"),
        ("yellow", [], "no column for pickup_datetime"),
    ],
)
def test_a_file_of_something_else_is_refused(service, columns, says):
    with pytest.raises(SourceRefusedError) as refused:
        recognise(columns, service, "2019-01")
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("twin", "says"),
    [
        ("pickup_datetime", "both pickup_datetime: 'tpep_pickup_datetime' and 'pickup_datetime'"),
        ("vendor_id", "both vendor_id: 'VendorID' and 'vendor_id'"),
        (" TIP_amount", "both tip_amount: 'tip_amount' and ' TIP_amount'"),
    ],
)
def test_two_columns_that_are_the_same_are_both_named(twin, says):
    with pytest.raises(SourceRefusedError) as refused:
        recognise([*YELLOW_2019, twin], "yellow", "2019-01")
    assert says in str(refused.value)


def test_two_unknown_columns_of_one_name_are_refused_too():
    with pytest.raises(SourceRefusedError, match="both note: 'note' and 'NOTE '"):
        recognise([*YELLOW_2019, "note", "NOTE "], "yellow", "2019-01")


@pytest.mark.parametrize("name", ["month", "_row", "Unknown_Zone", "passenger_count_missing"])
def test_a_name_of_the_lakehouses_own_is_refused(name):
    with pytest.raises(SourceRefusedError, match="a name of the lakehouse's"):
        recognise([*YELLOW_2019, name], "yellow", "2019-01")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_what_all_have_and_what_makes_it_one(service):
    schema = SCHEMAS[service]
    assert next(iter(schema)) == "month"
    assert list(schema)[-2:] == ["_row", "_unreadable"]
    assert schema["pickup_datetime"] == schema["dropoff_datetime"] == pl.Datetime("us")
    assert schema["pickup_location_id"] == schema["dropoff_location_id"] == pl.Int32
    assert set(REQUIRED[service]) <= set(expected(service, FIRST_MONTHS[service]))
    assert ("passenger_count_missing" in schema) == (service in ("yellow", "green"))
