"""What must hold of the tables of drive stats, table by table: see the lists at the end."""

from calendar import monthrange
from collections.abc import Sequence
from datetime import date

import polars as pl

from lakehouse.checks.common import (
    columns_known,
    conserved,
    matches_gold,
    months_beside,
    rows_of,
    volume_usual,
)
from lakehouse.checks.factory import Check, Outcome, Partition, contract_check
from lakehouse.history import latest_metadata
from lakehouse.resources.lake import LakeTable
from lakehouse.tables import drives as tables
from lakehouse.transforms.batches import day_batches

TOLERATED_REJECTS = 0.001
"""Share of a month's lines that may be unreadable before what follows is stopped."""

_MEND = (
    "What follows keeps its old rows: drop the mended day into the inbox, or backfill the month"
    " once the publisher has mended it."
)


def _bronze_conserves(partition: Partition) -> Outcome:
    source = int(partition.recorded.get("rows_in", 0))
    written, rejected = rows_of(partition, tables.BRONZE), rows_of(partition, tables.REJECTS)
    parts = {"in the table": written, "rejected": rejected}
    counts = {"rows_written": written, "rows_rejected": rejected}
    return conserved(partition, source, "lines in the files", parts, **counts)


def _silver_conserves(partition: Partition) -> Outcome:
    dropped = int(partition.recorded.get("rows_dropped_as_duplicates", 0))
    written = rows_of(partition, tables.SILVER)
    parts = {"drive days": written, "dropped as duplicates": dropped}
    counts = {"rows_written": written, "rows_dropped": dropped}
    return conserved(
        partition, rows_of(partition, tables.BRONZE), "rows in bronze", parts, **counts
    )


def _files_are_readable(partition: Partition) -> Outcome:
    recorded = partition.recorded
    lines, refused = int(recorded.get("rows_in", 0)), dict(recorded.get("files_refused", {}))
    rejects = partition.lake.scan(tables.REJECTS, partition.key)
    reasons = dict(
        rejects.group_by("reason").len().sort("len", descending=True).head(10).collect().iter_rows()
    )
    rejected = rows_of(partition, tables.REJECTS)
    stops = bool(refused) or rejected > TOLERATED_REJECTS * max(lines, 1)
    counted = "; ".join(f"{count:,} because {reason}" for reason, count in reasons.items())
    return Outcome(
        passed=not rejected and not refused,
        warn=not stops,
        sentence=f"{partition.key}: {rejected:,} of {lines:,} lines were rejected"
        + (f", {counted}" if counted else "")
        + "".join(f"; {name} could not be used: {reason}" for name, reason in refused.items())
        + (f". See `lakehouse rejects drives --from {partition.key}`." if rejected else "."),
        metadata={
            "rows_rejected": rejected,
            "reasons": reasons,
            "files_refused": refused,
            "rows_with_unreadable_cells": int(recorded.get("rows_with_unreadable_cells", 0)),
            "lines_in_latin1": int(recorded.get("lines_in_latin1", 0)),
        },
    )


def _days_are_complete(partition: Partition) -> Outcome:
    year, month = int(partition.key[:4]), int(partition.key[5:])
    wanted = {date(year, month, day) for day in range(1, monthrange(year, month)[1] + 1)}
    present = set(
        partition.lake.scan(tables.BRONZE, partition.key)
        .select(pl.col("date").unique())
        .collect()
        .to_series()
    )
    missing = _runs(sorted(wanted - present))
    return Outcome(
        passed=not missing,
        warn=True,
        sentence=f"{partition.key}: {len(present)} of {len(wanted)} days have rows"
        + (f"; missing are {', '.join(missing)}." if missing else "."),
        metadata={"days": len(present), "missing_days": missing},
    )


def _runs(days: list[date]) -> list[str]:
    """Days as text, those that follow each other as `2013-05-10 to 2013-05-31`."""
    runs: list[list[date]] = []
    for day in days:
        if runs and (day - runs[-1][-1]).days == 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]


def _volume_is_usual(partition: Partition) -> Outcome:
    rates = {}
    for month in (partition.key, *months_beside(partition.key)):
        recorded = latest_metadata(partition.instance, partition.asset_key, month)
        if days := int(recorded.get("days_with_rows", 0)):
            rates[month] = int(recorded["rows_written"]) / days
    return volume_usual(partition, rates)


def _adds_up_to_silver(table: LakeTable, column: str) -> Check:
    """That a gold table counts every drive day of silver, and every failure, once."""
    failures = "drive_failures" if "drive_failures" in table.schema else "failures"

    def run(partition: Partition) -> Outcome:
        gold = (
            partition.lake.scan(table, partition.key)
            .select(pl.col(column).sum(), pl.col(failures).sum())
            .collect()
            .row(0)
        )
        silver = (
            partition.lake.scan(tables.SILVER, partition.key)
            .select(pl.len(), pl.col("failure").sum())
            .collect()
            .row(0)
        )
        return Outcome(
            passed=tuple(gold) == tuple(silver),
            sentence=f"{partition.key}: {gold[0]:,} drive days and {gold[1]:,} failures here,"
            f" {silver[0]:,} and {silver[1]:,} in silver.",
            metadata={"drive_days": gold[0], "drive_days_in_silver": silver[0]},
        )

    return Check("rows_conserved", "Every drive day and failure of silver is counted once.", run)


CHECKS: dict[str, Sequence[Check]] = {
    "drives/bronze/drive_days": [
        contract_check(tables.BRONZE, day_batches, _MEND),
        Check(
            "rows_conserved",
            "Every line of the files is in the table or rejected.",
            _bronze_conserves,
        ),
        Check(
            "files_readable", "No file is refused, hardly any line rejected.", _files_are_readable
        ),
        Check("columns_known", "No column that no era had.", columns_known),
        Check("days_complete", "Every day of the month is there.", _days_are_complete),
        Check(
            "volume_usual", "About as many rows a day as the months beside it.", _volume_is_usual
        ),
    ],
    "drives/silver/drive_days": [
        contract_check(tables.SILVER, day_batches),
        Check(
            "rows_conserved",
            "Every row of bronze is a drive day or a duplicate.",
            _silver_conserves,
        ),
    ],
    "drives/gold/daily_summary": [
        contract_check(tables.DAILY_SUMMARY),
        _adds_up_to_silver(tables.DAILY_SUMMARY, "drive_count"),
    ],
    "drives/gold/daily_brand_summary": [
        contract_check(tables.DAILY_BRAND_SUMMARY),
        _adds_up_to_silver(tables.DAILY_BRAND_SUMMARY, "drive_count"),
    ],
    "drives/gold/failure_rates": [
        contract_check(tables.FAILURE_RATES),
        _adds_up_to_silver(tables.FAILURE_RATES, "drive_days"),
    ],
    "drives/gold/period_failure_rates": [contract_check(tables.PERIOD_FAILURE_RATES)],
    "drives/gold/yearly_summary": [contract_check(tables.YEARLY_SUMMARY)],
    **{
        f"drives/clickhouse/{name}": [matches_gold(publication)]
        for name, publication in tables.PUBLICATIONS.items()
    },
}
"""The checks of each asset, by its key."""
