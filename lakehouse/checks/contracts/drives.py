"""The contracts of drive stats, as pandera models."""

import pandera.polars as pa
import polars as pl

_FIRST_MONTH = "2013-04"
_MONTH = r"^\d{4}-\d{2}$"
_BRANDS = ["Crucial", "Dell BOSS", "HGST", "Seagate", "Toshiba", "Western Digital", "Others"]


class BronzeDriveDays(pa.DataFrameModel):
    """Every row of the publisher's, typed. What a cell may hold beyond its type is silver's."""

    date: pl.Date
    serial_number: str = pa.Field(str_length={"min_value": 1})
    model: str = pa.Field(nullable=True)
    capacity_bytes: pl.Int64 = pa.Field(nullable=True)
    failure: pl.Int64 = pa.Field(isin=[0, 1])
    source: str = pa.Field(alias="_source")
    row: pl.Int64 = pa.Field(alias="_row", ge=2)
    month: str = pa.Field(str_matches=_MONTH, ge=_FIRST_MONTH)


class SilverDriveDays(pa.DataFrameModel):
    """One row a drive and day."""

    date: pl.Date
    serial_number: str = pa.Field(str_length={"min_value": 1})
    model: str = pa.Field(nullable=True)
    maker: str
    brand: str
    capacity_bytes: pl.Int64 = pa.Field(nullable=True, ge=1, le=10**15)
    failure: pl.Int64 = pa.Field(isin=[0, 1])
    month: str = pa.Field(str_matches=_MONTH, ge=_FIRST_MONTH)

    class Config:
        """A drive appears once a day."""

        unique = ["date", "serial_number"]  # noqa: RUF012


class DailySummary(pa.DataFrameModel):
    """Drives and failures of each day."""

    date: pl.Date = pa.Field(unique=True)
    drive_count: pl.Int64 = pa.Field(ge=1)
    drive_failures: pl.Int64 = pa.Field(ge=0)

    @pa.dataframe_check
    @classmethod
    def failures_are_drives(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """No more drives fail than there are."""
        return data.lazyframe.select(pl.col("drive_failures") <= pl.col("drive_count"))


class DailyBrandSummary(DailySummary):
    """Drives and failures of each brand on each day."""

    date: pl.Date
    brand: str = pa.Field(isin=_BRANDS)

    class Config:
        """A brand stands once on a day."""

        unique = ["date", "brand"]  # noqa: RUF012


class FailureRates(pa.DataFrameModel):
    """Annualized failure rates in per cent, of each model over a period."""

    period: str = pa.Field(isin=["month", "quarter", "year"])
    period_start: pl.Date
    model: str
    maker: str
    drive_count: pl.Int64 = pa.Field(ge=0)
    drive_days: pl.Int64 = pa.Field(ge=1)
    failures: pl.Int64 = pa.Field(ge=0)
    afr: float = pa.Field(ge=0)
    afr_low: float = pa.Field(ge=0)
    afr_high: float = pa.Field(gt=0)

    class Config:
        """A model stands once in a period."""

        unique = ["period", "period_start", "model"]  # noqa: RUF012

    @pa.dataframe_check
    @classmethod
    def interval_holds_the_rate(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """The rate lies in its interval."""
        return data.lazyframe.select(
            (pl.col("afr_low") <= pl.col("afr")) & (pl.col("afr") <= pl.col("afr_high"))
        )


class YearlySummary(pa.DataFrameModel):
    """Drives, drive days and failures of each brand in a year."""

    year: pl.Int32 = pa.Field(ge=2013)
    brand: str = pa.Field(isin=_BRANDS, unique=True)
    drive_count: pl.Int64 = pa.Field(ge=1)
    drive_days: pl.Int64 = pa.Field(ge=1)
    drive_failures: pl.Int64 = pa.Field(ge=0)


CONTRACTS = {
    "drives/bronze/drive_days": BronzeDriveDays,
    "drives/silver/drive_days": SilverDriveDays,
    "drives/gold/daily_summary": DailySummary,
    "drives/gold/daily_brand_summary": DailyBrandSummary,
    "drives/gold/failure_rates": FailureRates,
    "drives/gold/period_failure_rates": FailureRates,
    "drives/gold/yearly_summary": YearlySummary,
}
"""The contract of each table."""
