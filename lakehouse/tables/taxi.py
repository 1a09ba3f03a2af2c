"""The tables of NYC taxi trips: objects, the warehouse, the relational database, gold."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import polars as pl

from lakehouse.resources.bigquery import BigQueryTable
from lakehouse.resources.clickhouse import Table
from lakehouse.resources.lake import LakeTable
from lakehouse.resources.postgres import PostgresTable
from lakehouse.tables.publication import Part, Publication
from lakehouse.tables.rejects import rejects_table
from lakehouse.transforms.delimited import ColumnType
from lakehouse.transforms.taxi import gold
from lakehouse.transforms.taxi.eras import SCHEMAS, SERVICES

OBJECTS = {service: f"taxi/objects/{service}_trips" for service in SERVICES}
"""The name of each service's cleaned trips, by which their contract is found."""

REJECTS = {service: rejects_table(f"taxi/rejects/{service}") for service in SERVICES}


def object_name(service: str, month: str) -> str:
    """Where the cleaned trips of a month are in the object store."""
    return f"data/{service}/{service}_tripdata_{month}.parquet"


_BIGQUERY: dict[ColumnType, str] = {
    pl.Boolean: "BOOL",
    pl.Date: "DATE",
    pl.Float64: "FLOAT64",
    pl.Int32: "INT64",
    pl.Int64: "INT64",
    pl.String: "STRING",
    pl.Datetime: "DATETIME",
}
_POSTGRES: dict[ColumnType, str] = {
    pl.Boolean: "boolean",
    pl.Date: "date",
    pl.Float64: "double precision",
    pl.Int32: "integer",
    pl.Int64: "bigint",
    pl.String: "text",
    pl.Datetime: "timestamp without time zone",
}


def _columns(service: str, types: dict[ColumnType, str]) -> dict[str, str]:
    return {name: types[dtype.base_type()] for name, dtype in SCHEMAS[service].items()}


def _about(service: str) -> str:
    return f"A row is a {service} trip; `month` is the first day of the month of its file."


BIGQUERY = {
    service: BigQueryTable(
        name=f"{service}_trips",
        columns=_columns(service, _BIGQUERY),
        cluster_by=("pickup_location_id",),
        description=_about(service),
    )
    for service in SERVICES
}

POSTGRES = {
    service: PostgresTable(
        schema="taxi",
        name=f"{service}_trips",
        columns=_columns(service, _POSTGRES),
        indexes=(("pickup_datetime",), ("pickup_location_id",)),
        comment=_about(service),
    )
    for service in SERVICES
}

_SERVICE = {"service": "LowCardinality(String)"}
_MONEY = {"trips": "UInt64", "revenue": "Nullable(Float64)"}
_TIPS = {"tips": "Nullable(Float64)", "tip_share": "Nullable(Float64)"}

CH_DAILY = Table(
    database="taxi",
    name="daily",
    columns=_SERVICE
    | {
        "date": "Date",
        "trips": "UInt64",
        "passengers": "Nullable(UInt64)",
        "distance_miles": "Nullable(Float64)",
        "fare": "Nullable(Float64)",
        "tips": "Nullable(Float64)",
        "revenue": "Nullable(Float64)",
        "tip_share": "Nullable(Float64)",
    },
    order_by=("service", "date"),
    partition_by="(service, toYYYYMM(date))",
    comment="Trips, passengers, miles and dollars of each day.",
)
CH_HOURLY = Table(
    database="taxi",
    name="hourly",
    columns=_SERVICE | {"month_start": "Date", "weekday": "UInt8", "hour": "UInt8"} | _MONEY,
    order_by=("service", "month_start", "weekday", "hour"),
    partition_by="(service, month_start)",
    comment="Trips and revenue of each hour of the week (Monday is 1) over a month.",
)
CH_ZONES = Table(
    database="taxi",
    name="zones",
    columns=_SERVICE
    | {"month_start": "Date", "location_id": "Int32", "borough": "String", "zone": "String"}
    | _MONEY,
    order_by=("service", "month_start", "location_id"),
    partition_by="(service, month_start)",
    comment="Trips and revenue of each pickup zone over a month.",
)
CH_PAYMENTS = Table(
    database="taxi",
    name="payments",
    columns=_SERVICE
    | {"month_start": "Date", "payment_type": "Nullable(Int64)", "payment_name": "String"}
    | _MONEY
    | _TIPS,
    order_by=("service", "month_start", "payment_name"),
    partition_by="(service, month_start)",
    comment="Trips, revenue and tips of each way of payment over a month.",
)


@dataclass(frozen=True)
class Gold:
    """A gold table of a service.

    Attributes:
        publication: The table in the lake, and what of it goes where in ClickHouse.
        make: Makes its rows of a service's trips, the month and the zones.
    """

    publication: Publication
    make: Callable[[pl.LazyFrame, str, pl.DataFrame], pl.DataFrame]


def _by_month_number(service: str) -> Callable[[str], list[Part]]:
    return lambda month: [Part((service, int(month.replace("-", ""))), pl.lit(value=True))]


def _by_month_start(service: str) -> Callable[[str], list[Part]]:
    return lambda month: [Part((service, date.fromisoformat(f"{month}-01")), pl.lit(value=True))]


def gold_tables(service: str) -> dict[str, Gold]:
    """The gold tables of a service by name; how a trip was paid, not all say."""

    def lake_table(name: str, schema: pl.Schema) -> LakeTable:
        return LakeTable(f"taxi/gold/{service}_{name}", schema)

    number, start = _by_month_number(service), _by_month_start(service)
    tables = {
        "daily": Gold(
            Publication(lake_table("daily", gold.DAILY), CH_DAILY, number),
            lambda trips, month, zones: gold.daily(trips, service),
        ),
        "hourly": Gold(
            Publication(lake_table("hourly", gold.HOURLY), CH_HOURLY, start),
            lambda trips, month, zones: gold.hourly(trips, service, month),
        ),
        "zones": Gold(
            Publication(lake_table("zones", gold.ZONES), CH_ZONES, start),
            lambda trips, month, zones: gold.by_zone(trips, service, month, zones),
        ),
    }
    if service in gold.PAID_SERVICES:
        tables["payments"] = Gold(
            Publication(lake_table("payments", gold.PAYMENTS), CH_PAYMENTS, start),
            lambda trips, month, zones: gold.payments(trips, service, month),
        )
    return tables
