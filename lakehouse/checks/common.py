"""What must hold of tables whatever the data set; each data set's lists say of which."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from lakehouse.checks.factory import Check, Outcome, Partition
from lakehouse.partitions import month_after, month_before
from lakehouse.resources.lake import LakeTable
from lakehouse.tables.publication import Publication

USUAL_VOLUME = (0.5, 2.0)
"""Rows a day, as a multiple of a neighbouring month's, that raise no question."""


def rows_of(partition: Partition, table: LakeTable) -> int:
    """The rows that a table of the lake has of the partition."""
    return int(partition.lake.scan(table, partition.key).select(pl.len()).collect().item())


def conserved(
    partition: Partition, source: int, what: str, parts: Mapping[str, int], **metadata: Any
) -> Outcome:
    """That the rows of the source are those of all its parts together.

    Args:
        partition: The partition.
        source: Rows that came in.
        what: What they are, such as `lines in the files`.
        parts: What became of them, such as `in the table`, with the rows of each.
        metadata: What else to show.
    """
    missing = source - sum(parts.values())
    told = " + ".join(f"{rows:,} {name}" for name, rows in parts.items())
    return Outcome(
        passed=missing == 0,
        sentence=f"{partition.key}: {source:,} {what} = {told}"
        + (f": {missing:,} missing" if missing else ""),
        metadata={"rows_source": source, **metadata},
    )


def columns_known(partition: Partition) -> Outcome:
    """That no file had a column that no earlier file had."""
    unknown = list(partition.recorded.get("unknown_columns", []))
    return Outcome(
        passed=not unknown,
        warn=True,
        sentence=f"{partition.key}: "
        + (
            f"columns that no earlier file had, kept as they are: {', '.join(unknown)}."
            if unknown
            else "all columns are known."
        ),
        metadata={"unknown_columns": unknown},
    )


def volume_usual(partition: Partition, rates: Mapping[str, float]) -> Outcome:
    """That a month has about as many rows a day as the months beside it.

    Args:
        partition: The month.
        rates: Rows a day of the month and of those beside it, as far as they are there.
    """
    beside = [month for month in months_beside(partition.key) if rates.get(month)]
    if not beside or not rates.get(partition.key):
        return Outcome(True, f"{partition.key}: no month beside it to compare with.", warn=True)
    rate = rates[partition.key]
    ratios = {month: rate / rates[month] for month in beside}
    low, high = USUAL_VOLUME
    return Outcome(
        passed=all(low <= ratio <= high for ratio in ratios.values()),
        warn=True,
        sentence=f"{partition.key}: {rate:,.0f} rows a day, "
        + " and ".join(f"{ratio:.2f} times {month}" for month, ratio in ratios.items())
        + f" (usual is {low} to {high}).",
        metadata={"rows_a_day": rate},
    )


def months_beside(month: str) -> tuple[str, str]:
    """The months before and after."""
    return month_before(month), month_after(month)


def matches_gold(publication: Publication) -> Check:
    """That ClickHouse has of a partition what gold has."""

    def run(partition: Partition) -> Outcome:
        gold = partition.lake.scan(publication.gold, partition.key).collect()
        here = there = 0
        differing: list[str] = []
        for part in publication.parts(partition.key):
            wanted = set(gold.filter(part.rows).select(*publication.table.columns).iter_rows())
            found = set(partition.clickhouse.partition_rows(publication.table, part.partition))
            here, there = here + len(found), there + len(wanted)
            differing += [str(row) for row in sorted(wanted ^ found, key=str)]
        return Outcome(
            passed=not differing,
            sentence=f"{partition.key}: {here:,} rows in ClickHouse, {there:,} in gold; "
            + (f"{len(differing):,} differ." if differing else "all are the same."),
            metadata={"rows_published": here, "rows_in_gold": there, "differing": differing[:10]},
        )

    return Check("matches_gold", "What readers see is what gold has.", run)
