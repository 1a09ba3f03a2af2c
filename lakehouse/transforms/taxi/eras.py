"""The columns of NYC taxi trips over the eras, and which of them a file has.

One table for each service says what every canonical column is called in the publisher's files, and
from which month to which the publisher has it. A name is found whatever its case and the blanks
around it; the canonical name itself is one too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from lakehouse.errors import SourceRefusedError
from lakehouse.transforms.delimited import ColumnType

FIRST_MONTHS: Mapping[str, str] = {
    "yellow": "2009-01",
    "green": "2013-08",
    "fhv": "2015-01",
    "fhvhv": "2019-02",
}
"""The services, and the first month that the publisher has of each."""

SERVICES = tuple(FIRST_MONTHS)

TIMESTAMP = pl.Datetime("us")
"""New York's local time, which the publisher writes without a zone."""


@dataclass(frozen=True)
class Column:
    """A canonical column.

    Attributes:
        name: Its canonical name.
        dtype: Its type.
        names: What the publisher calls it, over the eras.
        about: What it is.
        first: The first month that has it; without one, all have from the service's first on.
        last: The last month that has it; without one, it is still there.
        form: The only form that has it; without one, both. The Parquet files, published again in
            2022, have zones instead of coordinates from 2011 on.
    """

    name: str
    dtype: ColumnType
    names: tuple[str, ...]
    about: str
    first: str | None = None
    last: str | None = None
    form: Literal["csv", "parquet"] | None = None

    def in_month(self, month: str) -> bool:
        """Whether the publisher has it in that month, in both forms."""
        return (
            self.form is None and (self.first or month) <= month and month <= (self.last or month)
        )


def _column(
    name: str,
    dtype: ColumnType,
    names: str,
    about: str,
    *,
    first: str | None = None,
    last: str | None = None,
    form: Literal["csv", "parquet"] | None = None,
) -> Column:
    return Column(name, dtype, tuple(names.split()), about, first, last, form)


_LAST_COORDINATES = "2016-06"
_FIRST_ZONES = "2016-07"


def _coordinate(name: str, names: str, about: str) -> Column:
    return _column(name, pl.Float64, names, about, last=_LAST_COORDINATES)


_VENDOR = (
    "who made the taximeter: CMT, VTS, DDS; from 2015 on (green always) the publisher's number"
)
_PICKUP = "when the meter was started, New York's local time"
_DROPOFF = "when the meter was stopped, New York's local time"
_PASSENGERS = "passengers, as the driver entered them; 0 where missing"
_RATE = "1 standard, 2 JFK, 3 Newark, 4 Nassau or Westchester, 5 negotiated, 6 group, 99 unknown"
_STORED = "Y where the trip was stored in the vehicle before it was sent, else N"
_PAYMENT = (
    "0 flex fare, 1 credit card, 2 cash, 3 no charge, 4 dispute, 5 unknown, 6 voided; until 2014"
    " texts"
)
_FROM_ZONE = "zone of the pickup, as in the lookup"
_TO_ZONE = "zone of the dropoff, as in the lookup"
_CONGESTION = "New York State's congestion surcharge"
_CBD = "the MTA's charge for entering the congestion relief zone"

_YELLOW = (
    _column("vendor_id", pl.String, "vendor_name vendor_id VendorID", _VENDOR),
    _column(
        "pickup_datetime",
        TIMESTAMP,
        "Trip_Pickup_DateTime pickup_datetime tpep_pickup_datetime",
        _PICKUP,
    ),
    _column(
        "dropoff_datetime",
        TIMESTAMP,
        "Trip_Dropoff_DateTime dropoff_datetime tpep_dropoff_datetime",
        _DROPOFF,
    ),
    _column("passenger_count", pl.Int64, "Passenger_Count", _PASSENGERS),
    _column("trip_distance", pl.Float64, "Trip_Distance", "miles, by the meter"),
    _coordinate("pickup_longitude", "Start_Lon pickup_longitude", "degrees, where it began"),
    _coordinate("pickup_latitude", "Start_Lat pickup_latitude", "degrees, where it began"),
    _column("rate_code", pl.Int64, "Rate_Code RatecodeID rate_code_id", _RATE),
    _column("store_and_fwd_flag", pl.String, "store_and_forward store_and_fwd_flag", _STORED),
    _coordinate("dropoff_longitude", "End_Lon dropoff_longitude", "degrees, where it ended"),
    _coordinate("dropoff_latitude", "End_Lat dropoff_latitude", "degrees, where it ended"),
    _column("pickup_location_id", pl.Int32, "PULocationID", _FROM_ZONE, first=_FIRST_ZONES),
    _column("dropoff_location_id", pl.Int32, "DOLocationID", _TO_ZONE, first=_FIRST_ZONES),
    _column("payment_type", pl.Int64, "Payment_Type", _PAYMENT),
    _column("fare_amount", pl.Float64, "Fare_Amt fare_amount", "dollars, by the meter"),
    _column("extra", pl.Float64, "surcharge extra", "dollars: rush hour, night, other extras"),
    _column("mta_tax", pl.Float64, "mta_tax", "dollars: the MTA's tax"),
    _column("tip_amount", pl.Float64, "Tip_Amt tip_amount", "dollars, by card alone"),
    _column("tolls_amount", pl.Float64, "Tolls_Amt tolls_amount", "dollars: all tolls"),
    _column(
        "improvement_surcharge",
        pl.Float64,
        "improvement_surcharge",
        "dollars: for accessible taxis",
        first="2015-01",
    ),
    _column("total_amount", pl.Float64, "Total_Amt total_amount", "dollars, without cash tips"),
    _column(
        "congestion_surcharge",
        pl.Float64,
        "congestion_surcharge",
        f"dollars: {_CONGESTION}",
        first="2019-01",
    ),
    _column(
        "airport_fee",
        pl.Float64,
        "airport_fee",
        "dollars: for pickups at LaGuardia and JFK",
        first="2019-01",
        form="parquet",
    ),
    _column(
        "cbd_congestion_fee", pl.Float64, "cbd_congestion_fee", f"dollars: {_CBD}", first="2025-01"
    ),
)

_GREEN = (
    _column("vendor_id", pl.String, "VendorID", _VENDOR),
    _column("pickup_datetime", TIMESTAMP, "lpep_pickup_datetime", _PICKUP),
    _column("dropoff_datetime", TIMESTAMP, "Lpep_dropoff_datetime", _DROPOFF),
    _column("store_and_fwd_flag", pl.String, "Store_and_fwd_flag", _STORED),
    _column("rate_code", pl.Int64, "RateCodeID", _RATE),
    _coordinate("pickup_longitude", "Pickup_longitude", "degrees, where it began"),
    _coordinate("pickup_latitude", "Pickup_latitude", "degrees, where it began"),
    _coordinate("dropoff_longitude", "Dropoff_longitude", "degrees, where it ended"),
    _coordinate("dropoff_latitude", "Dropoff_latitude", "degrees, where it ended"),
    _column("pickup_location_id", pl.Int32, "PULocationID", _FROM_ZONE, first=_FIRST_ZONES),
    _column("dropoff_location_id", pl.Int32, "DOLocationID", _TO_ZONE, first=_FIRST_ZONES),
    _column("passenger_count", pl.Int64, "Passenger_count", _PASSENGERS),
    _column("trip_distance", pl.Float64, "Trip_distance", "miles, by the meter"),
    _column("fare_amount", pl.Float64, "Fare_amount", "dollars, by the meter"),
    _column("extra", pl.Float64, "Extra", "dollars: rush hour, night, other extras"),
    _column("mta_tax", pl.Float64, "MTA_tax", "dollars: the MTA's tax"),
    _column("tip_amount", pl.Float64, "Tip_amount", "dollars, by card alone"),
    _column("tolls_amount", pl.Float64, "Tolls_amount", "dollars: all tolls"),
    _column("ehail_fee", pl.Float64, "Ehail_fee", "dollars; hardly ever there"),
    _column(
        "improvement_surcharge",
        pl.Float64,
        "improvement_surcharge",
        "dollars: for accessible taxis",
        first="2015-01",
    ),
    _column("total_amount", pl.Float64, "Total_amount", "dollars, without cash tips"),
    _column("payment_type", pl.Int64, "Payment_type", _PAYMENT),
    _column("trip_type", pl.Int64, "Trip_type", "1 hailed in the street, 2 dispatched"),
    _column(
        "congestion_surcharge",
        pl.Float64,
        "congestion_surcharge",
        f"dollars: {_CONGESTION}",
        first="2019-01",
    ),
    _column(
        "cbd_congestion_fee", pl.Float64, "cbd_congestion_fee", f"dollars: {_CBD}", first="2025-01"
    ),
)

_FHV = (
    _column(
        "dispatching_base_num",
        pl.String,
        "Dispatching_base_num",
        "licence of the base that sent the vehicle",
    ),
    _column(
        "pickup_datetime", TIMESTAMP, "Pickup_date Pickup_DateTime", "when the trip began, local"
    ),
    _column(
        "dropoff_datetime",
        TIMESTAMP,
        "DropOff_datetime",
        "when the trip ended, local",
        first="2017-01",
    ),
    _column("pickup_location_id", pl.Int32, "locationID PULocationID", _FROM_ZONE),
    _column("dropoff_location_id", pl.Int32, "DOLocationID", _TO_ZONE, first="2017-01"),
    _column("sr_flag", pl.Int64, "SR_Flag", "1 where the ride was shared", first="2017-07"),
    _column(
        "dispatching_base_number",
        pl.String,
        "Dispatching_base_number",
        "2018's second base; mostly the only one that is filled",
        first="2018-01",
        last="2018-12",
    ),
    _column(
        "affiliated_base_number",
        pl.String,
        "Affiliated_base_number",
        "licence of the base that the vehicle belongs to",
        form="parquet",
    ),
)


def _fhvhv_parquet(name: str, dtype: ColumnType, about: str) -> Column:
    return _column(name.lower(), dtype, name, about, form="parquet")


_FHVHV = (
    _column(
        "hvfhs_license_num",
        pl.String,
        "hvfhs_license_num",
        "HV0002 Juno, HV0003 Uber, HV0004 Via, HV0005 Lyft",
    ),
    _column(
        "dispatching_base_num",
        pl.String,
        "dispatching_base_num",
        "licence of the base that sent the vehicle",
    ),
    _fhvhv_parquet("originating_base_num", pl.String, "base that was asked for the trip"),
    _fhvhv_parquet("request_datetime", TIMESTAMP, "when the trip was asked for, local"),
    _fhvhv_parquet("on_scene_datetime", TIMESTAMP, "when the driver arrived, local"),
    _column("pickup_datetime", TIMESTAMP, "pickup_datetime", "when the trip began, local"),
    _column("dropoff_datetime", TIMESTAMP, "dropoff_datetime", "when the trip ended, local"),
    _column("pickup_location_id", pl.Int32, "PULocationID", _FROM_ZONE),
    _column("dropoff_location_id", pl.Int32, "DOLocationID", _TO_ZONE),
    _column("sr_flag", pl.Int64, "SR_Flag", "1 where the ride was shared", form="csv"),
    _fhvhv_parquet("trip_miles", pl.Float64, "miles with the passenger"),
    _fhvhv_parquet("trip_time", pl.Int64, "seconds with the passenger"),
    _fhvhv_parquet("base_passenger_fare", pl.Float64, "dollars, before all that follows"),
    _fhvhv_parquet("tolls", pl.Float64, "dollars: all tolls"),
    _fhvhv_parquet("bcf", pl.Float64, "dollars: for the Black Car Fund"),
    _fhvhv_parquet("sales_tax", pl.Float64, "dollars: New York State's sales tax"),
    _fhvhv_parquet("congestion_surcharge", pl.Float64, f"dollars: {_CONGESTION}"),
    _fhvhv_parquet("airport_fee", pl.Float64, "dollars: at LaGuardia, JFK and Newark"),
    _fhvhv_parquet("tips", pl.Float64, "dollars"),
    _fhvhv_parquet("driver_pay", pl.Float64, "dollars, without tolls, tips and taxes"),
    _fhvhv_parquet("shared_request_flag", pl.String, "Y where the passenger agreed to share"),
    _fhvhv_parquet("shared_match_flag", pl.String, "Y where the ride was shared"),
    _fhvhv_parquet("access_a_ride_flag", pl.String, "Y where the MTA's Access-A-Ride asked"),
    _fhvhv_parquet("wav_request_flag", pl.String, "Y where a wheelchair place was asked for"),
    _fhvhv_parquet("wav_match_flag", pl.String, "Y where a wheelchair place was given"),
    _column(
        "cbd_congestion_fee", pl.Float64, "cbd_congestion_fee", f"dollars: {_CBD}", first="2025-01"
    ),
)

COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "yellow": _YELLOW,
    "green": _GREEN,
    "fhv": _FHV,
    "fhvhv": _FHVHV,
}
"""The canonical columns of each service, as the publisher has them."""

_METERED = (
    *("pickup_datetime", "dropoff_datetime", "passenger_count", "trip_distance", "payment_type"),
    *("fare_amount", "tip_amount", "total_amount"),
)
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "yellow": _METERED,
    "green": _METERED,
    "fhv": ("dispatching_base_num", "pickup_datetime", "pickup_location_id"),
    "fhvhv": (
        *("hvfhs_license_num", "pickup_datetime", "dropoff_datetime"),
        *("pickup_location_id", "dropoff_location_id"),
    ),
}
"""Without these a file is not the service's; every era has them."""

FLAGS = (
    "pickup_outside_month",
    "dropoff_before_pickup",
    "negative_total",
    "distance_over_1000_miles",
    "unknown_zone",
)
"""What makes a trip doubtful; none is left out for it."""

_ORIGIN: dict[str, ColumnType] = {"_row": pl.Int64, "_unreadable": pl.String}


def _schema(service: str) -> pl.Schema:
    columns = {column.name: column.dtype for column in COLUMNS[service]}
    missing = {"passenger_count_missing": pl.Boolean} if "passenger_count" in columns else {}
    return pl.Schema(
        {"month": pl.Date, **columns, **missing, **dict.fromkeys(FLAGS, pl.Boolean), **_ORIGIN}
    )


SCHEMAS: Mapping[str, pl.Schema] = {service: _schema(service) for service in SERVICES}
"""The canonical trips of each service.

`month` is the first day of the file's month; `_row` the row of the Parquet file, from 1 on, or the
line of the CSV, whose header is 1; `_unreadable` a JSON object of the cells that could not be read,
null where all could. Columns that no era has come behind these.
"""


@dataclass(frozen=True)
class Layout:
    """How the columns of a file map to the canonical ones of its service.

    Attributes:
        names: The file's name of each canonical column that it has.
        unknown: The file's name of each column that no era has, by its name without blanks.
        missing: Canonical columns that files of the month have, and this one has not.
    """

    names: Mapping[str, str]
    unknown: Mapping[str, str]
    missing: tuple[str, ...]

    @property
    def by_file(self) -> dict[str, str]:
        """The name of each column of the file in the canonical trips."""
        return {there: name for name, there in (*self.names.items(), *self.unknown.items())}


def expected(service: str, month: str) -> tuple[str, ...]:
    """The canonical columns that the publisher's files of a month such as `2014-03` have."""
    return tuple(column.name for column in COLUMNS[service] if column.in_month(month))


def recognise(columns: Sequence[str], service: str, month: str) -> Layout:
    """Map the columns of a file to those of its service.

    Raises:
        SourceRefusedError: They are not this service's, or two of them are the same.
    """
    known = _names(service)
    named = [(known.get(_folded(there), there.strip()), there) for there in columns]
    _refuse_others(columns, service)
    there_are = {name for name, _ in named}
    if missing := [name for name in REQUIRED[service] if name not in there_are]:
        raise SourceRefusedError(_says_not(service, columns, f"no column for {', '.join(missing)}"))
    found: dict[str, str] = {}
    for name, there in named:
        if twin := next((other for other in found if _folded(other) == _folded(name)), None):
            raise SourceRefusedError(
                f"the file has two columns that are both {twin}: {found[twin]!r} and {there!r};"
                " rename or remove one"
            )
        found[name] = there
    canonical = {column.name for column in COLUMNS[service]}
    unknown = {name: there for name, there in found.items() if name not in canonical}
    if ours := [name for name in unknown if name.lower() in SCHEMAS[service]]:
        raise SourceRefusedError(
            f"the file has the column {', '.join(map(repr, ours))}, a name of the lakehouse's:"
            " was it cleaned before? Put the publisher's file there"
        )
    return Layout(
        names={name: there for name, there in found.items() if name in canonical},
        unknown=unknown,
        missing=tuple(
            column.name
            for column in COLUMNS[service]
            if column.in_month(month)
            and column.name not in found
            # Where the file has zones, it has no coordinates, and the other way round.
            and column.last is None
            and column.first != _FIRST_ZONES
        ),
    )


def _refuse_others(columns: Sequence[str], service: str) -> None:
    """Refuse a file of which another service knows more columns."""
    known = {other: _known(columns, other) for other in SERVICES}
    best = max(SERVICES, key=known.__getitem__)
    if known[best] > known[service]:
        raise SourceRefusedError(
            _says_not(
                service,
                columns,
                f"the columns of {best} trips"
                f" ({known[best]} of its {len(columns)} are known there, {known[service]} here)",
            )
        )


def _known(columns: Sequence[str], service: str) -> int:
    return sum(_folded(name) in _names(service) for name in columns)


def _says_not(service: str, columns: Sequence[str], why: str) -> str:
    begins = ", ".join(name.strip() for name in columns[:6])[:200]
    return (
        f"this is no file of {service} trips: it has {why}; its columns begin {begins}."
        " Look whether the right file stands under this name"
    )


def _names(service: str) -> dict[str, str]:
    """Canonical name by each folded name of the publisher's."""
    return {
        _folded(name): column.name
        for column in COLUMNS[service]
        for name in (column.name, *column.names)
    }


def _folded(name: str) -> str:
    return name.strip().lower()
