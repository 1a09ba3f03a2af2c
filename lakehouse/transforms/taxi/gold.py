"""Canonical trips to what readers see: by day, hour of the week, zone and way of payment.

Only trips whose pickup lies in the month of their file are counted; the flag
`pickup_outside_month` counts the others.

Sums are exact: each amount is rounded to cents (each distance to thousandths of a mile) and summed
as a whole number. Summed as floats they would differ in their last digits from run to run, since
the streaming engine adds them up in no fixed order. A sum over trips of which none has the amount
is null.
"""

from datetime import date

import polars as pl

from lakehouse.transforms.delimited import ColumnType
from lakehouse.transforms.taxi.trips import PAYMENT_NAMES, distance, total

MONEY: dict[str, ColumnType] = {"trips": pl.Int64, "revenue": pl.Float64}

DAILY = pl.Schema(
    {
        "service": pl.String,
        "date": pl.Date,
        "trips": pl.Int64,
        "passengers": pl.Int64,
        "distance_miles": pl.Float64,
        "fare": pl.Float64,
        "tips": pl.Float64,
        "revenue": pl.Float64,
        "tip_share": pl.Float64,
        "month": pl.String,
    }
)
HOURLY = pl.Schema(
    {
        "service": pl.String,
        "month_start": pl.Date,
        "weekday": pl.Int8,
        "hour": pl.Int8,
        **MONEY,
        "month": pl.String,
    }
)
ZONES = pl.Schema(
    {
        "service": pl.String,
        "month_start": pl.Date,
        "location_id": pl.Int32,
        "borough": pl.String,
        "zone": pl.String,
        **MONEY,
        "month": pl.String,
    }
)
PAYMENTS = pl.Schema(
    {
        "service": pl.String,
        "month_start": pl.Date,
        "payment_type": pl.Int64,
        "payment_name": pl.String,
        **MONEY,
        "tips": pl.Float64,
        "tip_share": pl.Float64,
        "month": pl.String,
    }
)

PAID_SERVICES = ("yellow", "green")
"""The services that say how a trip was paid."""

NO_ZONE = 0
"""The location id of trips that have none, as all have until the middle of 2016 in the CSVs."""

_FARES = {"yellow": "fare_amount", "green": "fare_amount", "fhvhv": "base_passenger_fare"}
_TIPS = {"yellow": "tip_amount", "green": "tip_amount", "fhvhv": "tips"}

_PER_DOLLAR = 100
_PER_MILE = 1000


def daily(trips: pl.LazyFrame, service: str) -> pl.DataFrame:
    """Trips, passengers, miles and dollars of each day; as `DAILY` without month."""
    passengers = "passenger_count" in trips.collect_schema()
    return _shaped(
        _inside(trips)
        .group_by(pl.col("pickup_datetime").dt.date().alias("date"))
        .agg(
            _trips(),
            (pl.col("passenger_count").sum() if passengers else pl.lit(None, dtype=pl.Int64)).alias(
                "passengers"
            ),
            _sum(distance(service), _PER_MILE).alias("distance_miles"),
            _sum(_amount(_FARES, service), _PER_DOLLAR).alias("fare"),
            _sum(_amount(_TIPS, service), _PER_DOLLAR).alias("tips"),
            _revenue(service),
        )
        .with_columns(_tip_share()),
        DAILY,
        service,
    ).sort("date")


def hourly(trips: pl.LazyFrame, service: str, month: str) -> pl.DataFrame:
    """Trips and revenue of each hour of the week over the month; as `HOURLY` without month."""
    pickup = pl.col("pickup_datetime")
    return _shaped(
        _inside(trips)
        .group_by(pickup.dt.weekday().alias("weekday"), pickup.dt.hour().alias("hour"))
        .agg(_trips(), _revenue(service)),
        HOURLY,
        service,
        month,
    ).sort("weekday", "hour")


def by_zone(trips: pl.LazyFrame, service: str, month: str, lookup: pl.DataFrame) -> pl.DataFrame:
    """Trips and revenue of each pickup zone over the month; as `ZONES` without month.

    Borough and zone of a location that the lookup does not have are `Unknown`.
    """
    return _shaped(
        _inside(trips)
        .group_by(pl.col("pickup_location_id").fill_null(NO_ZONE).alias("location_id"))
        .agg(_trips(), _revenue(service))
        .join(lookup.lazy(), on="location_id", how="left")
        .with_columns(pl.col("borough", "zone").fill_null("Unknown")),
        ZONES,
        service,
        month,
    ).sort("location_id")


def payments(trips: pl.LazyFrame, service: str, month: str) -> pl.DataFrame:
    """Trips, revenue and tips of each way of payment; as `PAYMENTS` without month.

    `payment_type` is null and `payment_name` is `Not reported` where a trip does not say.
    """
    code = pl.col("payment_type")
    names = code.replace_strict(
        PAYMENT_NAMES, default=pl.format("Code {}", code), return_dtype=pl.String
    )
    return _shaped(
        _inside(trips)
        .group_by("payment_type")
        .agg(
            _trips(),
            _revenue(service),
            _sum(_amount(_TIPS, service), _PER_DOLLAR).alias("tips"),
        )
        .with_columns(_tip_share(), names.fill_null("Not reported").alias("payment_name")),
        PAYMENTS,
        service,
        month,
    ).sort("payment_type", nulls_last=True)


def _inside(trips: pl.LazyFrame) -> pl.LazyFrame:
    return trips.filter(~pl.col("pickup_outside_month"))


def _trips() -> pl.Expr:
    return pl.len().cast(pl.Int64).alias("trips")


def _amount(names: dict[str, str], service: str) -> pl.Expr:
    return pl.col(names[service]) if service in names else pl.lit(None, dtype=pl.Float64)


def _revenue(service: str) -> pl.Expr:
    return _sum(total(service), _PER_DOLLAR).alias("revenue")


def _sum(amounts: pl.Expr, parts: int) -> pl.Expr:
    """The exact sum of amounts that are rounded to so many parts of a unit."""
    whole = (amounts * parts).round().cast(pl.Int64)
    return pl.when(amounts.is_not_null().any()).then(whole.sum() / parts)


def _tip_share() -> pl.Expr:
    """Tips per dollar of revenue; null where there is no revenue."""
    revenue = pl.col("revenue")
    return pl.when(revenue != 0).then(pl.col("tips") / revenue).alias("tip_share")


def _shaped(
    rows: pl.LazyFrame, table: pl.Schema, service: str, month: str | None = None
) -> pl.DataFrame:
    """The columns of a table without its partition, in their order and types."""
    known = {"service": pl.lit(service)}
    if month is not None:
        known["month_start"] = pl.lit(date.fromisoformat(f"{month}-01"))
    return rows.select(
        known.get(name, pl.col(name)).cast(dtype).alias(name)
        for name, dtype in table.items()
        if name != "month"
    ).collect(engine="streaming")
