"""The factory: what is recorded of the checks of a table where one of them breaks off."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.checks.factory import Check, Outcome, Partition, build_checks
from lakehouse.instance import open_instance
from lakehouse.settings import Settings

KEY = dg.AssetKey("days")
MONTHS = dg.MonthlyPartitionsDefinition("2024-01", end_date="2024-05", fmt="%Y-%m")
RESOURCES = dict.fromkeys(("lake", "clickhouse", "objects", "bigquery", "postgres"), "unused")


@dg.asset(key=KEY, partitions_def=MONTHS)
def days() -> dg.MaterializeResult:
    return dg.MaterializeResult()


def breaks_off_in_february(partition: Partition) -> Outcome:
    if partition.key == "2024-02":
        raise ZeroDivisionError("of no rows")
    return Outcome(True, "fine")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with open_instance(Settings()) as instance:
        yield instance


@pytest.mark.parametrize("months", [["2024-02"], ["2024-01", "2024-02", "2024-03"]])
def test_what_was_found_before_a_check_broke_off_is_recorded(instance, months):
    checks = [
        Check("first", "", lambda _: Outcome(True, "fine")),
        Check("second", "", breaks_off_in_february),
    ]
    job = dg.Definitions(
        [days], asset_checks=[build_checks(KEY, MONTHS, checks)], resources=RESOURCES
    ).resolve_implicit_global_asset_job_def()

    result = job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags={
            "dagster/asset_partition_range_start": months[0],
            "dagster/asset_partition_range_end": months[-1],
        },
    )

    found = {(e.check_name, e.partition) for e in result.get_asset_check_evaluations()}
    assert not result.success
    assert found == {("first", month) for month in months} | {
        ("second", month) for month in months if month != "2024-02"
    }
    [failure] = [e for e in result.all_events if e.is_step_failure]
    assert "of no rows" in str(failure.step_failure_data.error)
