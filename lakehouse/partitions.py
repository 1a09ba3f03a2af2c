"""The months and years of each data set, and how one maps to the other."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TypeVar

import dagster as dg

from lakehouse.transforms.taxi.eras import FIRST_MONTHS

# The mapping below works in the pinned Dagster; it says at every import that it may change.
warnings.filterwarnings("ignore", "Parameter `allow_nonexistent_upstream", dg.BetaWarning)

_T = TypeVar("_T")

_AT_ONCE = 2

WHOLE = ""
"""The one partition of what has no partitions."""

DRIVES_FIRST_MONTH = "2013-04"

drives_months = dg.MonthlyPartitionsDefinition(start_date=DRIVES_FIRST_MONTH, fmt="%Y-%m")

drives_years = dg.TimeWindowPartitionsDefinition(
    start="2013", fmt="%Y", cron_schedule="0 0 1 1 *", end_offset=1
)

taxi_months = {
    service: dg.MonthlyPartitionsDefinition(start_date=first, fmt="%Y-%m")
    for service, first in FIRST_MONTHS.items()
}

# The publisher's workbook begins in 2009-12; people shift its dates to try things out.
retail_months = dg.MonthlyPartitionsDefinition(start_date="2000-01", fmt="%Y-%m")

# 2013 begins in April, and the current year has months still to come.
months_of_year = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


def side_by_side(make: Callable[[str], _T], partitions: Sequence[str]) -> list[_T]:
    """What `make` gives of each partition, in their order.

    Two are made at once, since one computes while the other waits for a database. After an error no
    more are begun, and it is raised when those under way are done.
    """
    if len(partitions) == 1:
        return [make(partitions[0])]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(make, partitions))


def months_between(months: dg.TimeWindowPartitionsDefinition, first: str, last: str) -> list[str]:
    """The partitions from `first` to `last`, both included."""
    return [key for key in months.get_partition_keys() if first <= key <= last]


def spans(months: Iterable[str]) -> str:
    """Months in words, those that follow each other as `2020-05 to 2020-11`."""
    runs = without_gaps(months)
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def without_gaps(months: Iterable[str]) -> list[list[str]]:
    """Months in order, cut where one is missing."""
    runs: list[list[str]] = []
    for month in sorted(months):
        if runs and month_after(runs[-1][-1]) == month:
            runs[-1].append(month)
        else:
            runs.append([month])
    return runs


def month_start(month: str) -> date:
    """The first day of a month."""
    return date.fromisoformat(f"{month}-01")


def month_after(month: str) -> str:
    """The month that follows."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year + 1}-01" if number == 12 else f"{year}-{number + 1:02d}"


def month_before(month: str) -> str:
    """The month that comes before."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year - 1}-12" if number == 1 else f"{year}-{number - 1:02d}"


def months_of(year: str) -> list[str]:
    """The twelve months of a year."""
    return [f"{year}-{month:02d}" for month in range(1, 13)]
