"""The shapes of the API's rows, with examples: for its description, and for CSV's columns."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lakehouse.serving.readings import Period, Service


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


class DriveDay(BaseModel):
    """Drives seen, and drives failed, on a day."""

    model_config = _example(date="2018-03-31", drive_count=30941, drive_failures=2)
    date: date
    drive_count: int
    drive_failures: int


class DriveYear(BaseModel):
    """Drives seen in a year, the days that they were seen, and failures.

    The `drive_count` of the original is our `drive_days`.
    """

    model_config = _example(year=2018, drive_count=32091, drive_days=2822282, drive_failures=178)
    year: int
    drive_count: int
    drive_days: int
    drive_failures: int


class DriveBrandYear(DriveYear):
    """The same of one brand, by the original's rule: the beginning of the model's name."""

    model_config = _example(
        year=2018, brand="Seagate", drive_count=32091, drive_days=2822282, drive_failures=178
    )
    brand: str


class FailureRate(BaseModel):
    """A model over a period: rates in per cent a year, with their 95 % interval."""

    model_config = _example(
        period="quarter",
        period_start="2018-01-01",
        model="ST4000DM000",
        maker="Seagate",
        drive_count=30941,
        drive_days=2822282,
        failures=178,
        afr=2.302,
        afr_low=1.976,
        afr_high=2.666,
    )
    period: Period
    period_start: date
    model: str
    maker: str
    drive_count: int
    drive_days: int
    failures: int
    afr: float
    afr_low: float
    afr_high: float


class TaxiDay(BaseModel):
    """A service's trips on a day; dollars and miles, null where the service does not say."""

    model_config = _example(
        service="green",
        date="2020-03-01",
        trips=12000,
        passengers=15000,
        distance_miles=36000.5,
        fare=180000.0,
        tips=15000.25,
        revenue=220000.75,
        tip_share=0.068,
    )
    service: Service
    date: date
    trips: int
    passengers: int | None
    distance_miles: float | None
    fare: float | None
    tips: float | None
    revenue: float | None
    tip_share: float | None


class TaxiHour(BaseModel):
    """A service's trips in an hour of the week, over whole months; weekday 1 is Monday."""

    model_config = _example(service="green", weekday=5, hour=18, trips=2500, revenue=45000.5)
    service: Service
    weekday: int
    hour: int
    trips: int
    revenue: float | None


class TaxiZone(BaseModel):
    """A service's trips from a zone, over whole months; zone 0 is of trips without one."""

    model_config = _example(
        service="green",
        location_id=74,
        borough="Manhattan",
        zone="East Harlem North",
        trips=16000,
        revenue=200000.5,
    )
    service: Service
    location_id: int
    borough: str
    zone: str
    trips: int
    revenue: float | None


class TaxiPayment(BaseModel):
    """A service's trips by way of payment, over whole months."""

    model_config = _example(
        service="green", payment_name="Credit card", trips=95000, revenue=1700000.5, tips=250000.25
    )
    service: Service
    payment_name: str
    trips: int
    revenue: float | None
    tips: float | None


class SalesDay(BaseModel):
    """A day's sold lines, in pounds sterling: their sum (`volume`), and what a line came to."""

    model_config = _example(
        date="2010-12-09",
        volume=38106.26,
        min_total_amount=0.42,
        max_total_amount=3794.4,
        median_total_amount=11.25,
        avg_total_amount=22.04,
    )
    date: date
    volume: float
    min_total_amount: float
    max_total_amount: float
    median_total_amount: float
    avg_total_amount: float


class Country(BaseModel):
    """What was sold to a country; `volume` in pounds sterling."""

    model_config = _example(country="EIRE", lines=9460, invoices=319, volume=356023.36)
    country: str
    lines: int
    invoices: int
    volume: float


class Product(BaseModel):
    """What was sold of a product; `volume` in pounds sterling."""

    model_config = _example(
        stock_code="85123A",
        description="WHITE HANGING HEART T-LIGHT HOLDER",
        quantity=57000,
        volume=150186.76,
    )
    stock_code: str
    description: str | None
    quantity: int
    volume: float


class SalesMonth(BaseModel):
    """A month's sold and returned lines; volumes in pounds sterling."""

    model_config = _example(
        month_start="2010-11-01",
        lines=60000,
        invoices=2500,
        customers=1600,
        volume=1150000.5,
        returned_lines=1400,
        returned_volume=-40000.25,
    )
    month_start: date
    lines: int
    invoices: int
    customers: int
    volume: float
    returned_lines: int
    returned_volume: float


class QualityFigures(BaseModel):
    """The eight figures of the original's dashboard: counts, and the amounts of the latest day."""

    model_config = _example(
        check_date="2010-12-09",
        anomaly_unit_price_count=30,
        anomaly_quantity_count=198,
        missing_customer_id_ratio=0.2653,
        sales_date="2010-12-09",
        latest_min_total_amount=0.42,
        latest_max_total_amount=3794.4,
        latest_median_total_amount=11.25,
        latest_avg_total_amount=22.0395,
        latest_sales_volume=38106.26,
    )
    check_date: date
    anomaly_unit_price_count: int
    anomaly_quantity_count: int
    missing_customer_id_ratio: float | None
    sales_date: date
    latest_min_total_amount: float
    latest_max_total_amount: float
    latest_median_total_amount: float
    latest_avg_total_amount: float
    latest_sales_volume: float


class DatasetTable(BaseModel):
    """A table or file of a data set: what is there, how it stands, where it is from.

    Partitions are months or years; `newest_data_until` is the day after the newest one's last.
    """

    model_config = _example(
        dataset="drives",
        asset="drives/silver/drive_days",
        description="One row a drive and day, cleaned.",
        table="drives/silver/drive_days",
        rows=2822282,
        partitions=3,
        fresh=3,
        stale=0,
        failed=0,
        missing=150,
        newest="2018-03",
        newest_data_until="2018-04-01",
        last_success="2026-11-20T12:00:00Z",
        checks_passed=6,
        checks_warned=0,
        checks_failed=0,
        failing=[],
        source="https://f001.backblazeb2.com/file/Backblaze-Hard-Drive-Data/data_Q1_2018.zip",
        delta_version=3,
    )
    dataset: str
    asset: str
    description: str
    table: str | None
    rows: int | None
    partitions: int
    fresh: int
    stale: int
    failed: int
    missing: int
    newest: str | None
    newest_data_until: date | None
    last_success: datetime | None
    checks_passed: int
    checks_warned: int
    checks_failed: int
    failing: list[str]
    source: str | None
    delta_version: int | None


class MonthState(BaseModel):
    """How a month of an asset stands; `service` is empty where there is but one."""

    model_config = _example(
        service="", asset="drives/silver/drive_days", month="2018-01", state="fresh"
    )
    service: str
    asset: str
    month: str
    state: Literal["fresh", "stale", "failed", "missing"]


class FailingCheck(BaseModel):
    """A check that fails on a partition, and whether it stops what is downstream."""

    model_config = _example(
        dataset="drives",
        asset="drives/bronze/drive_days",
        check="days_complete",
        partition="2018-01",
        stops=False,
        sentence="2018-01: 30 of 31 days have rows; missing are 2018-01-08.",
    )
    dataset: str
    asset: str
    check: str
    partition: str | None
    stops: bool
    sentence: str


class Rejected(BaseModel):
    """Rows of a month that could not be used; `lakehouse rejects` shows them."""

    model_config = _example(dataset="taxi", service="green", month="2020-02", rows=3)
    dataset: str
    service: str
    month: str
    rows: int


class Problem(BaseModel):
    """What went wrong, and what to do."""

    model_config = _example(detail="limit: Input should be less than or equal to 10000")
    detail: str
