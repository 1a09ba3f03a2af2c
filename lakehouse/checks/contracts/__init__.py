"""The pandera contracts of each data set, and the table that each belongs to.

Importing pandera takes half a second, which starting up should not: hence the functions.
"""

from typing import TYPE_CHECKING

import polars as pl

from lakehouse.errors import LakehouseError
from lakehouse.resources.lake import LakeTable

if TYPE_CHECKING:
    import pandera.polars as pa


def contract_of(table: LakeTable) -> "type[pa.DataFrameModel]":
    """The contract of a table in the lake."""
    from lakehouse.checks.contracts import drives

    return {
        "drives/bronze/drive_days": drives.BronzeDriveDays,
        "drives/silver/drive_days": drives.SilverDriveDays,
        "drives/gold/daily_summary": drives.DailySummary,
        "drives/gold/failure_rates": drives.FailureRates,
        "drives/gold/period_failure_rates": drives.FailureRates,
        "drives/gold/yearly_summary": drives.YearlySummary,
    }[table.name]


def require_contract(table: LakeTable, partition: str, frame: pl.DataFrame) -> None:
    """Let nothing pass that breaks the table's contract.

    Raises:
        LakehouseError: Rows break it; the message says which rule and how many.
    """
    from lakehouse.checks.contract import examine

    key = pl.lit(partition).cast(table.schema[table.partition_by]).alias(table.partition_by)
    rows = frame.with_columns(key)
    verdict = examine([rows], contract_of(table), table.schema, rows.schema)
    if not verdict.passed:
        raise LakehouseError(
            f"{table.name} {partition} was not written, what was there stays: {verdict}"
            " Look at the tables above it in the graph."
        )
