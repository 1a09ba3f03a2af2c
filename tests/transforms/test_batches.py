"""A partition is worked on in pieces of whole days."""

from datetime import date, timedelta

import polars as pl
import pytest

from lakehouse.transforms.batches import day_batches

FIRST = date(2018, 1, 1)


def rows(*counts: int) -> pl.LazyFrame:
    """So many rows on each day, the days from the last to the first."""
    days = [FIRST + timedelta(day) for day, count in enumerate(counts) for _ in range(count)]
    return pl.LazyFrame(
        {"date": days[::-1], "row": range(len(days))}, schema_overrides={"date": pl.Date}
    )


@pytest.mark.parametrize(
    ("counts", "size", "batches"),
    [
        ([2, 2, 2], 4, [[2, 2], [2]]),
        ([2, 2, 2], 5, [[2, 2], [2]]),
        ([2, 2, 2], 100, [[2, 2, 2]]),
        ([9, 1, 9], 4, [[9], [1], [9]]),
        ([1, 0, 1], 2, [[1, 1]]),
        ([], 4, []),
    ],
)
def test_days_are_kept_whole_and_in_order(counts, size, batches):
    found = list(day_batches(rows(*counts), size))
    by_day = [batch.group_by("date").len().sort("date") for batch in found]
    assert [days["len"].to_list() for days in by_day] == batches
    dates = [day for days in by_day for day in days["date"]]
    assert dates == sorted(set(dates))
    assert sorted(row for batch in found for row in batch["row"]) == list(range(sum(counts)))
