"""The application behind a real server, for tests; and small tables to read."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import httpx
import polars as pl
import uvicorn

from lakehouse.resources.clickhouse import ClickHouse, Table
from lakehouse.serving.app import create_app
from lakehouse.settings import Settings
from lakehouse.tables import drives, taxi

DAYS = [date(2018, 1, 30) + timedelta(days=n) for n in range(4)]
BRAND_DAYS = [
    (DAYS[0], "Seagate", 60, 0),
    (DAYS[0], "HGST", 40, 0),
    (DAYS[1], "Seagate", 60, 1),
    (DAYS[1], "HGST", 41, 0),
]
YEARS = [
    (2018, "Seagate", 60, 6000, 3),
    (2018, "HGST", 40, 4000, 1),
    (2019, "Seagate", 70, 25000, 2),
]
RATES = [
    # period, first day, model, maker, drives, drive days, failures
    ("quarter", date(2018, 1, 1), "ST4000DM000", "Seagate", 60, 6000, 3),
    ("quarter", date(2018, 1, 1), "HGST HMS5C4040BLE640", "HGST", 40, 4000, 1),
    ("year", date(2018, 1, 1), "ST4000DM000", "Seagate", 60, 6000, 3),
]

_SALES_COLUMNS = {
    "invoice_no": "String",
    "invoice_date": "DateTime64(0, 'UTC')",
    "product_key": "UInt8",
    "customer_key": "UInt8",
    "country_key": "UInt8",
    "quantity": "Int32",
    "total_amount": "Decimal(18, 4)",
}


def _mart(database: str, name: str, columns: dict[str, str], key: str, parts: str) -> Table:
    return Table(database, name, columns, (key,), parts, "As dbt makes it, as far as it is read.")


FACT_SALES = _mart("marts", "Fact_Sales", _SALES_COLUMNS, "invoice_no", "tuple()")
FACT_RETURNS = _mart("marts", "Fact_Sale_Returns", _SALES_COLUMNS, "invoice_no", "tuple()")
DIM_PRODUCT = _mart(
    "marts",
    "Dim_Product",
    {"product_key": "UInt8", "stock_code": "String", "description": "Nullable(String)"},
    *("product_key", "tuple()"),
)
DIM_COUNTRY = _mart(
    "marts",
    "Dim_Country",
    {"country_key": "UInt8", "country_name": "String"},
    *("country_key", "tuple()"),
)
SALES_SUMMARY = _mart(
    "quality",
    "sales_summary",
    {
        "sales_date": "Date",
        "min_total_amount": "Decimal(18, 4)",
        "max_total_amount": "Decimal(18, 4)",
        "median_total_amount": "Float64",
        "avg_total_amount": "Float64",
        "volume": "Decimal(38, 4)",
    },
    *("sales_date", "tuple()"),
)
DATA_QUALITY = _mart(
    "quality",
    "data_quality",
    {
        "check_date": "Date",
        "missing_customer_id_ratio": "Nullable(Float64)",
        "anomaly_unit_price_count": "UInt64",
        "anomaly_quantity_count": "UInt64",
    },
    *("check_date", "tuple()"),
)


def fill_drives(settings: Settings) -> None:
    """Four days over the end of a month, three brand years, three rates; not in order."""
    clickhouse = ClickHouse(settings)
    days = pl.DataFrame(
        {"date": DAYS, "drive_count": [100, 101, 102, 103], "drive_failures": [0, 1, 0, 2]}
    )
    for month in (2, 1):
        rows = days.filter(pl.col("date").dt.month() == month)
        clickhouse.replace_partition(drives.CH_DAILY_SUMMARY, (201800 + month,), rows, "test")
    rows = pl.DataFrame(
        BRAND_DAYS, schema=list(drives.CH_DAILY_BRAND_SUMMARY.columns), orient="row"
    )
    clickhouse.replace_partition(drives.CH_DAILY_BRAND_SUMMARY, (201801,), rows, "test")
    for year in (2019, 2018):
        rows = pl.DataFrame(
            [row for row in YEARS if row[0] == year],
            schema=list(drives.CH_YEARLY_SUMMARY.columns),
            orient="row",
        )
        clickhouse.replace_partition(drives.CH_YEARLY_SUMMARY, (year,), rows, "test")
    for period in ("year", "quarter"):
        rows = pl.DataFrame(
            [(*row, 2.5, 1.25, 4.75) for row in RATES if row[0] == period],
            schema=list(drives.CH_FAILURE_RATES.columns),
            orient="row",
        )
        partition = (period, date(2018, 1, 1))
        clickhouse.replace_partition(drives.CH_FAILURE_RATES, partition, rows, "test")


def fill_taxi(settings: Settings) -> None:
    """Two green days; hours, zones and payments of two green months; an fhv day without money."""
    clickhouse = ClickHouse(settings)
    for service, month, amounts in (
        ("green", date(2020, 1, 1), (10.5, 1.5)),
        ("green", date(2020, 2, 1), (20.25, 2.5)),
        ("fhv", date(2020, 1, 1), (None, None)),
    ):
        revenue, tips = amounts
        paid = {"revenue": revenue, "tips": tips}
        number = month.year * 100 + month.month
        of_service = {"service": service, "trips": 2}
        day = of_service | {
            "date": month,
            "passengers": 3 if revenue else None,
            "distance_miles": 4.5 if revenue else None,
            "fare": revenue,
            "tip_share": tips / revenue if revenue and tips else None,
        }
        start = of_service | {"month_start": month, "revenue": revenue}
        zones = [
            start | {"location_id": 74, "borough": "Manhattan", "zone": "East Harlem North"},
            start | {"location_id": 7, "borough": "Queens", "zone": "Astoria", "trips": 1},
        ]
        for table, partition, rows in (
            (taxi.CH_DAILY, number, [day | paid]),
            (taxi.CH_HOURLY, month, [start | {"weekday": 5, "hour": 18}]),
            (taxi.CH_ZONES, month, zones),
            (
                taxi.CH_PAYMENTS,
                month,
                [start | paid | {"payment_type": 1, "payment_name": "Cash", "tip_share": 0.1}],
            ),
        ):
            if table is taxi.CH_PAYMENTS and not revenue:
                continue
            frame = pl.DataFrame(rows).select(_typed(table))
            clickhouse.replace_partition(table, (service, partition), frame, "test")


def _typed(table: Table) -> list[pl.Expr]:
    return [
        pl.col(name).cast(pl.Float64)
        if "Float64" in kind
        else pl.col(name).cast(pl.Int64)
        if "Int" in kind
        else pl.col(name)
        for name, kind in table.columns.items()
    ]


def fill_retail(settings: Settings) -> None:
    """Three sold lines over two months and countries, and one that came back."""
    sold = [
        ("1", "2010-11-30 10:00:00", 1, 1, 1, 10, "100.5"),
        ("2", "2010-12-01 10:00:00", 2, 2, 2, 1, "300"),
        ("3", "2010-12-01 11:00:00", 1, 1, 1, 2, "20.25"),
    ]
    back = [("4", "2010-12-02 10:00:00", 1, 1, 1, -1, "-10")]
    summary = [
        ("2010-12-01", "20.25", "300", 160.125, 160.125, "320.25"),
        ("2010-11-30", "100.5", "100.5", 100.5, 100.5, "100.5"),
    ]
    quality = [("2010-12-02", 0.25, 1, 2), ("2010-11-30", 0.5, 3, 4)]
    with ClickHouse(settings).client() as client:
        for table, rows in (
            (FACT_SALES, sold),
            (FACT_RETURNS, back),
            (DIM_PRODUCT, [(1, "85123A", "HEART"), (2, "POST", None)]),
            (DIM_COUNTRY, [(1, "United Kingdom"), (2, "France")]),
            (SALES_SUMMARY, summary),
            (DATA_QUALITY, quality),
        ):
            ClickHouse(settings).ensure_table(table)
            values = ", ".join(str(row).replace("None", "NULL") for row in rows)
            client.command(f"INSERT INTO {table} VALUES {values}")


@contextmanager
def served(settings: Settings, **client: Any) -> Iterator[httpx.Client]:
    """The application on a free port, and a client of it."""
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings), port=0, log_level="critical", server_header=False)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive(), "the server ended while it was starting"
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, **client) as asker:
        yield asker
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()
