"""What the API and the dashboard show of the published tables, through the read-only account.

Every query is a fixed text whose values are parameters of the server: nothing is pasted into SQL,
since libchdb lets each account that may write SQL read the server's own files.
"""

import hashlib
from datetime import date
from typing import Any, Literal

from clickhouse_connect.driver.exceptions import DatabaseError

from lakehouse.errors import LakehouseError, UsageError
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.settings import Settings
from lakehouse.transforms.drives import brand as brand_of

Row = dict[str, Any]
"""A row: column name to value (date, int, float, str or None)."""

Period = Literal["month", "quarter", "year"]
Service = Literal["yellow", "green", "fhv", "fhvhv"]

MAX_ROWS = 10_000
"""The most rows that one reading returns."""

FIRST_DATE, LAST_DATE = date(1970, 1, 1), date(2149, 6, 6)
"""The first and the last day that ClickHouse's dates reach."""

TABLES = {
    "drives": (
        *("drives.daily_summary", "drives.daily_brand_summary"),
        *("drives.failure_rates", "drives.yearly_summary"),
    ),
    "taxi": ("taxi.daily", "taxi.hourly", "taxi.zones", "taxi.payments"),
    "retail": (
        *("marts.Fact_Sales", "marts.Fact_Sale_Returns", "marts.Dim_Product", "marts.Dim_Country"),
        *("quality.data_quality", "quality.sales_summary", "vault.bridge_invoice"),
    ),
}
"""What is read of each data set."""

_ABSENT = {60, 81}
"""ClickHouse's codes for a table and a database that are not there (yet)."""
_DIFFERENT = {16, 47, 53}
"""Its codes for columns that are missing or have other types."""
_TOO_MUCH = {158, 159, 160, 241, 307, 396}
"""Its codes for a query that met one of the account's limits."""

_DAILY_SUMMARY = """
SELECT date, drive_count, drive_failures
FROM drives.daily_summary
WHERE date BETWEEN {first:Date} AND {last:Date}
ORDER BY date
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_DAILY_BRAND = """
SELECT date, drive_count, drive_failures
FROM drives.daily_brand_summary
WHERE date BETWEEN {first:Date} AND {last:Date} AND brand = {brand:String}
ORDER BY date
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_YEARLY_SUMMARY = """
SELECT
    year,
    sum(summary.drive_count) AS drive_count,
    sum(summary.drive_days) AS drive_days,
    sum(summary.drive_failures) AS drive_failures
FROM drives.yearly_summary AS summary
WHERE year BETWEEN {first:UInt16} AND {last:UInt16} AND ({brand:String} IN ('', brand))
GROUP BY year
ORDER BY year
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_YEARLY_BRANDS = """
SELECT year, brand, drive_count, drive_days, drive_failures
FROM drives.yearly_summary
WHERE year BETWEEN {first:UInt16} AND {last:UInt16} AND ({brand:String} IN ('', brand))
ORDER BY year, brand
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_FAILURE_RATES = """
SELECT
    period, period_start, model, maker, drive_count, drive_days, failures, afr, afr_low, afr_high
FROM drives.failure_rates
WHERE period = {period:String}
    AND period_start BETWEEN dateTrunc({period:String}, {first:Date}) AND {last:Date}
    AND ({model:String} IN ('', model))
    AND ({maker:String} IN ('', maker))
    AND ({brand:String} = '' OR has({models:Array(String)}, model))
    AND drive_days >= {min_drive_days:UInt64}
ORDER BY period_start, model
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_BRANDS = "SELECT DISTINCT brand FROM drives.yearly_summary ORDER BY brand LIMIT 1000"
_MODELS = "SELECT DISTINCT model FROM drives.failure_rates ORDER BY model LIMIT 10000"

_DAYS = """
SELECT service, date, trips, passengers, distance_miles, fare, tips, revenue, tip_share
FROM taxi.daily
WHERE date BETWEEN {first:Date} AND {last:Date} AND ({service:String} IN ('', service))
ORDER BY date, service
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

# Months are whole: those that a day of the range lies in. Cents are kept, not the order of adding.
_HOURS = """
SELECT
    service,
    weekday,
    hour,
    sum(hourly.trips) AS trips,
    round(sum(hourly.revenue), 2) AS revenue
FROM taxi.hourly AS hourly
WHERE month_start BETWEEN toStartOfMonth({first:Date}) AND {last:Date}
    AND ({service:String} IN ('', service))
GROUP BY service, weekday, hour
ORDER BY service, weekday, hour
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_ZONES = """
SELECT
    service,
    location_id,
    borough,
    zone,
    sum(zones.trips) AS trips,
    round(sum(zones.revenue), 2) AS revenue
FROM taxi.zones AS zones
WHERE month_start BETWEEN toStartOfMonth({first:Date}) AND {last:Date}
    AND ({service:String} IN ('', service))
    AND ({borough:String} IN ('', borough))
GROUP BY service, location_id, borough, zone
ORDER BY trips DESC, service, location_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_PAYMENTS = """
SELECT
    service,
    payment_name,
    sum(payments.trips) AS trips,
    round(sum(payments.revenue), 2) AS revenue,
    round(sum(payments.tips), 2) AS tips
FROM taxi.payments AS payments
WHERE month_start BETWEEN toStartOfMonth({first:Date}) AND {last:Date}
    AND ({service:String} IN ('', service))
GROUP BY service, payment_name
ORDER BY service, trips DESC, payment_name
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_SERVICES = "SELECT DISTINCT service FROM taxi.daily ORDER BY service"

_DAILY_SALES = """
SELECT
    sales_date AS date,
    toFloat64(volume) AS volume,
    toFloat64(min_total_amount) AS min_total_amount,
    toFloat64(max_total_amount) AS max_total_amount,
    median_total_amount,
    avg_total_amount
FROM quality.sales_summary
WHERE sales_date BETWEEN {first:Date} AND {last:Date}
ORDER BY sales_date
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_COUNTRIES = """
SELECT
    country.country_name AS country,
    count() AS lines,
    uniqExact(sale.invoice_no) AS invoices,
    toFloat64(sum(sale.total_amount)) AS volume
FROM marts.Fact_Sales AS sale
INNER JOIN marts.Dim_Country AS country ON sale.country_key = country.country_key
WHERE toDate(sale.invoice_date) BETWEEN {first:Date} AND {last:Date}
GROUP BY country
ORDER BY volume DESC, country
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_PRODUCTS = """
SELECT
    product.stock_code AS stock_code,
    any(product.description) AS description,
    sum(sale.quantity) AS quantity,
    toFloat64(sum(sale.total_amount)) AS volume
FROM marts.Fact_Sales AS sale
INNER JOIN marts.Dim_Product AS product ON sale.product_key = product.product_key
WHERE toDate(sale.invoice_date) BETWEEN {first:Date} AND {last:Date}
GROUP BY stock_code
ORDER BY volume DESC, stock_code
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_MONTHLY = """
SELECT
    toStartOfMonth(invoice_date) AS month_start,
    countIf(kind = 'sale') AS lines,
    uniqExactIf(invoice_no, kind = 'sale') AS invoices,
    uniqExactIf(customer_key, kind = 'sale') AS customers,
    toFloat64(sumIf(total_amount, kind = 'sale')) AS volume,
    countIf(kind = 'return') AS returned_lines,
    toFloat64(sumIf(total_amount, kind = 'return')) AS returned_volume
FROM (
    SELECT 'sale' AS kind, invoice_date, invoice_no, customer_key, total_amount
    FROM marts.Fact_Sales
    UNION ALL
    SELECT 'return' AS kind, invoice_date, invoice_no, customer_key, total_amount
    FROM marts.Fact_Sale_Returns
)
WHERE toDate(invoice_date) BETWEEN {first:Date} AND {last:Date}
GROUP BY month_start
ORDER BY month_start
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
"""

_LATEST_QUALITY = """
SELECT
    check_date, anomaly_unit_price_count, anomaly_quantity_count, missing_customer_id_ratio
FROM quality.data_quality ORDER BY check_date DESC LIMIT 1
"""
_LATEST_SALES = """
SELECT
    sales_date,
    toFloat64(min_total_amount) AS latest_min_total_amount,
    toFloat64(max_total_amount) AS latest_max_total_amount,
    median_total_amount AS latest_median_total_amount,
    avg_total_amount AS latest_avg_total_amount,
    toFloat64(volume) AS latest_sales_volume
FROM quality.sales_summary ORDER BY sales_date DESC LIMIT 1
"""
_ORIGINAL_QUALITY = """
SELECT
    latest_day AS check_date,
    anomaly_unit_price_count,
    anomaly_quantity_count,
    missing_customer_id_ratio,
    latest_day AS sales_date,
    toFloat64(latest_min_total_amount) AS latest_min_total_amount,
    toFloat64(latest_max_total_amount) AS latest_max_total_amount,
    latest_median_total_amount,
    toFloat64(latest_avg_total_amount) AS latest_avg_total_amount,
    toFloat64(latest_sales_volume) AS latest_sales_volume
FROM quality.original_dashboard
"""

# ClickHouse shows an account only the tables that it may read.
_ALL_TABLES = """
SELECT
    database || '.' || name AS table, toString(uuid) AS uuid, total_rows AS rows,
    total_bytes AS bytes
FROM system.tables
WHERE database NOT IN ('system', 'INFORMATION_SCHEMA', 'information_schema') AND NOT is_temporary
ORDER BY table
"""
# Names of parts are never used again in a table, so any change of its rows changes them.
_PARTS = "SELECT '{table}' AS table, _part AS part FROM {table} GROUP BY part"


class Readings:
    """Readings of the published tables; what is not published yet has no rows.

    Dates and years are inclusive; None leaves an end open, and a filter out. A reading returns
    `MAX_ROWS` at most.

    Each method raises:
        UnavailableError: ClickHouse does not answer; it is never started from here.
        UsageError: It meets one of the account's limits.
        LakehouseError: It refuses the account, or its tables are others than we know.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address = settings.clickhouse_url
        self._clickhouse = ClickHouse(settings)

    def version(self, dataset: str) -> str:
        """Changes with the rows of the data set's tables, and only then; for caches.

        Args:
            dataset: One of `TABLES`.
        """
        tables = [row for row in self._rows(_ALL_TABLES) if row["table"] in TABLES[dataset]]
        parts = " UNION ALL ".join(_PARTS.format(table=row["table"]) for row in tables)
        found = self._rows(f"{parts} ORDER BY table, part") if tables else []
        seen = [[row["uuid"] for row in tables], found]
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]

    def table_rows(self) -> dict[str, int | None]:
        """The rows of every published table, by `database.name`; None for a view."""
        return {row["table"]: row["rows"] for row in self._rows(_ALL_TABLES)}

    def table_bytes(self) -> dict[str, int]:
        """What every published table takes on disk, by `database.name`; 0 for a view."""
        return {row["table"]: row["bytes"] or 0 for row in self._rows(_ALL_TABLES)}

    def ready(self) -> None:
        """Asks ClickHouse for nothing, to see that it answers."""
        self._rows("SELECT 1 AS one")

    # Drive stats

    def daily_summary(
        self,
        first: date | None = None,
        last: date | None = None,
        brand: str | None = None,
        *,
        limit: int = MAX_ROWS,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each day, in order: date, drive_count, drive_failures; of all or one brand."""
        return self._rows(
            _DAILY_BRAND if brand else _DAILY_SUMMARY,
            brand=brand or "",
            **_dates(first, last),
            **_page(limit, offset),
        )

    def yearly_summary(
        self,
        first: int | None = None,
        last: int | None = None,
        brand: str | None = None,
        *,
        by_brand: bool = False,
        limit: int = MAX_ROWS,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each year, in order: year, drive_count, drive_days, drive_failures.

        drive_count is of drives seen in the year; the original's drive_count is our drive_days.

        Args:
            first: First year.
            last: Last year.
            brand: Only this brand, by the original's rule.
            by_brand: A row for each year and brand, with the column `brand`.
            limit: Rows at most.
            offset: Rows to leave out before them.
        """
        return self._rows(
            _YEARLY_BRANDS if by_brand else _YEARLY_SUMMARY,
            first=FIRST_DATE.year if first is None else first,
            last=LAST_DATE.year if last is None else last,
            brand=brand or "",
            **_page(limit, offset),
        )

    def failure_rates(
        self,
        period: Period = "quarter",
        first: date | None = None,
        last: date | None = None,
        *,
        model: str | None = None,
        brand: str | None = None,
        maker: str | None = None,
        min_drive_days: int = 0,
        limit: int = MAX_ROWS,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each model and period, by period_start and model.

        The periods are those that a day of the range lies in.

        Columns: period, period_start, model, maker, drive_count, drive_days, failures, afr,
        afr_low, afr_high; rates in per cent a year, with their 95 % interval.
        """
        return self._rows(
            _FAILURE_RATES,
            period=period,
            model=model or "",
            brand=brand or "",
            models=self.models(brand) if brand else [],
            maker=maker or "",
            min_drive_days=min_drive_days,
            **_dates(first, last),
            **_page(limit, offset),
        )

    def brands(self) -> list[str]:
        """The brands of the yearly summary, in order."""
        return [row["brand"] for row in self._rows(_BRANDS)]

    def models(self, brand: str | None = None) -> list[str]:
        """The models of the failure rates, in order; of all or one brand, as their names tell."""
        models = [row["model"] for row in self._rows(_MODELS)]
        return [model for model in models if brand in (None, brand_of(model))]

    # Taxi trips

    def taxi_days(
        self,
        service: Service | None = None,
        first: date | None = None,
        last: date | None = None,
        *,
        limit: int = MAX_ROWS,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each day and service, in order.

        Columns: service, date, trips, passengers, distance_miles, fare, tips, revenue, tip_share;
        dollars, and null where the service does not say.
        """
        return self._rows(
            _DAYS, service=service or "", **_dates(first, last), **_page(limit, offset)
        )

    def taxi_hours(
        self,
        service: Service | None = None,
        first: date | None = None,
        last: date | None = None,
        *,
        limit: int = MAX_ROWS,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each service and hour of the week: service, weekday, hour, trips, revenue.

        Summed over the months that lie in the range or are begun in it; weekday 1 is Monday.
        """
        return self._rows(
            _HOURS, service=service or "", **_dates(first, last), **_page(limit, offset)
        )

    def taxi_zones(
        self,
        service: Service | None = None,
        first: date | None = None,
        last: date | None = None,
        *,
        borough: str | None = None,
        limit: int = MAX_ROWS,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each service and pickup zone, those with the most trips first.

        Columns: service, location_id, borough, zone, trips, revenue; summed as `taxi_hours` is.
        """
        return self._rows(
            _ZONES,
            service=service or "",
            borough=borough or "",
            **_dates(first, last),
            **_page(limit, offset),
        )

    def taxi_payments(
        self,
        service: Service | None = None,
        first: date | None = None,
        last: date | None = None,
        *,
        limit: int = MAX_ROWS,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each service and way of payment: service, payment_name, trips, revenue, tips.

        Summed as `taxi_hours` is; services that do not say how trips were paid have no rows.
        """
        return self._rows(
            _PAYMENTS, service=service or "", **_dates(first, last), **_page(limit, offset)
        )

    def taxi_services(self) -> list[str]:
        """The services that have trips, in order."""
        return [row["service"] for row in self._rows(_SERVICES)]

    # Online Retail

    def daily_sales(
        self,
        first: date | None = None,
        last: date | None = None,
        *,
        limit: int = MAX_ROWS,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each day with sold lines, in order, in pounds sterling.

        Columns: date, volume (the day's sum), min_total_amount, max_total_amount,
        median_total_amount, avg_total_amount (of a line).
        """
        return self._rows(_DAILY_SALES, **_dates(first, last), **_page(limit, offset))

    def countries(
        self,
        first: date | None = None,
        last: date | None = None,
        *,
        limit: int = MAX_ROWS,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each country, most sold first: country, lines, invoices, volume (pounds)."""
        return self._rows(_COUNTRIES, **_dates(first, last), **_page(limit, offset))

    def products(
        self,
        first: date | None = None,
        last: date | None = None,
        *,
        limit: int = 10,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each product, most sold first: stock_code, description, quantity, volume."""
        return self._rows(_PRODUCTS, **_dates(first, last), **_page(limit, offset))

    def monthly_sales(
        self,
        first: date | None = None,
        last: date | None = None,
        *,
        limit: int = MAX_ROWS,
        offset: int = 0,
    ) -> list[Row]:
        """A row for each month, in order.

        Columns: month_start, lines, invoices, customers, volume, returned_lines, returned_volume.
        """
        return self._rows(_MONTHLY, **_dates(first, last), **_page(limit, offset))

    def quality(self, *, original: bool = False) -> Row | None:
        """The eight figures of the original's dashboard; None without sales.

        anomaly_unit_price_count, anomaly_quantity_count and missing_customer_id_ratio of the latest
        month, latest_min_total_amount, latest_max_total_amount, latest_median_total_amount,
        latest_avg_total_amount and latest_sales_volume of the latest day; with check_date and
        sales_date.

        Args:
            original: By the original's rules: the counts are of all its months, and of lines with
                the same key only the last is counted.
        """
        if original:
            return next(iter(self._rows(_ORIGINAL_QUALITY)), None)
        counts, sales = self._rows(_LATEST_QUALITY), self._rows(_LATEST_SALES)
        return counts[0] | sales[0] if counts and sales else None

    def _rows(self, sql: str, **parameters: Any) -> list[Row]:
        with self._found().reader() as client:
            try:
                result = client.query(sql, parameters=parameters)
            except DatabaseError as error:
                if error.code in _ABSENT:
                    return []
                if error.code in _TOO_MUCH:
                    raise UsageError(
                        "ClickHouse met a limit of the reader's account on time, memory or rows:"
                        " ask for fewer days."
                    ) from error
                if error.code in _DIFFERENT:
                    raise LakehouseError(
                        "The tables in ClickHouse are others than this program knows: backfill"
                        " them again with --force."
                    ) from error
                raise
        names = result.column_names
        return [dict(zip(names, row, strict=True)) for row in result.result_rows]

    def _found(self) -> ClickHouse:
        """ClickHouse; the local service where it is now, as one of outside, which nobody starts."""
        if self._settings.clickhouse_url is None:
            address = ClickHouseService(self._settings).status().address
            if address != self._address:
                found = self._settings.model_copy(update={"clickhouse_url": address})
                self._clickhouse, self._address = ClickHouse(found), address
        return self._clickhouse


def _dates(first: date | None, last: date | None) -> dict[str, date]:
    return {
        "first": min(max(first or FIRST_DATE, FIRST_DATE), LAST_DATE),
        "last": min(max(last or LAST_DATE, FIRST_DATE), LAST_DATE),
    }


def _page(limit: int, offset: int) -> dict[str, int]:
    return {"limit": limit, "offset": offset}
