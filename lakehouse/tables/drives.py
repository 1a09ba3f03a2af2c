"""The tables of drive stats."""

from datetime import date

import polars as pl

from lakehouse.resources.clickhouse import Table
from lakehouse.resources.lake import LakeTable
from lakehouse.tables.publication import Part, Publication
from lakehouse.tables.rejects import rejects_table
from lakehouse.transforms import drives

BRONZE = LakeTable("drives/bronze/drive_days", drives.BRONZE)
REJECTS = rejects_table("drives/rejects")
SILVER = LakeTable("drives/silver/drive_days", drives.SILVER)
DAILY_SUMMARY = LakeTable("drives/gold/daily_summary", drives.DAILY_SUMMARY)
DAILY_BRAND_SUMMARY = LakeTable("drives/gold/daily_brand_summary", drives.DAILY_BRAND_SUMMARY)
FAILURE_RATES = LakeTable("drives/gold/failure_rates", drives.FAILURE_RATES)
PERIOD_FAILURE_RATES = LakeTable(
    "drives/gold/period_failure_rates", drives.PERIOD_FAILURE_RATES, partition_by="year"
)
YEARLY_SUMMARY = LakeTable("drives/gold/yearly_summary", drives.YEARLY_SUMMARY, partition_by="year")

CH_DAILY_SUMMARY = Table(
    database="drives",
    name="daily_summary",
    columns={"date": "Date", "drive_count": "UInt64", "drive_failures": "UInt64"},
    order_by=("date",),
    partition_by="toYYYYMM(date)",
    comment="Drives seen and drives failed on each day.",
)
CH_DAILY_BRAND_SUMMARY = Table(
    database="drives",
    name="daily_brand_summary",
    columns={
        "date": "Date",
        "brand": "LowCardinality(String)",
        "drive_count": "UInt64",
        "drive_failures": "UInt64",
    },
    order_by=("date", "brand"),
    partition_by="toYYYYMM(date)",
    comment="Drives seen and drives failed of each brand on each day.",
)
CH_FAILURE_RATES = Table(
    database="drives",
    name="failure_rates",
    columns={
        "period": "LowCardinality(String)",
        "period_start": "Date",
        "model": "String",
        "maker": "LowCardinality(String)",
        "drive_count": "UInt64",
        "drive_days": "UInt64",
        "failures": "UInt64",
        "afr": "Float64",
        "afr_low": "Float64",
        "afr_high": "Float64",
    },
    order_by=("period", "period_start", "model"),
    partition_by="(period, period_start)",
    comment="Annualized failure rate, in per cent, of each model over a month, quarter or year.",
)
CH_YEARLY_SUMMARY = Table(
    database="drives",
    name="yearly_summary",
    columns={
        "year": "UInt16",
        "brand": "LowCardinality(String)",
        "drive_count": "UInt64",
        "drive_days": "UInt64",
        "drive_failures": "UInt64",
    },
    order_by=("year", "brand"),
    partition_by="year",
    comment="Drives seen, drive days and failures of each brand in a year.",
)


def _month(month: str) -> list[Part]:
    return [Part((int(month.replace("-", "")),), pl.lit(value=True))]


def _month_rates(month: str) -> list[Part]:
    return [Part(("month", date.fromisoformat(f"{month}-01")), pl.lit(value=True))]


def _period_rates(year: str) -> list[Part]:
    periods = [("quarter", date(int(year), month, 1)) for month in (1, 4, 7, 10)]
    periods.append(("year", date(int(year), 1, 1)))
    return [
        Part(period, (pl.col("period") == period[0]) & (pl.col("period_start") == period[1]))
        for period in periods
    ]


def _year(year: str) -> list[Part]:
    return [Part((int(year),), pl.lit(value=True))]


PUBLICATIONS = {
    "daily_summary": Publication(DAILY_SUMMARY, CH_DAILY_SUMMARY, _month),
    "daily_brand_summary": Publication(DAILY_BRAND_SUMMARY, CH_DAILY_BRAND_SUMMARY, _month),
    "failure_rates": Publication(FAILURE_RATES, CH_FAILURE_RATES, _month_rates),
    "period_failure_rates": Publication(PERIOD_FAILURE_RATES, CH_FAILURE_RATES, _period_rates),
    "yearly_summary": Publication(YEARLY_SUMMARY, CH_YEARLY_SUMMARY, _year),
}
"""What of gold goes where; months and periods share `drives.failure_rates`."""
