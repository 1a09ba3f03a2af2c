"""The contracts of NYC taxi trips, as pandera models.

They hold what the transforms promise. What the publisher's meters report, however odd, breaks none
of them: it is flagged, and the checks count the flags.
"""

import pandera.polars as pa
import polars as pl

from lakehouse.transforms.taxi.eras import SERVICES
from lakehouse.transforms.taxi.gold import PAID_SERVICES

_MONTH = r"^\d{4}-\d{2}$"


class _Trips(pa.DataFrameModel):
    """What holds for the trips of every service."""

    month: pl.Date
    pickup_datetime: pl.Datetime
    dropoff_datetime: pl.Datetime = pa.Field(nullable=True)
    pickup_location_id: pl.Int32 = pa.Field(nullable=True)
    dropoff_location_id: pl.Int32 = pa.Field(nullable=True)
    pickup_outside_month: pl.Boolean
    dropoff_before_pickup: pl.Boolean
    negative_total: pl.Boolean
    distance_over_1000_miles: pl.Boolean
    unknown_zone: pl.Boolean
    row: pl.Int64 = pa.Field(alias="_row", ge=1)
    unreadable: str = pa.Field(alias="_unreadable", nullable=True)

    class Config:
        """A row of the file is one trip."""

        unique = ["_row"]  # noqa: RUF012

    @pa.dataframe_check
    @classmethod
    def month_is_a_first_day(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """A month is named by its first day."""
        return data.lazyframe.select(pl.col("month").dt.day() == 1)

    @pa.dataframe_check
    @classmethod
    def flags_tell_the_times(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """Pickups outside the month, and dropoffs before the pickup, are flagged; no others are."""
        pickup, dropoff = pl.col("pickup_datetime"), pl.col("dropoff_datetime")
        outside = pickup.dt.truncate("1mo").dt.date() != pl.col("month")
        before = (dropoff < pickup).fill_null(value=False)
        return data.lazyframe.select(
            (outside == pl.col("pickup_outside_month"))
            & (before == pl.col("dropoff_before_pickup"))
        )


class _MeteredTrips(_Trips):
    """Trips of taxis."""

    vendor_id: str = pa.Field(nullable=True)
    passenger_count: pl.Int64
    passenger_count_missing: pl.Boolean
    payment_type: pl.Int64 = pa.Field(nullable=True)
    store_and_fwd_flag: str = pa.Field(nullable=True, isin=["Y", "N"])
    trip_distance: float = pa.Field(nullable=True)
    fare_amount: float = pa.Field(nullable=True)
    total_amount: float = pa.Field(nullable=True)

    @pa.dataframe_check
    @classmethod
    def missing_passengers_are_none(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """Where the number of passengers is missing, it is 0."""
        return data.lazyframe.select(
            ~pl.col("passenger_count_missing") | (pl.col("passenger_count") == 0)
        )

    @pa.dataframe_check
    @classmethod
    def flags_tell_the_amounts(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """Negative totals and more than 1,000 miles are flagged; no others are."""
        negative = (pl.col("total_amount") < 0).fill_null(value=False)
        far = (pl.col("trip_distance") > 1000).fill_null(value=False)
        return data.lazyframe.select(
            (negative == pl.col("negative_total")) & (far == pl.col("distance_over_1000_miles"))
        )


class YellowTrips(_MeteredTrips):
    """A trip of a yellow taxi."""


class GreenTrips(_MeteredTrips):
    """A trip of a green taxi."""

    trip_type: pl.Int64 = pa.Field(nullable=True)


class FhvTrips(_Trips):
    """A trip of a for-hire vehicle."""

    dispatching_base_num: str = pa.Field(nullable=True)


class FhvhvTrips(_Trips):
    """A trip of a high-volume for-hire service."""

    hvfhs_license_num: str = pa.Field(nullable=True)
    trip_miles: float = pa.Field(nullable=True)
    base_passenger_fare: float = pa.Field(nullable=True)


class Zones(pa.DataFrameModel):
    """The lookup that trips name by number."""

    location_id: pl.Int32 = pa.Field(ge=1, unique=True)
    borough: str
    zone: str
    service_zone: str


class _Gold(pa.DataFrameModel):
    """What holds for the gold tables."""

    service: str = pa.Field(isin=list(SERVICES))
    trips: pl.Int64 = pa.Field(ge=1)
    revenue: float = pa.Field(nullable=True)
    month: str = pa.Field(str_matches=_MONTH)


class _GoldOfMonth(_Gold):
    """What holds for sums over a month."""

    month_start: pl.Date

    @pa.dataframe_check
    @classmethod
    def month_start_begins_the_month(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """The month's first day is that of the month."""
        return data.lazyframe.select(pl.col("month_start").dt.to_string("%Y-%m-%d") == _first_day())


class Daily(_Gold):
    """Trips, passengers, miles and dollars of a day."""

    date: pl.Date = pa.Field(unique=True)
    passengers: pl.Int64 = pa.Field(nullable=True)
    distance_miles: float = pa.Field(nullable=True)
    fare: float = pa.Field(nullable=True)
    tips: float = pa.Field(nullable=True)
    tip_share: float = pa.Field(nullable=True)

    @pa.dataframe_check
    @classmethod
    def days_are_of_the_month(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """Days lie in their month."""
        return data.lazyframe.select(pl.col("date").dt.to_string("%Y-%m") == pl.col("month"))


class Hourly(_GoldOfMonth):
    """Trips and revenue of an hour of the week."""

    weekday: pl.Int8 = pa.Field(ge=1, le=7)
    hour: pl.Int8 = pa.Field(ge=0, le=23)

    class Config:
        """An hour of the week stands once."""

        unique = ["weekday", "hour"]  # noqa: RUF012


class ZoneTrips(_GoldOfMonth):
    """Trips and revenue of a pickup zone; location 0 is none."""

    location_id: pl.Int32 = pa.Field(unique=True)
    borough: str
    zone: str


class Payments(_GoldOfMonth):
    """Trips, revenue and tips of a way of payment."""

    service: str = pa.Field(isin=list(PAID_SERVICES))
    payment_type: pl.Int64 = pa.Field(nullable=True)
    payment_name: str = pa.Field(unique=True)
    tips: float = pa.Field(nullable=True)
    tip_share: float = pa.Field(nullable=True)


def _first_day() -> pl.Expr:
    return pl.col("month") + "-01"


_TRIPS = {"yellow": YellowTrips, "green": GreenTrips, "fhv": FhvTrips, "fhvhv": FhvhvTrips}
_GOLD = {"daily": Daily, "hourly": Hourly, "zones": ZoneTrips, "payments": Payments}

CONTRACTS: dict[str, type[pa.DataFrameModel]] = {
    "taxi/raw/zones": Zones,
    **{f"taxi/objects/{service}_trips": trips for service, trips in _TRIPS.items()},
    **{
        f"taxi/gold/{service}_{name}": table
        for service in SERVICES
        for name, table in _GOLD.items()
        if name != "payments" or service in PAID_SERVICES
    },
}
"""The contract of each table."""
