"""Dagster's event log in its order, across runs; what sensors with a cursor read."""

from collections.abc import Sequence

import dagster as dg


def newest_event(instance: dg.DagsterInstance) -> int:
    """The id of the log's last event; 0 where there is none."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def events_after(
    instance: dg.DagsterInstance,
    position: int,
    types: Sequence[dg.DagsterEventType],
    limit: int,
) -> list[tuple[int, dg.EventLogEntry]]:
    """The next events of these types behind a position, with their ids, in order."""
    # The public get_event_records has no order across runs on SQLite, and nothing else public
    # reads evaluations of all checks. This is what Dagster's own daemons read.
    storage = instance.event_log_storage
    # Each type is read by itself; an event that arrives in between must not be passed over.
    newest = newest_event(instance)
    events: dict[int, dg.EventLogEntry] = {}
    for event_type in types:
        events |= storage.get_logs_for_all_runs_by_log_id(position, event_type, limit)
    return [item for item in sorted(events.items())[:limit] if item[0] <= newest]


def partition_of(run: dg.DagsterRun | None) -> str:
    """The partition of a run, its first and last one where it has several; empty without one."""
    if run is None:
        return ""
    first = run.tags.get("dagster/asset_partition_range_start")
    last = run.tags.get("dagster/asset_partition_range_end")
    if first and last:
        return first if first == last else f"{first} to {last}"
    return run.tags.get("dagster/partition", "")


def asset_of_step(step_key: str) -> str:
    """The asset that a step makes, as people write it."""
    return step_key.replace("__", "/")


def step_failures(instance: dg.DagsterInstance, run_id: str) -> list[dg.DagsterEvent]:
    """The steps of a run that failed for another reason than a check, whose evaluation says it."""
    return [
        failure for failure in all_step_failures(instance, run_id) if not _is_failed_check(failure)
    ]


def all_step_failures(instance: dg.DagsterInstance, run_id: str) -> list[dg.DagsterEvent]:
    """The steps of a run that failed."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    return [record.event_log_entry.get_dagster_event() for record in records]


def _is_failed_check(failure: dg.DagsterEvent) -> bool:
    error = failure.step_failure_data.error
    return error is not None and error.cls_name == "DagsterAssetCheckFailedError"


def failure_sentence(failure: dg.DagsterEvent) -> str:
    """What an asset said when it failed, without Dagster's wrapping."""
    data = failure.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    if data.error is None:
        return failure.message or ""
    error = data.error.cause or data.error
    # Without the modules in front of the name of the class.
    return error.message[max(error.message.find(error.cls_name or ""), 0) :]


def check_sentence(evaluation: dg.AssetCheckEvaluation) -> str:
    """What a check says; dbt's tests say how many rows break them."""
    if evaluation.description:
        return evaluation.description
    rows = evaluation.metadata.get("dagster_dbt/failed_row_count")
    return f"{rows.value:,} rows break it." if rows else ""
