"""The months and years of each data set, and how one maps to the other."""

import warnings

import dagster as dg

# The mapping below works in the pinned Dagster; it says at every import that it may change.
warnings.filterwarnings("ignore", "Parameter `allow_nonexistent_upstream", dg.BetaWarning)

DRIVES_FIRST_MONTH = "2013-04"

drives_months = dg.MonthlyPartitionsDefinition(start_date=DRIVES_FIRST_MONTH, fmt="%Y-%m")

drives_years = dg.TimeWindowPartitionsDefinition(
    start="2013", fmt="%Y", cron_schedule="0 0 1 1 *", end_offset=1
)

# 2013 begins in April, and the current year has months still to come.
months_of_year = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


def months_between(months: dg.TimeWindowPartitionsDefinition, first: str, last: str) -> list[str]:
    """The partitions from `first` to `last`, both included."""
    return [key for key in months.get_partition_keys() if first <= key <= last]


def months_of(year: str) -> list[str]:
    """The twelve months of a year."""
    return [f"{year}-{month:02d}" for month in range(1, 13)]
