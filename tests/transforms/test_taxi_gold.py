"""Trips become sums by day, hour, zone and payment: exact, and null where nothing is known."""

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from taxi_heads import MIRROR

from lakehouse.errors import SourceRefusedError
from lakehouse.transforms.taxi.eras import FLAGS, SCHEMAS, SERVICES
from lakehouse.transforms.taxi.gold import (
    DAILY,
    HOURLY,
    PAYMENTS,
    ZONES,
    by_zone,
    daily,
    hourly,
    payments,
)
from lakehouse.transforms.taxi.trips import canonical
from lakehouse.transforms.taxi.zones import read_zones

PUBLISHER = MIRROR / "d37ci6vzurychx.cloudfront.net"
MONTH = "2020-03"
FIRST = date(2020, 3, 1)
A_SUNDAY = datetime(2020, 3, 1, 8, 30)
A_MONDAY = datetime(2020, 3, 2, 23, 59)

HEADER = '"LocationID","Borough","Zone","service_zone"'
LOOKUP = read_zones(
    "\r\n".join(
        [
            HEADER,
            '7,"Queens","Astoria","Boro Zone"',
            '1,"EWR","Newark Airport","EWR"',
            '264,"Unknown","N/A","N/A"',
        ]
    ).encode()
)


def trips(*rows: dict[str, Any], service: str = "green") -> pl.LazyFrame:
    """Canonical trips of a Sunday morning in Astoria but for these cells; money is null."""
    ordinary = {
        **dict.fromkeys(SCHEMAS[service]),
        **dict.fromkeys(FLAGS, False),
        "month": FIRST,
        "pickup_datetime": A_SUNDAY,
        "pickup_location_id": 7,
    }
    cells = [{**ordinary, **row} for row in rows]
    return pl.DataFrame(cells, schema=SCHEMAS[service]).lazy()


def without_month(table: pl.Schema) -> dict[str, pl.DataType]:
    return {name: dtype for name, dtype in table.items() if name != "month"}


def made(service: str, of: pl.LazyFrame) -> dict[str, pl.DataFrame]:
    return {
        "daily": daily(of, service),
        "hourly": hourly(of, service, MONTH),
        "zones": by_zone(of, service, MONTH, LOOKUP),
        "payments": payments(of, service, MONTH) if service == "green" else pl.DataFrame(),
    }


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("rows", [0, 1])
def test_every_service_has_the_tables_with_trips_and_without(service, rows):
    of = trips(*[{}] * rows, service=service)
    assert daily(of, service).schema == without_month(DAILY)
    assert hourly(of, service, MONTH).schema == without_month(HOURLY)
    assert by_zone(of, service, MONTH, LOOKUP).schema == without_month(ZONES)
    if service in ("yellow", "green"):
        assert payments(of, service, MONTH).schema == without_month(PAYMENTS)


def test_a_day_sums_what_its_trips_have():
    of = trips(
        {
            "passenger_count": 2,
            "trip_distance": 1.25,
            "fare_amount": 10.0,
            "tip_amount": 2.0,
            "total_amount": 14.5,
        },
        {"passenger_count": 0, "trip_distance": 0.5, "fare_amount": 5.1, "total_amount": 5.5},
        {"pickup_datetime": A_MONDAY, "passenger_count": 1, "total_amount": -3.0},
    )
    assert daily(of, "green").rows() == [
        ("green", FIRST, 2, 2, 1.75, 15.1, 2.0, 20.0, 0.1),
        ("green", date(2020, 3, 2), 1, 1, None, None, None, -3.0, None),
    ]


def test_trips_outside_the_month_are_counted_nowhere():
    of = trips({"payment_type": 1}, {"pickup_outside_month": True, "payment_type": 1})
    for table in made("green", of).values():
        assert table["trips"].to_list() == [1]


def test_hours_of_the_week_begin_on_monday():
    of = trips(
        {"total_amount": 1.0},
        {"pickup_datetime": datetime(2020, 3, 8, 8, 0), "total_amount": 2.0},
        {"pickup_datetime": A_MONDAY},
    )
    assert hourly(of, "green", MONTH).rows() == [
        ("green", FIRST, 1, 23, 1, None),
        ("green", FIRST, 7, 8, 2, 3.0),
    ]


def test_zones_have_names_and_trips_without_one_stand_together():
    of = trips(
        {"total_amount": 1.0},
        {"pickup_location_id": 1},
        {"pickup_location_id": None},
        {"pickup_location_id": None},
        {"pickup_location_id": 999},
        {"pickup_location_id": 264},
    )
    assert by_zone(of, "green", MONTH, LOOKUP).rows() == [
        ("green", FIRST, 0, "Unknown", "Unknown", 2, None),
        ("green", FIRST, 1, "EWR", "Newark Airport", 1, None),
        ("green", FIRST, 7, "Queens", "Astoria", 1, 1.0),
        ("green", FIRST, 264, "Unknown", "N/A", 1, None),
        ("green", FIRST, 999, "Unknown", "Unknown", 1, None),
    ]


def test_payments_have_names_and_their_share_of_tips():
    of = trips(
        {"payment_type": 1, "total_amount": 10.0, "tip_amount": 2.0},
        {"payment_type": 1, "total_amount": 10.0, "tip_amount": 1.0},
        {"payment_type": 3, "total_amount": 0.0, "tip_amount": 1.0},
        {"payment_type": 9},
        {"payment_type": None, "total_amount": 1.5},
    )
    assert payments(of, "green", MONTH).rows() == [
        ("green", FIRST, 1, "Credit card", 2, 20.0, 3.0, 0.15),
        ("green", FIRST, 3, "No charge", 1, 0.0, 1.0, None),
        ("green", FIRST, 9, "Code 9", 1, None, None, None),
        ("green", FIRST, None, "Not reported", 1, 1.5, None, None),
    ]


def test_for_hire_vehicles_have_no_money():
    of = trips({}, {}, service="fhv")
    assert daily(of, "fhv").rows() == [("fhv", FIRST, 2, None, None, None, None, None, None)]


def test_the_revenue_of_high_volume_services_is_all_that_the_passenger_paid():
    paid = {
        "base_passenger_fare": 20.0,
        "tolls": 1.0,
        "bcf": 0.5,
        "sales_tax": 1.8,
        "congestion_surcharge": 2.75,
        "airport_fee": 2.5,
        "tips": 4.0,
        "cbd_congestion_fee": 1.5,
        "driver_pay": 15.0,
        "trip_miles": 3.125,
    }
    of = trips(paid, {"base_passenger_fare": 1.0}, {}, service="fhvhv")
    row = daily(of, "fhvhv").row(0, named=True)
    assert row["revenue"] == 35.05
    assert (row["fare"], row["tips"], row["distance_miles"]) == (21.0, 4.0, 3.125)
    assert row["tip_share"] == pytest.approx(4 / 35.05)


def test_sums_are_exact_whatever_the_order_of_the_trips():
    amounts = [0.1] * 1000 + [123_456_789.01, -123_456_789.01, 0.07]
    of = trips(*({"total_amount": amount} for amount in amounts))
    assert daily(of, "green")["revenue"].to_list() == [100.07]
    shuffled = of.collect().sample(fraction=1, shuffle=True, seed=1).lazy()
    assert daily(shuffled, "green").equals(daily(of, "green"))


@pytest.mark.mirror
def test_gold_of_a_real_month_counts_every_trip_of_it():
    file = PUBLISHER / "trip-data" / f"green_tripdata_{MONTH}.parquet"
    if not file.exists():
        pytest.skip("the mirror of the publisher's files is not here")
    lookup = read_zones((PUBLISHER / "misc" / "taxi_zone_lookup.csv").read_bytes())
    of = canonical(pl.scan_parquet(file), "green", MONTH, lookup).frame
    tables = [
        daily(of, "green"),
        hourly(of, "green", MONTH),
        by_zone(of, "green", MONTH, lookup),
        payments(of, "green", MONTH),
    ]
    outside = of.filter(pl.col("pickup_outside_month")).collect()
    expected = round(3_735_856.10 - outside["total_amount"].sum(), 2)
    for table in tables:
        assert table["trips"].sum() == 223_496 - 22
        assert round(table["revenue"].sum(), 2) == expected
    assert (tables[0].height, tables[1].height) == (31, 168)


# The lookup


def test_zones_are_read_with_their_text_as_it_is():
    assert LOOKUP.rows() == [
        (1, "EWR", "Newark Airport", "EWR"),
        (7, "Queens", "Astoria", "Boro Zone"),
        (264, "Unknown", "N/A", "N/A"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "its columns are , not locationid, borough, zone, service_zone"),
        ("id,name\n1,a\n", "its columns are id, name"),
        (HEADER, "it has no zones"),
        (f"{HEADER}\n1,a,b", "line 2: 3 cells where the header has 4"),
        (f"{HEADER}\n1,a,b,c\none,a,b,c", "line 3 has an empty or unreadable cell"),
        (f"{HEADER}\n1,a,,c", "line 2 has an empty or unreadable cell"),
        (f"{HEADER}\n1,a,b,c\n1,d,e,f", "the location id 1 stands there more than once"),
    ],
)
def test_what_is_no_lookup_is_refused(text, says):
    with pytest.raises(SourceRefusedError) as refused:
        read_zones(text.encode())
    assert str(refused.value).startswith("this is no lookup of taxi zones")
    assert says in str(refused.value)


@pytest.mark.mirror
def test_the_real_lookup_has_265_zones():
    file = PUBLISHER / "misc" / "taxi_zone_lookup.csv"
    if not file.exists():
        pytest.skip("the mirror of the publisher's files is not here")
    zones = read_zones(file.read_bytes())
    assert zones["location_id"].to_list() == list(range(1, 266))
    assert zones.row(264)[3] == "N/A"
