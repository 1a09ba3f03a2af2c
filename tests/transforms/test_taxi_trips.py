"""The publisher's rows become canonical trips, and none is lost in silence."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from taxi_heads import MIRROR

from lakehouse.errors import SourceRefusedError
from lakehouse.transforms.delimited import REJECTS
from lakehouse.transforms.taxi.eras import FLAGS, SCHEMAS, SERVICES
from lakehouse.transforms.taxi.trips import Trips, canonical, count, write
from lakehouse.transforms.taxi.zones import read_zones

PUBLISHER = MIRROR / "d37ci6vzurychx.cloudfront.net"
MONTH = "2020-03"
ZONES = pl.DataFrame({"location_id": pl.Series([1, 2, 265], dtype=pl.Int32)})

YELLOW = {
    "VendorID": 2,
    "tpep_pickup_datetime": datetime(2020, 3, 1, 8, 30),
    "tpep_dropoff_datetime": datetime(2020, 3, 1, 8, 45),
    "passenger_count": 1.0,
    "trip_distance": 2.5,
    "RatecodeID": 1.0,
    "store_and_fwd_flag": "N",
    "PULocationID": 1,
    "DOLocationID": 2,
    "payment_type": 1,
    "fare_amount": 10.0,
    "extra": 0.5,
    "mta_tax": 0.5,
    "tip_amount": 2.0,
    "tolls_amount": 0.0,
    "improvement_surcharge": 0.3,
    "total_amount": 13.3,
    "congestion_surcharge": 0.0,
    "airport_fee": 0.0,
}


def yellow(*rows: dict[str, Any], **types: Any) -> pl.LazyFrame:
    """Ordinary yellow trips but for these cells; columns of other types, by name."""
    columns = list(dict.fromkeys([*YELLOW, *(name for row in rows for name in row)]))
    cells = [{**YELLOW, **row} for row in rows or [{}]]
    return pl.DataFrame(
        {
            name: pl.Series([row.get(name) for row in cells], dtype=types.get(name), strict=True)
            for name in columns
        }
    ).lazy()


def made(raw: pl.LazyFrame, service: str = "yellow", month: str = MONTH) -> pl.DataFrame:
    return trips_of(raw, service, month).frame.collect(engine="streaming")


def trips_of(raw: pl.LazyFrame, service: str = "yellow", month: str = MONTH) -> Trips:
    found = canonical(raw, service, month, ZONES)
    rejects = found.rejects.collect(engine="streaming")
    rows = found.frame.select(pl.len()).collect().item()
    assert rows + rejects.height == raw.select(pl.len()).collect().item()
    assert rejects.schema == REJECTS
    return found


def unreadable(trips: pl.DataFrame) -> list[dict[str, str]]:
    return [json.loads(cells or "{}") for cells in trips["_unreadable"]]


def a_trip(service: str, **cells: Any) -> pl.LazyFrame:
    """A trip of a service, under canonical names; what is not named is null."""
    schema = {
        name: dtype
        for name, dtype in SCHEMAS[service].items()
        if not name.startswith("_") and name not in (*FLAGS, "month", "passenger_count_missing")
    }
    row = {**dict.fromkeys(schema), "pickup_datetime": datetime(2020, 3, 1, 8), **cells}
    return pl.DataFrame([row], schema=schema).lazy()


# Types


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_its_schema_with_rows_and_without(service):
    one = made(a_trip(service), service)
    assert one.schema == SCHEMAS[service]
    assert made(a_trip(service).clear(), service).schema == SCHEMAS[service]
    assert one.select(FLAGS).null_count().row(0) == (0,) * len(FLAGS)


def test_an_ordinary_trip():
    (trip,) = made(yellow()).to_dicts()
    assert trip == {
        "month": date(2020, 3, 1),
        "vendor_id": "2",
        "pickup_datetime": datetime(2020, 3, 1, 8, 30),
        "dropoff_datetime": datetime(2020, 3, 1, 8, 45),
        "passenger_count": 1,
        "trip_distance": 2.5,
        "pickup_longitude": None,
        "pickup_latitude": None,
        "rate_code": 1,
        "store_and_fwd_flag": "N",
        "dropoff_longitude": None,
        "dropoff_latitude": None,
        "pickup_location_id": 1,
        "dropoff_location_id": 2,
        "payment_type": 1,
        "fare_amount": 10.0,
        "extra": 0.5,
        "mta_tax": 0.5,
        "tip_amount": 2.0,
        "tolls_amount": 0.0,
        "improvement_surcharge": 0.3,
        "total_amount": 13.3,
        "congestion_surcharge": 0.0,
        "airport_fee": 0.0,
        "cbd_congestion_fee": None,
        "passenger_count_missing": False,
        **dict.fromkeys(FLAGS, False),
        "_row": 1,
        "_unreadable": None,
    }


def test_rows_are_numbered_as_in_the_file():
    trips = made(yellow({}, {"tpep_pickup_datetime": None}, {}))
    assert trips["_row"].to_list() == [1, 3]


@pytest.mark.parametrize("dtype", [pl.Int32, pl.Int64, pl.Float64, pl.Float32, pl.UInt8])
def test_whole_numbers_may_be_of_any_type(dtype):
    names = ("VendorID", "passenger_count", "RatecodeID", "PULocationID", "payment_type")
    raw = yellow().with_columns(pl.col(names).cast(dtype))
    trips = made(raw)
    assert trips.schema == SCHEMAS["yellow"]
    assert trips.select("vendor_id", "passenger_count", "pickup_location_id").rows() == [
        ("2", 1, 1)
    ]
    assert unreadable(trips) == [{}]


def test_a_column_without_a_type_takes_that_of_the_canonical_one():
    trips = made(yellow().with_columns(pl.lit(None).alias("airport_fee")))
    assert trips.schema == SCHEMAS["yellow"]
    assert trips["airport_fee"].to_list() == [None]


def test_times_may_be_text_as_in_2009_and_of_another_precision():
    raw = yellow().with_columns(
        pl.lit("2020-03-01 08:30:00").alias("tpep_pickup_datetime"),
        pl.col("tpep_dropoff_datetime").cast(pl.Datetime("ns")),
    )
    assert made(raw).select("pickup_datetime", "dropoff_datetime").rows() == [
        (datetime(2020, 3, 1, 8, 30), datetime(2020, 3, 1, 8, 45))
    ]


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        *(("CASH", 2), ("CAS", 2), ("CSH", 2), ("Cash", 2), ("Cas", 2)),
        *(("CRD", 1), ("CRE", 1), ("Cre", 1), ("Credit", 1), ("CREDIT", 1)),
        *(("NOC", 3), ("No Charge", 3), ("No ", 3), ("DIS", 4), ("Dispute", 4)),
        *(("UNK", 5), ("VOID", 6), (" 1 ", 1), ("2.0", 2), ("0", 0), ("", None)),
    ],
)
def test_the_words_for_payments_become_the_publishers_codes(cell, code):
    trips = made(yellow({"payment_type": cell}))
    assert trips["payment_type"].to_list() == [code]
    assert unreadable(trips) == [{}]


@pytest.mark.parametrize(
    ("cells", "stored"),
    [
        (["Y", "N", "y", "n", "", None], ["Y", "N", "Y", "N", None, None]),
        (["1", "0"], ["Y", "N"]),
        ([1.0, 0.0, None], ["Y", "N", None]),
        ([1, 0], ["Y", "N"]),
    ],
)
def test_the_store_and_forward_flag_is_y_or_n(cells, stored):
    trips = made(yellow(*({"store_and_fwd_flag": cell} for cell in cells)))
    assert trips["store_and_fwd_flag"].to_list() == stored
    assert unreadable(trips) == [{}] * len(cells)


def test_text_has_no_blanks_around_it_and_is_null_where_there_is_none():
    trips = made(yellow(*({"VendorID": cell} for cell in (" CMT ", "", "  ", None))))
    assert trips["vendor_id"].to_list() == ["CMT", None, None, None]
    assert unreadable(trips) == [{}] * 4


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64])
def test_missing_passengers_become_0_and_are_known_to_be_missing(dtype):
    raw = yellow(*({"passenger_count": n} for n in (None, 0, 3)), passenger_count=dtype)
    trips = made(raw)
    assert trips["passenger_count"].to_list() == [0, 0, 3]
    assert trips["passenger_count_missing"].to_list() == [True, False, False]
    assert unreadable(trips) == [{}] * 3


# What cannot be read


def test_cells_that_have_no_place_are_null_and_kept_beside_the_row():
    trips = made(
        yellow(
            {},
            {"passenger_count": 2.5, "RatecodeID": 1e300},
            {"trip_distance": float("nan"), "total_amount": float("inf"), "tip_amount": -1e9},
            {"PULocationID": 2**40, "store_and_fwd_flag": "*"},
            {"tpep_dropoff_datetime": datetime(9999, 12, 31)},
        )
    )
    assert unreadable(trips) == [
        {},
        {"passenger_count": "2.5", "rate_code": "1e+300"},
        {"trip_distance": "NaN", "total_amount": "inf", "tip_amount": "-1000000000.0"},
        {"pickup_location_id": str(2**40), "store_and_fwd_flag": "*"},
        {},
    ]
    assert trips["passenger_count"].to_list() == [1, 0, 1, 1, 1]
    assert trips["passenger_count_missing"].to_list() == [False, True, False, False, False]
    assert trips["trip_distance"].null_count() == trips["pickup_location_id"].null_count() == 1


def test_text_in_columns_of_numbers_is_read_as_far_as_it_is_numbers():
    raw = yellow(
        {"fare_amount": "12.50", "passenger_count": "3", "PULocationID": " 2 "},
        {"fare_amount": "free", "passenger_count": "3.0", "PULocationID": "99999999999"},
        {"fare_amount": "nan", "passenger_count": "many", "PULocationID": ""},
    )
    trips = made(raw)
    assert trips.select("fare_amount", "passenger_count", "pickup_location_id").rows() == [
        (12.5, 3, 2),
        (None, 3, None),
        (None, 0, None),
    ]
    assert unreadable(trips) == [
        {},
        {"fare_amount": "free", "pickup_location_id": "99999999999"},
        {"fare_amount": "nan", "passenger_count": "many"},
    ]


def test_a_year_that_no_other_program_can_hold_is_no_time():
    far = pl.Series([300_000_000_000_000_000], dtype=pl.Int64).cast(pl.Datetime("us"))
    trips = made(yellow().with_columns(tpep_dropoff_datetime=far))
    assert trips["dropoff_datetime"].to_list() == [None]
    assert list(unreadable(trips)[0]) == ["dropoff_datetime"]


def test_a_large_whole_number_is_no_amount_of_money_and_not_lost():
    trips = made(yellow({"total_amount": 2_000_000_000}, total_amount=pl.Int32))
    assert unreadable(trips) == [{"total_amount": "2000000000"}]


def test_decimals_are_numbers_too():
    raw = yellow({"total_amount": Decimal("13.30"), "passenger_count": Decimal("1.50")})
    trips = made(raw)
    assert trips["total_amount"].to_list() == [13.3]
    assert unreadable(trips) == [{"passenger_count": "1.50"}]


# Flags


@pytest.mark.parametrize(
    ("pickup", "outside"),
    [
        (datetime(2020, 2, 29, 23, 59, 59), True),
        (datetime(2020, 3, 1), False),
        (datetime(2020, 3, 31, 23, 59, 59, 999_999), False),
        (datetime(2020, 4, 1), True),
        (datetime(2019, 3, 15), True),
    ],
)
def test_a_pickup_outside_the_month_is_flagged_and_stays(pickup, outside):
    trips = made(yellow({"tpep_pickup_datetime": pickup}))
    assert trips["pickup_outside_month"].to_list() == [outside]
    assert trips["month"].to_list() == [date(2020, 3, 1)]


@pytest.mark.parametrize(
    ("flag", "doubtful", "not_doubtful"),
    [
        (
            "dropoff_before_pickup",
            [{"tpep_dropoff_datetime": datetime(2020, 3, 1, 8, 29, 59)}],
            [
                {"tpep_dropoff_datetime": datetime(2020, 3, 1, 8, 30)},
                {"tpep_dropoff_datetime": None},
            ],
        ),
        (
            "negative_total",
            [{"total_amount": -0.01}],
            [{"total_amount": 0.0}, {"total_amount": None}],
        ),
        (
            "distance_over_1000_miles",
            [{"trip_distance": 1000.01}],
            [{"trip_distance": 1000.0}, {"trip_distance": None}],
        ),
        (
            "unknown_zone",
            [{"PULocationID": 3}, {"DOLocationID": 3}, {"PULocationID": None}],
            [{"PULocationID": 265, "DOLocationID": 265}],
        ),
    ],
)
def test_a_doubtful_trip_is_flagged_for_what_is_doubtful_alone(flag, doubtful, not_doubtful):
    trips = made(yellow(*doubtful, *not_doubtful))
    assert trips[flag].to_list() == [True] * len(doubtful) + [False] * len(not_doubtful)
    others = [other for other in FLAGS if other != flag]
    assert not trips.select(pl.any_horizontal(pl.col(others)).any()).item()


def test_where_the_file_has_coordinates_no_zone_is_unknown():
    raw = yellow().drop("PULocationID", "DOLocationID")
    assert made(raw, month="2014-03")["unknown_zone"].to_list() == [False]


def test_a_service_without_meters_is_flagged_by_what_it_has():
    trips = made(
        a_trip(
            "fhvhv",
            trip_miles=1500.0,
            base_passenger_fare=-20.0,
            tips=3.0,
            pickup_location_id=1,
            dropoff_location_id=2,
        ),
        "fhvhv",
    )
    assert trips.select(FLAGS).row(0, named=True) == {
        "pickup_outside_month": False,
        "dropoff_before_pickup": False,
        "negative_total": True,
        "distance_over_1000_miles": True,
        "unknown_zone": False,
    }


# Columns and rows that do not fit


def test_unknown_columns_stay_and_are_named():
    found = trips_of(yellow({" shift_id": 7, "note": None}))
    assert found.unknown == ("shift_id", "note")
    trips = found.frame.collect()
    assert trips.columns == [*SCHEMAS["yellow"], "shift_id", "note"]
    assert trips.select("shift_id", "note").rows() == [(7, None)]
    assert trips["note"].dtype == pl.String


def test_rows_without_a_pickup_time_are_rejected_with_all_their_cells():
    raw = yellow({"tpep_pickup_datetime": "2020-03-01 00:00:00"}, {"tpep_pickup_datetime": "soon"})
    rejects = trips_of(raw).rejects.collect()
    ((line, cells, reason),) = rejects.rows()
    assert line == 2
    assert reason == "the pickup time is missing or cannot be read"
    assert json.loads(cells)["tpep_pickup_datetime"] == "soon"
    assert json.loads(cells)["fare_amount"] == 10.0


def test_a_file_of_another_service_is_refused():
    with pytest.raises(SourceRefusedError, match="it has the columns of yellow trips"):
        canonical(yellow(), "green", MONTH, ZONES)


@pytest.mark.parametrize(
    ("column", "cell", "says"),
    [
        (
            "tpep_pickup_datetime",
            datetime(2020, 3, 1, tzinfo=UTC),
            "pickup_datetime has the type Datetime(time_unit='us', time_zone='UTC'), where times",
        ),
        ("fare_amount", [1.0], "fare_amount has the type List(Float64), where numbers should be"),
        ("VendorID", b"1", "vendor_id has the type Binary, where text should be"),
        ("total_amount", date(2020, 3, 1), "total_amount has the type Date, where numbers"),
    ],
)
def test_a_type_that_no_trip_has_is_refused(column, cell, says):
    with pytest.raises(SourceRefusedError) as refused:
        canonical(yellow({column: cell}), "yellow", MONTH, ZONES)
    assert says in str(refused.value)


# Writing


def many_trips(rows: int) -> pl.LazyFrame:
    return (
        pl.select(row=pl.int_range(rows))
        .lazy()
        .join(yellow(), how="cross")
        .with_columns(
            passenger_count=(pl.col("row") % 7).cast(pl.Float64),
            total_amount=pl.col("row") / 100,
            RatecodeID=pl.when(pl.col("row") % 1000 == 5).then(1.5).otherwise(1.0),
        )
        .drop("row")
    )


def test_the_same_rows_make_the_same_bytes(tmp_path):
    raw = tmp_path / "raw.parquet"
    many_trips(700_000).sink_parquet(raw)
    for name in ("one", "other"):
        write(trips_of(pl.scan_parquet(raw)).frame, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("payment", [1, "CSH"])
@pytest.mark.parametrize("pickup", [YELLOW["tpep_pickup_datetime"], "2020-03-01 08:30:00"])
def test_no_step_takes_the_whole_month_into_memory(payment, pickup, tmp_path):
    """Of the plan's steps only those that cannot stream, and grow with the month, have colour."""
    raw = tmp_path / "raw.parquet"
    yellow({"payment_type": payment, "tpep_pickup_datetime": pickup}).sink_parquet(raw)
    found = trips_of(pl.scan_parquet(raw))
    for frame in (found.frame, found.rejects):
        plan = frame.show_graph(engine="streaming", plan_stage="physical", raw_output=True)
        _, steps = plan.split("Legend", 1)
        assert "multi-scan[parquet]" in steps
        assert "fillcolor" not in steps


def test_what_is_written_is_counted(tmp_path):
    raw = yellow(
        {"passenger_count": None, "total_amount": -1.0},
        {"passenger_count": 1.5, "total_amount": -1.0},
        {"PULocationID": 77},
        {"tpep_pickup_datetime": None},
    )
    write(trips_of(raw).frame, tmp_path / "trips.parquet")
    counts = count(pl.scan_parquet(tmp_path / "trips.parquet"))
    assert (counts.rows, counts.passenger_count_missing, counts.unreadable_rows) == (3, 2, 1)
    assert counts.flags == {**dict.fromkeys(FLAGS, 0), "negative_total": 2, "unknown_zone": 1}


@pytest.mark.parametrize("service", SERVICES)
def test_a_month_without_trips_is_written_and_counted(service, tmp_path):
    write(trips_of(a_trip(service).clear(), service).frame, tmp_path / "trips.parquet")
    assert pl.read_parquet_schema(tmp_path / "trips.parquet") == SCHEMAS[service]
    counts = count(pl.scan_parquet(tmp_path / "trips.parquet"))
    assert (counts.rows, counts.passenger_count_missing, counts.unreadable_rows) == (0, 0, 0)


# Known answers

KNOWN = {
    "2020-03": (223_496, 22, 47_209, 684, 38, "3735856.10"),
    "2020-04": (35_644, 6, 11_142, 122, 12, "701850.27"),
    "2020-12": (83_130, 3, 36_838, 182, 1, "1933848.78"),
    "2021-01": (76_518, 3, 36_047, 134, 0, "1803898.05"),
    "2021-02": (64_572, 2, 29_109, 111, 0, "1513488.17"),
    "2021-03": (83_827, 0, 40_534, 147, 0, "1988467.74"),
    "2022-01": (62_495, 4, 6_295, 211, 0, "1093070.80"),
    "2023-01": (68_211, 4, 4_324, 179, 0, "1486275.22"),
    "2024-01": (56_551, 2, 3_415, 185, 0, "1266922.59"),
    "2025-01": (48_326, 43, 1_836, 153, 0, "1093822.36"),
}


@pytest.mark.mirror
@pytest.mark.parametrize("month", KNOWN)
def test_the_publishers_green_months_have_the_known_answers(month, tmp_path):
    file = PUBLISHER / "trip-data" / f"green_tripdata_{month}.parquet"
    if not file.exists():
        pytest.skip("the mirror of the publisher's files is not here")
    zones = read_zones((PUBLISHER / "misc" / "taxi_zone_lookup.csv").read_bytes())
    found = canonical(pl.scan_parquet(file), "green", month, zones)
    assert (found.unknown, found.missing) == ((), ())
    write(found.frame, tmp_path / "trips.parquet")

    written = pl.scan_parquet(tmp_path / "trips.parquet")
    assert written.collect_schema() == SCHEMAS["green"]
    counts = count(written)
    total = written.select(pl.col("total_amount").cast(pl.Decimal(18, 2)).sum()).collect().item()
    assert (
        counts.rows,
        counts.flags["pickup_outside_month"],
        counts.passenger_count_missing,
        counts.flags["negative_total"],
        counts.flags["dropoff_before_pickup"],
        str(total),
    ) == KNOWN[month]
    assert counts.unreadable_rows == counts.flags["unknown_zone"] == 0
    assert written.select(pl.col("passenger_count").null_count()).collect().item() == 0
