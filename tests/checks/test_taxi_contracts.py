"""Trips, zones and sums that break what the transforms promise break their contract."""

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from lakehouse.checks.contract import Verdict, examine
from lakehouse.checks.contracts import contract_of
from lakehouse.checks.contracts.taxi import CONTRACTS
from lakehouse.transforms.taxi import gold
from lakehouse.transforms.taxi.eras import FLAGS, SCHEMAS, SERVICES
from lakehouse.transforms.taxi.zones import ZONES

FIRST = date(2020, 3, 1)
A_TRIP: dict[str, Any] = {
    "month": FIRST,
    "pickup_datetime": datetime(2020, 3, 31, 23, 59, 59),
    "dropoff_datetime": None,
    "passenger_count": 0,
    "passenger_count_missing": True,
    "store_and_fwd_flag": None,
    "payment_type": 77,
    **dict.fromkeys(FLAGS, False),
    "_row": 1,
}
A_SUM = {"service": "green", "month_start": FIRST, "trips": 1, "month": "2020-03"}

TABLES: dict[str, tuple[pl.Schema, dict[str, Any]]] = {
    **{f"taxi/objects/{service}_trips": (SCHEMAS[service], A_TRIP) for service in SERVICES},
    "taxi/raw/zones": (
        ZONES,
        {"location_id": 264, "borough": "Unknown", "zone": "NV", "service_zone": "N/A"},
    ),
    "taxi/gold/green_daily": (gold.DAILY, A_SUM | {"date": date(2020, 3, 31)}),
    "taxi/gold/green_hourly": (gold.HOURLY, A_SUM | {"weekday": 7, "hour": 0}),
    "taxi/gold/green_zones": (
        gold.ZONES,
        A_SUM | {"location_id": 0, "borough": "Unknown", "zone": "Unknown"},
    ),
    "taxi/gold/green_payments": (
        gold.PAYMENTS,
        A_SUM | {"payment_type": None, "payment_name": "Not reported"},
    ),
}
GREEN = "taxi/objects/green_trips"


def verdict(table: str, *rows: dict[str, Any]) -> Verdict:
    """What the contract says of rows that are good but for these cells."""
    schema, good = TABLES[table]
    cells = [{name: {**good, **row}.get(name) for name in schema} for row in rows or [{}]]
    frame = pl.DataFrame(cells, schema=schema)
    return examine([frame], contract_of(table), schema, frame.schema)


@pytest.mark.parametrize("table", TABLES)
def test_good_rows_keep_the_contract_and_no_rows_do(table):
    assert str(verdict(table)) == "All 1 rows keep the contract."
    schema, _ = TABLES[table]
    nothing = pl.DataFrame(schema=schema)
    assert examine([nothing], contract_of(table), schema, schema).passed


def test_every_table_has_a_contract():
    gold_tables = [
        f"taxi/gold/{service}_{name}"
        for service in SERVICES
        for name in ("daily", "hourly", "zones", "payments")
        if name != "payments" or service in ("yellow", "green")
    ]
    trips = [f"taxi/objects/{service}_trips" for service in SERVICES]
    assert set(CONTRACTS) == {*trips, *gold_tables, "taxi/raw/zones"}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (
            {"pickup_datetime": None, "pickup_outside_month": None},
            "pickup_datetime breaks not_null",
        ),
        ({"unknown_zone": None}, "unknown_zone breaks not_nullable"),
        ({"month": date(2020, 3, 2)}, "breaks month_is_a_first_day"),
        ({"_row": 0}, "_row breaks greater_than_or_equal_to(1) (0)"),
        ({"pickup_outside_month": True}, "breaks flags_tell_the_times"),
        ({"pickup_datetime": datetime(2020, 4, 1)}, "breaks flags_tell_the_times"),
        ({"dropoff_before_pickup": True}, "breaks flags_tell_the_times"),
        ({"dropoff_datetime": datetime(2020, 3, 1)}, "breaks flags_tell_the_times"),
    ],
)
def test_trips_that_break_what_holds_for_all(service, bad, says):
    found = verdict(f"taxi/objects/{service}_trips", bad)
    assert not found.passed
    assert says in str(found)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"passenger_count": None}, "passenger_count breaks not_nullable"),
        ({"passenger_count": 1}, "breaks missing_passengers_are_none"),
        ({"store_and_fwd_flag": "1"}, "store_and_fwd_flag breaks isin(['Y', 'N']) (1)"),
        ({"total_amount": -0.01}, "breaks flags_tell_the_amounts"),
        ({"negative_total": True}, "breaks flags_tell_the_amounts"),
        ({"trip_distance": 1000.1}, "breaks flags_tell_the_amounts"),
    ],
)
def test_trips_of_taxis_that_break_what_holds_for_meters(bad, says):
    found = verdict(GREEN, bad)
    assert not found.passed
    assert says in str(found)


@pytest.mark.parametrize(
    "odd",
    [
        {"passenger_count": 208, "passenger_count_missing": False},
        {"total_amount": -5.0, "negative_total": True},
        {"pickup_datetime": datetime(2008, 12, 31), "pickup_outside_month": True},
        {"payment_type": None, "vendor_id": None, "rate_code": 99},
        {"fare_amount": -1e8, "trip_distance": -3.0},
    ],
)
def test_what_meters_report_breaks_nothing_however_odd(odd):
    assert verdict(GREEN, odd).passed


def test_a_row_of_the_file_is_one_trip():
    assert "2 rows: _row breaks uniqueness" in str(verdict(GREEN, {}, {}))


def test_unknown_columns_break_nothing_and_missing_ones_do():
    schema, good = TABLES[GREEN]
    frame = pl.DataFrame([{name: good.get(name) for name in schema}], schema=schema)
    more = frame.with_columns(shift_id=1)
    assert examine([more], contract_of(GREEN), schema, more.schema).extra == ["shift_id"]
    less = frame.drop("unknown_zone")
    assert not examine([less], contract_of(GREEN), schema, less.schema).passed


@pytest.mark.parametrize(
    ("table", "bad", "says"),
    [
        ("taxi/raw/zones", [{"location_id": 0}], "location_id breaks greater_than_or_equal_to(1)"),
        ("taxi/raw/zones", [{"zone": None}], "zone breaks not_nullable"),
        ("taxi/raw/zones", [{}, {}], "location_id breaks field_uniqueness"),
        ("taxi/gold/green_daily", [{"trips": 0}], "trips breaks greater_than_or_equal_to(1)"),
        ("taxi/gold/green_daily", [{"service": "blue"}], "service breaks isin"),
        ("taxi/gold/green_daily", [{"date": date(2020, 4, 1)}], "breaks days_are_of_the_month"),
        ("taxi/gold/green_daily", [{}, {}], "date breaks field_uniqueness"),
        ("taxi/gold/green_hourly", [{"hour": 24}], "hour breaks less_than_or_equal_to(23)"),
        ("taxi/gold/green_hourly", [{"weekday": 0}], "weekday breaks greater_than_or_equal_to(1)"),
        ("taxi/gold/green_hourly", [{}, {}], "weekday and hour breaks uniqueness"),
        (
            "taxi/gold/green_hourly",
            [{"month_start": date(2020, 4, 1)}],
            "breaks month_start_begins_the_month",
        ),
        ("taxi/gold/green_zones", [{"borough": None}], "borough breaks not_nullable"),
        ("taxi/gold/green_zones", [{}, {}], "location_id breaks field_uniqueness"),
        ("taxi/gold/green_payments", [{"payment_name": None}], "payment_name breaks not_nullable"),
        ("taxi/gold/green_payments", [{"service": "fhv"}], "service breaks isin"),
        ("taxi/gold/green_payments", [{}, {}], "payment_name breaks field_uniqueness"),
    ],
)
def test_sums_and_zones_that_break_their_contract(table, bad, says):
    found = verdict(table, *bad)
    assert not found.passed
    assert says in str(found)
