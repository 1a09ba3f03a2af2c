"""Pieces of a partition that fit in memory."""

from collections.abc import Iterator
from datetime import date

import polars as pl

BATCH_ROWS = 2_000_000
"""Rows that are worked on at a time; memory holds as many, whatever the month has."""


def day_batches(rows: pl.LazyFrame, size: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
    """Whole days, in order, about `size` rows at a time, of rows that have a `date`."""
    days = rows.group_by("date").agg(pl.len()).sort("date").collect(engine="streaming")
    batch: list[date] = []
    total = 0
    for day, count in days.iter_rows():
        if batch and total + count > size:
            yield rows.filter(pl.col("date").is_between(batch[0], batch[-1])).collect()
            batch, total = [], 0
        batch.append(day)
        total += count
    if batch:
        yield rows.filter(pl.col("date").is_between(batch[0], batch[-1])).collect()
