"""Sample months of taxi trips in the publisher's formats, for the demonstration and the tests.

The same seed makes the same bytes, and a month does not depend on which others are made. Every
month holds what goes wrong in real files; February has a column that nobody knows.
"""

import gzip
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

TRIP_FOLDER = "d37ci6vzurychx.cloudfront.net/trip-data"
"""Where the publisher's Parquet files stand in a mirror."""

ZONES_FILE = "d37ci6vzurychx.cloudfront.net/misc/taxi_zone_lookup.csv"

CSV_FOLDER = "github.com/DataTalksClub/nyc-tlc-data/releases/download"
"""Where the older CSV files stand in a mirror, in a folder for each service."""

DEMO_MONTHS: Mapping[str, tuple[str, ...]] = {
    "yellow": ("2014-03", "2024-01", "2024-02"),
    "green": ("2014-03", "2020-01", "2020-02"),
}
"""Both services with coordinates and with zones, codes as text, as floats and as integers."""

UNKNOWN_COLUMN = "shift_id"

# What the columns below are called from a month on, in the publisher's order.
_YELLOW_2009 = (
    *("vendor_name", "Trip_Pickup_DateTime", "Trip_Dropoff_DateTime", "Passenger_Count"),
    *("Trip_Distance", "Start_Lon", "Start_Lat", "Rate_Code", "store_and_forward", "End_Lon"),
    *("End_Lat", "Payment_Type", "Fare_Amt", "surcharge", "mta_tax", "Tip_Amt", "Tolls_Amt"),
    "Total_Amt",
)
_YELLOW_2010 = (
    *("vendor_id", "pickup_datetime", "dropoff_datetime", "passenger_count", "trip_distance"),
    *("pickup_longitude", "pickup_latitude", "rate_code", "store_and_fwd_flag"),
    *("dropoff_longitude", "dropoff_latitude", "payment_type", "fare_amount", "surcharge"),
    *("mta_tax", "tip_amount", "tolls_amount", "total_amount"),
)
_YELLOW_2015 = (
    *("VendorID", "tpep_pickup_datetime", "tpep_dropoff_datetime", "passenger_count"),
    *("trip_distance", "pickup_longitude", "pickup_latitude", "RateCodeID", "store_and_fwd_flag"),
    *("dropoff_longitude", "dropoff_latitude", "payment_type", "fare_amount", "extra", "mta_tax"),
    *("tip_amount", "tolls_amount", "improvement_surcharge", "total_amount"),
)
_YELLOW_ZONES = (
    *("VendorID", "tpep_pickup_datetime", "tpep_dropoff_datetime", "passenger_count"),
    *("trip_distance", "RatecodeID", "store_and_fwd_flag", "PULocationID", "DOLocationID"),
    *("payment_type", "fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount"),
    *("improvement_surcharge", "total_amount"),
)
_GREEN_2013 = (
    *("VendorID", "lpep_pickup_datetime", "Lpep_dropoff_datetime", "Store_and_fwd_flag"),
    *("RateCodeID", "Pickup_longitude", "Pickup_latitude", "Dropoff_longitude"),
    *("Dropoff_latitude", "Passenger_count", "Trip_distance", "Fare_amount", "Extra", "MTA_tax"),
    *("Tip_amount", "Tolls_amount", "Ehail_fee", "Total_amount", "Payment_type", "Trip_type "),
)
_GREEN_2015 = (*_GREEN_2013[:17], "improvement_surcharge", *_GREEN_2013[17:])
_GREEN_ZONES = (
    *("VendorID", "lpep_pickup_datetime", "lpep_dropoff_datetime", "store_and_fwd_flag"),
    *("RatecodeID", "PULocationID", "DOLocationID", "passenger_count", "trip_distance"),
    *("fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "ehail_fee"),
    *("improvement_surcharge", "total_amount", "payment_type", "trip_type"),
)
_LAYOUTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "yellow": {
        "2009-01": _YELLOW_2009,
        "2010-01": _YELLOW_2010,
        "2014-01": (_YELLOW_2010[0], *(f" {name}" for name in _YELLOW_2010[1:])),
        "2015-01": _YELLOW_2015,
        "2015-07": tuple(name.replace("RateCodeID", "RatecodeID") for name in _YELLOW_2015),
        "2016-07": _YELLOW_ZONES,
        "2019-01": (*_YELLOW_ZONES, "congestion_surcharge"),
    },
    "green": {
        "2013-08": _GREEN_2013,
        "2015-01": _GREEN_2015,
        "2016-07": _GREEN_ZONES,
        "2019-01": (*_GREEN_ZONES, "congestion_surcharge"),
    },
}

_PAYMENT_WORDS = {
    "2009": ("Credit", "CASH", "No Charge", "Dispute"),
    "2010": ("Cre", "Cas", "No", "Dis"),
}
_LATER_PAYMENT_WORDS = ("CRD", "CSH", "NOC", "DIS")

_AMOUNTS = (
    *("fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "improvement_surcharge"),
    *("congestion_surcharge", "total_amount"),
)
_MEANINGS = {
    "vendor_name": "vendor",
    "vendor_id": "vendor",
    "vendorid": "vendor",
    "trip_pickup_datetime": "pickup_datetime",
    "trip_dropoff_datetime": "dropoff_datetime",
    "start_lon": "pickup_longitude",
    "start_lat": "pickup_latitude",
    "end_lon": "dropoff_longitude",
    "end_lat": "dropoff_latitude",
    "ratecodeid": "rate_code",
    "store_and_forward": "store_and_fwd_flag",
    "fare_amt": "fare_amount",
    "surcharge": "extra",
    "tip_amt": "tip_amount",
    "tolls_amt": "tolls_amount",
    "total_amt": "total_amount",
}

_ODD = {
    "outside": 3,
    "backwards": 2,
    "negative": 5,
    "far": 1,
    "nowhere": 1,
    "unreadable": 1,
    "timeless": 1,
}
"""Odd trips of each kind in a month; no trip is odd in two ways."""


@dataclass(frozen=True)
class TripsTruth:
    """What is true of a month of trips."""

    rows: int
    """Rows in the file, `rejected` ones among them."""
    rejected: int
    """Rows without a pickup time; nothing below counts them."""
    passenger_count_missing: int
    unreadable_rows: int
    """Rows with a cell that is no code where one belongs."""
    flags: Mapping[str, int]
    """Trips with each of the flags."""
    unknown: tuple[str, ...]
    """Columns that no era has."""
    trips: int
    """Trips whose pickup lies in the month; the next two count only these."""
    revenue_cents: int
    tip_cents: int


@dataclass(frozen=True)
class TaxiTruth:
    """What is true of the files that were made: by service and month."""

    files: tuple[Path, ...]
    months: Mapping[tuple[str, str], TripsTruth]


@dataclass(frozen=True)
class _Month:
    """The trips of a file, and what is true of them."""

    frame: pl.DataFrame
    truth: TripsTruth


def columns(service: str, month: str) -> tuple[str, ...]:
    """The columns of a CSV file of a month, in the publisher's order and writing."""
    first = max(first for first in _LAYOUTS[service] if first <= month)
    return _LAYOUTS[service][first]


def make_taxi_months(
    root: Path,
    *,
    seed: int = 0,
    months: Mapping[str, tuple[str, ...]] = DEMO_MONTHS,
    trips: int = 3000,
) -> TaxiTruth:
    """Writes Parquet files of yellow and green trips, and the zones, as a mirror has them.

    Args:
        root: The mirror's folder; made when absent.
        seed: The same seed makes the same bytes.
        months: `YYYY-MM` by service.
        trips: Rows of a month, 50 at least.

    Returns:
        What the files hold, counted before anything was written.
    """
    made = _make(seed, months, trips)
    files = []
    for (service, month), made_month in made.items():
        path = root / TRIP_FOLDER / f"{service}_tripdata_{month}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = made_month.frame
        if service == "yellow" and month >= "2019":
            name = "Airport_fee" if month >= "2023" else "airport_fee"
            frame = frame.with_columns(pl.lit(0.0).alias(name))
        frame.write_parquet(path, compression="zstd")
        files.append(path)
    files.append(make_zones(root))
    return TaxiTruth(tuple(files), {key: made_month.truth for key, made_month in made.items()})


def make_taxi_csvs(
    root: Path, *, seed: int = 0, months: Mapping[str, tuple[str, ...]], trips: int = 3000
) -> TaxiTruth:
    """As `make_taxi_months`, the older form: the same trips as `.csv.gz`."""
    made = _make(seed, months, trips)
    files = []
    for (service, month), made_month in made.items():
        path = root / CSV_FOLDER / service / f"{service}_tripdata_{month}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _csv(made_month.frame, service, month)
        path.write_bytes(gzip.compress(text, compresslevel=6, mtime=0))
        files.append(path)
    files.append(make_zones(root))
    return TaxiTruth(tuple(files), {key: made_month.truth for key, made_month in made.items()})


def make_zones(root: Path) -> Path:
    """Writes a lookup of 265 zones with made-up names."""
    path = root / ZONES_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ['"LocationID","Borough","Zone","service_zone"']
    lines += [
        f'{number},"{borough}","{zone}","{service_zone}"'
        for number, (borough, zone, service_zone) in enumerate(_zones(), start=1)
    ]
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return path


def _zones() -> list[tuple[str, str, str]]:
    boroughs = ("Bronx", "Brooklyn", "Manhattan", "Queens", "Staten Island")
    places = ("Harbor", "Heights", "Hill", "Park", "Square", "Terrace", "Village")
    zones = [("EWR", "Newark Airport", "EWR")]
    for number in range(2, 264):
        borough = boroughs[number % len(boroughs)]
        zone = f"{places[number % len(places)]} {number}"
        zones.append((borough, zone, "Yellow Zone" if borough == "Manhattan" else "Boro Zone"))
    return [*zones, ("Unknown", "NV", "N/A"), ("Unknown", "NA", "N/A")]


def _make(
    seed: int, months: Mapping[str, tuple[str, ...]], trips: int
) -> dict[tuple[str, str], _Month]:
    return {
        (service, month): _make_month(seed, service, month, trips)
        for service, of_service in months.items()
        for month in of_service
    }


def _make_month(seed: int, service: str, month: str, trips: int) -> _Month:
    rng = np.random.default_rng([seed, list(_LAYOUTS).index(service), int(month.replace("-", ""))])
    rows = _ordinary_trips(rng, service, month, trips)
    odd = _spoil(rows, month, rng.permutation(trips))
    has_zones = "PULocationID" in columns(service, month)
    has_codes = _codes_may_be_wrong(service, month)
    there = np.ones(trips, bool)
    there[odd["timeless"]] = False
    inside = there.copy()
    inside[odd["outside"]] = False
    truth = TripsTruth(
        rows=trips,
        rejected=_ODD["timeless"],
        passenger_count_missing=int(rows["passengers_missing"][there].sum()),
        unreadable_rows=_ODD["unreadable"] * has_codes,
        flags={
            "pickup_outside_month": _ODD["outside"],
            "dropoff_before_pickup": _ODD["backwards"],
            "negative_total": _ODD["negative"],
            "distance_over_1000_miles": _ODD["far"],
            "unknown_zone": _ODD["nowhere"] * has_zones,
        },
        unknown=(UNKNOWN_COLUMN,) if _has_unknown_column(month) else (),
        trips=int(inside.sum()),
        revenue_cents=int(rows["total_amount"][inside].sum()),
        tip_cents=int(rows["tip_amount"][inside].sum()),
    )
    return _Month(_as_published(rows, odd, service, month), truth)


def _ordinary_trips(
    rng: np.random.Generator, service: str, month: str, trips: int
) -> dict[str, np.ndarray]:
    """What happened, in cents and seconds, whatever the publisher calls it in that month."""
    first, _, days = _span(month)
    pickup = first + np.sort(rng.integers(days * 86_400, size=trips)).astype("timedelta64[s]")
    miles = np.round(rng.gamma(1.5, 2, trips), 2)
    paid = rng.choice(4, trips, p=[0.7, 0.27, 0.02, 0.01])
    fare = 250 + np.round(miles * 5).astype(int) * 50
    amounts = {
        "fare_amount": fare,
        "extra": rng.choice([0, 50, 100], trips),
        "mta_tax": np.full(trips, 50),
        "tip_amount": np.where(paid == 0, np.round(fare * rng.uniform(0.1, 0.3, trips)), 0).astype(
            int
        ),
        "tolls_amount": rng.choice([0, 655], trips, p=[0.95, 0.05]),
        "improvement_surcharge": np.full(trips, 30 * (month >= "2015")),
        "congestion_surcharge": np.full(trips, 250 * (month >= "2019")),
    }
    return {
        "pickup": pickup,
        "dropoff": pickup + rng.integers(180, 3600, trips).astype("timedelta64[s]"),
        "trip_distance": miles,
        "payment": paid,
        "passenger_count": rng.integers(1, 6, trips),
        "passengers_missing": rng.random(trips) < 0.05,
        "vendor": rng.integers(1, 3, trips),
        "rate_code": rng.choice([1, 2, 5], trips, p=[0.95, 0.03, 0.02]),
        "trip_type": rng.choice([1, 2], trips, p=[0.9, 0.1]),
        "stored": rng.random(trips) < 0.01,
        "pickup_zone": rng.integers(1, 264, trips),
        "dropoff_zone": rng.integers(1, 266, trips),
        "coordinates": rng.normal(0, 0.03, (4, trips)),
        **amounts,
        "total_amount": np.sum(list(amounts.values()), axis=0),
    }


def _spoil(rows: dict[str, np.ndarray], month: str, order: np.ndarray) -> dict[str, np.ndarray]:
    """Make some trips odd; which ones, by `_ODD`."""
    at = dict(zip(_ODD, np.split(order, np.cumsum(list(_ODD.values()))), strict=False))
    first, end, _ = _span(month)
    second = np.timedelta64(1, "s")
    rows["pickup"][at["outside"]] = [first - 300_000_000 * second, first - second, end]
    rows["dropoff"][at["outside"]] = rows["pickup"][at["outside"]] + 600 * second
    rows["dropoff"][at["backwards"]] = rows["pickup"][at["backwards"]] - 600 * second
    for name in [name for name in rows if name in _AMOUNTS]:
        rows[name][at["negative"]] *= -1
    rows["trip_distance"][at["far"]] = 12_345.6
    rows["pickup_zone"][at["nowhere"]] = 999
    return at


def _span(month: str) -> tuple[np.datetime64, np.datetime64, int]:
    """The beginning of a month, that of the next one, and the days between."""
    days = monthrange(int(month[:4]), int(month[5:]))[1]
    first = np.datetime64(f"{month}-01", "us")
    return first, first + np.timedelta64(days, "D"), days


def _has_unknown_column(month: str) -> bool:
    return month.endswith("-02")


def _codes_are_words(service: str, month: str) -> bool:
    return service == "yellow" and month < "2015"


def _codes_are_floats(month: str) -> bool:
    """Where integers can be missing, the publisher's programs made floats of them."""
    return "2019" <= month < "2024"


def _codes_may_be_wrong(service: str, month: str) -> bool:
    return _codes_are_words(service, month) or _codes_are_floats(month)


def _as_published(
    rows: dict[str, np.ndarray], odd: dict[str, np.ndarray], service: str, month: str
) -> pl.DataFrame:
    """The columns and types of the month's era."""
    words = _codes_are_words(service, month)
    whole = pl.Float64 if _codes_are_floats(month) else pl.Int64
    passengers = pl.Series(rows["passenger_count"]).cast(whole)
    payment = pl.Series(rows["payment"] + 1).cast(whole)
    if words:
        said = _PAYMENT_WORDS.get(month[:4], _LATER_PAYMENT_WORDS)
        payment = pl.Series([said[paid] for paid in rows["payment"]])
        payment[int(odd["unreadable"][0])] = "BARTER"
    elif _codes_are_floats(month):
        payment[int(odd["unreadable"][0])] = 1.5
    vendor = pl.Series(rows["vendor"])
    longitude, latitude = -73.95 + rows["coordinates"][:2], 40.75 + rows["coordinates"][2:]
    cells = {
        "vendor": vendor.replace_strict({1: "CMT", 2: "VTS"}) if words else vendor,
        "pickup_datetime": pl.Series(rows["pickup"]),
        "dropoff_datetime": pl.Series(rows["dropoff"]),
        "passenger_count": passengers,
        "trip_distance": pl.Series(rows["trip_distance"]),
        "pickup_longitude": pl.Series(longitude[0]).round(6),
        "dropoff_longitude": pl.Series(longitude[1]).round(6),
        "pickup_latitude": pl.Series(latitude[0]).round(6),
        "dropoff_latitude": pl.Series(latitude[1]).round(6),
        "rate_code": pl.Series(rows["rate_code"]).cast(whole),
        "store_and_fwd_flag": pl.Series(np.where(rows["stored"], "Y", "N")),
        "pulocationid": pl.Series(rows["pickup_zone"]),
        "dolocationid": pl.Series(rows["dropoff_zone"]),
        "payment_type": payment,
        "ehail_fee": pl.Series([None] * len(passengers), dtype=pl.Null),
        "trip_type": pl.Series(rows["trip_type"]).cast(whole),
        **{name: pl.Series(rows[name]) / 100 for name in _AMOUNTS},
        UNKNOWN_COLUMN: pl.Series(rows["vendor"] * 100),
    }
    cells["passenger_count"] = _without(passengers, rows["passengers_missing"])
    timeless = np.zeros(len(passengers), bool)
    timeless[odd["timeless"]] = True
    cells["pickup_datetime"] = _without(cells["pickup_datetime"], timeless)
    names = [*columns(service, month), *((UNKNOWN_COLUMN,) if _has_unknown_column(month) else ())]
    return pl.DataFrame({name: cells[_MEANINGS.get(_plain(name), _plain(name))] for name in names})


def _without(cells: pl.Series, missing: np.ndarray) -> pl.Series:
    return cells.set(pl.Series(missing), None)


def _plain(name: str) -> str:
    """The name without blanks, in lower case, and without the program that it comes from."""
    return name.strip().lower().removeprefix("tpep_").removeprefix("lpep_")


def _csv(frame: pl.DataFrame, service: str, month: str) -> bytes:
    """As the publisher wrote it: until 2014 a blank line below the header, and cells too many."""
    ends = "," * 2 * (service == "green" and month < "2015")
    lines = frame.write_csv(include_header=False, datetime_format="%Y-%m-%d %H:%M:%S").splitlines()
    blank = [""] * (month < "2015")
    header = ",".join(frame.columns)
    return "".join(
        f"{line}\r\n" for line in [header, *blank, *(f"{x}{ends}" for x in lines)]
    ).encode()
