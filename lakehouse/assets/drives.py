"""Drive stats: from Backblaze's archives through bronze, silver and gold to ClickHouse."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from lakehouse.assets.building import (
    OWNERS,
    explained,
    file_metadata,
    source_version,
    written_metadata,
)
from lakehouse.assets.publishing import build_published
from lakehouse.checks.contracts import require_contract
from lakehouse.partitions import drives_months, drives_years, months_of, months_of_year
from lakehouse.resources.drive_files import DriveFiles
from lakehouse.resources.lake import Lake, LakeTable, Provenance
from lakehouse.tables import drives as tables
from lakehouse.tables.rejects import REJECTED
from lakehouse.transforms import drives as transforms
from lakehouse.transforms.batches import day_batches

_updated = dg.AutomationCondition.any_deps_updated()
_handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()

# A year follows the months that it is made of, once they have passed their checks.
_follows_months = (
    # Not since_last_handled(): a month that ends while its year is made would be passed over.
    _updated.since((_handled & ~_updated) | dg.AutomationCondition.initial_evaluation())
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
    # Not all_deps_blocking_checks_passed(): months that are yet to come have passed none.
    & ~dg.AutomationCondition.any_deps_match(
        dg.AutomationCondition.any_checks_match(
            dg.AutomationCondition.check_failed(), blocking_only=True
        )
    )
).with_label("months_updated")


_SHARED: dict[str, Any] = {
    "group_name": "drives",
    "owners": OWNERS,
    "pool": "drives",
    "code_version": "1",
}
_MONTHLY = _SHARED | {"partitions_def": drives_months}
_YEARLY = _SHARED | {"partitions_def": drives_years, "automation_condition": _follows_months}
_GOLD = {"delta", "polars", "gold"}


@dg.asset(
    key=["drives", "raw", "archive"],
    kinds={"file"},
    **_MONTHLY,
)
@partial(explained, retries=0)  # the source itself has tried again, and waited
def archive(
    context: dg.AssetExecutionContext, drive_files: dg.ResourceParam[DriveFiles]
) -> dg.MaterializeResult:
    """The publisher's archive that holds the month, downloaded once and verified.

    Days dropped into the inbox take the place of the archive's. An archive that was published
    again is downloaded again; one that is unchanged is not.
    """
    files = drive_files.land(context.partition_key)
    metadata: dict[str, Any] = {
        "days": len(files.days),
        "days_from_inbox": files.dropped,
        "source_version": files.version,
        "files": dg.MetadataValue.table(
            [dg.TableRecord({"day": str(file.day), "file": file.name}) for file in files.days]
        ),
    }
    if files.archive:
        metadata |= file_metadata(files.archive)
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(files.version))


@dg.asset(
    key=["drives", "bronze", "drive_days"],
    deps=[archive],
    kinds={"delta", "polars", "bronze"},
    **_MONTHLY,
)
@explained
def bronze_drive_days(
    context: dg.AssetExecutionContext,
    drive_files: dg.ResourceParam[DriveFiles],
    lake: dg.ResourceParam[Lake],
) -> dg.MaterializeResult:
    """Every row of the month as published: typed, with the columns of its era and its origin.

    Lines that are no rows, and rows without a key, go to `drives/rejects` with the reason.
    """
    month = context.partition_key
    with lake.exclusive(tables.BRONZE.name, month):
        files = drive_files.landed(month)
        drive_files.verify(files)
        origin = Provenance(context.run.run_id, files.version)
        tally = _Tally()

        def frames() -> Iterator[pl.DataFrame]:
            for file, data in drive_files.read(files.days):
                day = transforms.read_day(data, month, file.name, file.landed_at)
                tally.add(file.name, day)
                yield day.frame

        written = lake.replace(tables.BRONZE, month, frames(), origin)
        rejects = tally.rejects.with_columns(pl.lit(context.run.run_id).alias("run_id"))
        if rejects.height or lake.row_counts(tables.REJECTS).get(month):
            lake.replace(tables.REJECTS, month, [rejects], origin)
    return dg.MaterializeResult(
        metadata=written_metadata(lake, tables.BRONZE, written, origin)
        | {
            "rows_in": tally.records,
            "rows_rejected": rejects.height,
            "files": len(files.days),
            "files_refused": tally.refused,
            "days": [file.day.isoformat() for file in files.days],
            "days_with_rows": tally.days_with_rows,
            "rows_with_unreadable_cells": tally.unreadable,
            "lines_in_latin1": tally.latin1_lines,
            "unknown_columns": sorted(tally.unknown),
        }
    )


class _Tally:
    """What reading a month's files came to."""

    def __init__(self) -> None:
        self.records = 0
        self.days_with_rows = 0
        self.unreadable = 0
        self.latin1_lines = 0
        self.unknown: set[str] = set()
        self.refused: dict[str, str] = {}
        self._rejects = [pl.DataFrame(schema=REJECTED).drop("month", "run_id")]

    @property
    def rejects(self) -> pl.DataFrame:
        return pl.concat(self._rejects)

    def add(self, name: str, day: transforms.Day) -> None:
        self.records += day.records
        self.days_with_rows += not day.frame.is_empty()
        self.unreadable += day.frame.height - day.frame["_unreadable"].null_count()
        self.latin1_lines += day.latin1_lines
        self.unknown.update(day.unknown)
        if day.refused:
            self.refused[name] = day.refused
        if day.rejects.height:
            self._rejects.append(day.rejects.select(pl.lit(name).alias("file"), pl.all()))


@dg.asset(
    key=["drives", "silver", "drive_days"],
    deps=[bronze_drive_days],
    kinds={"delta", "polars", "silver"},
    **_MONTHLY,
)
@explained
def silver_drive_days(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult:
    """One row a drive and day: maker and brand named, nonsense capacities set aside and flagged.

    Keeps the raw values of the SMART attributes that Backblaze itself watches.
    """
    month = context.partition_key
    with lake.exclusive(tables.SILVER.name, month):
        bronze = lake.scan(tables.BRONZE, month)
        duplicates = doubtful = rows_in = 0

        def frames() -> Iterator[pl.DataFrame]:
            nonlocal duplicates, doubtful, rows_in
            for rows in day_batches(bronze):
                cleaned = transforms.clean(rows)
                rows_in += rows.height
                duplicates += cleaned.duplicates
                doubtful += cleaned.capacities_doubtful
                yield cleaned.frame

        origin = Provenance(context.run.run_id, source_version(context, bronze_drive_days, [month]))
        written = lake.replace(tables.SILVER, month, frames(), origin)
    return dg.MaterializeResult(
        metadata=written_metadata(lake, tables.SILVER, written, origin)
        | {
            "rows_in": rows_in,
            "rows_dropped_as_duplicates": duplicates,
            "capacities_doubtful": doubtful,
        }
    )


@dg.asset(
    key=["drives", "gold", "daily_summary"],
    deps=[silver_drive_days],
    kinds=_GOLD,
    **_MONTHLY,
)
@explained
def daily_summary(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult:
    """Drives seen and drives failed on each day."""
    month = context.partition_key
    with lake.exclusive(tables.DAILY_SUMMARY.name, month):
        frame = transforms.daily_summary(lake.scan(tables.SILVER, month))
        source = source_version(context, silver_drive_days, [month])
        return _replaced(context, lake, tables.DAILY_SUMMARY, frame, source)


@dg.asset(
    key=["drives", "gold", "daily_brand_summary"],
    deps=[silver_drive_days],
    kinds=_GOLD,
    **_MONTHLY,
)
@explained
def daily_brand_summary(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult:
    """Drives seen and drives failed of each brand on each day."""
    month = context.partition_key
    with lake.exclusive(tables.DAILY_BRAND_SUMMARY.name, month):
        frame = transforms.daily_brand_summary(lake.scan(tables.SILVER, month))
        source = source_version(context, silver_drive_days, [month])
        return _replaced(context, lake, tables.DAILY_BRAND_SUMMARY, frame, source)


@dg.asset(
    key=["drives", "gold", "failure_rates"],
    deps=[silver_drive_days],
    kinds=_GOLD,
    **_MONTHLY,
)
@explained
def failure_rates(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult:
    """Drive days, failures and annualized failure rate of each model over the month."""
    month = context.partition_key
    with lake.exclusive(tables.FAILURE_RATES.name, month):
        frame = transforms.monthly_failure_rates(lake.scan(tables.SILVER, month), month)
        source = source_version(context, silver_drive_days, [month])
        return _replaced(context, lake, tables.FAILURE_RATES, frame, source)


@dg.asset(
    key=["drives", "gold", "period_failure_rates"],
    deps=[dg.AssetDep(failure_rates, partition_mapping=months_of_year)],
    kinds=_GOLD,
    **_YEARLY,
)
@explained
def period_failure_rates(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult:
    """The same over the quarters and the year, from the months that there are."""
    year = context.partition_key
    with lake.exclusive(tables.PERIOD_FAILURE_RATES.name, year):
        months = lake.scan(tables.FAILURE_RATES, *months_of(year)).sort("month").collect()
        frame = transforms.period_failure_rates(months)
        source = source_version(context, failure_rates, months_of(year))
        return _replaced(context, lake, tables.PERIOD_FAILURE_RATES, frame, source)


@dg.asset(
    key=["drives", "gold", "yearly_summary"],
    deps=[dg.AssetDep(silver_drive_days, partition_mapping=months_of_year)],
    kinds=_GOLD,
    **_YEARLY,
)
@explained
def yearly_summary(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult:
    """Drives seen, drive days and failures of each brand in the year, from the months there are."""
    year = context.partition_key
    with lake.exclusive(tables.YEARLY_SUMMARY.name, year):
        frame = transforms.yearly_summary(lake.scan(tables.SILVER, *months_of(year)))
        source = source_version(context, silver_drive_days, months_of(year))
        return _replaced(context, lake, tables.YEARLY_SUMMARY, frame, source)


published = [
    build_published(gold, tables.PUBLICATIONS[gold.key.path[-1]], **shared)
    for gold, shared in (
        (daily_summary, _MONTHLY),
        (daily_brand_summary, _MONTHLY),
        (failure_rates, _MONTHLY),
        (period_failure_rates, _YEARLY),
        (yearly_summary, _YEARLY),
    )
]

assets = [
    archive,
    bronze_drive_days,
    silver_drive_days,
    daily_summary,
    daily_brand_summary,
    failure_rates,
    period_failure_rates,
    yearly_summary,
    *published,
]


def _replaced(
    context: dg.AssetExecutionContext,
    lake: Lake,
    table: LakeTable,
    frame: pl.DataFrame,
    source: str,
) -> dg.MaterializeResult:
    """Write a gold partition, once its rows have been held against the contract."""
    partition = context.partition_key
    require_contract(table, partition, frame)
    origin = Provenance(context.run.run_id, source)
    written = lake.replace(table, partition, [frame], origin)
    return dg.MaterializeResult(metadata=written_metadata(lake, table, written, origin))
