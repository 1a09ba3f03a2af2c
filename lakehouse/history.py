"""What Dagster's event log remembers of assets, partition by partition."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from lakehouse.partitions import WHOLE

if TYPE_CHECKING:
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

CheckStatuses: TypeAlias = Mapping[tuple[dg.AssetCheckKey, str], str]
"""By check and partition, what came of it last, as Dagster calls that."""

CHECK_FAILED, CHECK_PASSED = "FAILED", "SUCCEEDED"

_CODE_VERSION_TAG = "dagster/code_version"


@dataclass(frozen=True)
class Materialization:
    """A partition's latest materialization; `event` orders it among all events of the log."""

    event: int
    timestamp: float
    run_id: str
    code_version: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class CheckResult:
    """A check's latest evaluation on a partition."""

    asset_key: dg.AssetKey
    name: str
    partition: str
    passed: bool
    stops: bool
    """Whether it failed in a way that stops what is downstream."""
    sentence: str


def latest_materializations(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: Iterable[str] | None = None
) -> dict[str, Materialization]:
    """The latest materialization of each of these partitions, of all where none are named."""
    events = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset_key,
        dg.DagsterEventType.ASSET_MATERIALIZATION,
        set(partitions) if partitions is not None else None,
    )
    if not events:
        return {}
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset_key, storage_ids=list(events.values())),
        limit=len(events),
    ).records
    return {record.partition_key: _made(record) for record in records if record.partition_key}


def latest_materialization(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey
) -> Materialization | None:
    """The latest materialization of an asset without partitions."""
    records = instance.fetch_materializations(asset_key, limit=1).records
    return _made(records[0]) if records else None


def _made(record: dg.EventLogRecord) -> Materialization:
    materialization = record.asset_materialization
    tags = materialization.tags if materialization else None
    metadata = materialization.metadata if materialization else {}
    return Materialization(
        event=record.storage_id,
        timestamp=record.timestamp,
        run_id=record.run_id,
        code_version=(tags or {}).get(_CODE_VERSION_TAG),
        metadata={name: value.value for name, value in metadata.items()},
    )


def observed_since(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, made: Mapping[str, Materialization]
) -> set[str]:
    """The partitions that were observed after they were made: published again, that is."""
    observed = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset_key, dg.DagsterEventType.ASSET_OBSERVATION, set(made)
    )
    return {partition for partition, event in observed.items() if event > made[partition].event}


def latest_of_partition(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition: str
) -> Materialization | None:
    """A partition's latest materialization, or that of an asset without partitions."""
    if partition == WHOLE:
        return latest_materialization(instance, asset_key)
    return latest_materializations(instance, asset_key, [partition]).get(partition)


def latest_metadata(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition: str
) -> Mapping[str, Any]:
    """The metadata of a partition's latest materialization; empty without one."""
    made = latest_of_partition(instance, asset_key, partition)
    return made.metadata if made else {}


def failed_attempts(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> set[str]:
    """Partitions whose latest attempt is over and made nothing."""
    attempts = instance.event_log_storage
    found = attempts.get_latest_asset_partition_materialization_attempts_without_materializations(
        asset_key
    )
    if not found:
        return set()
    runs = instance.get_runs(dg.RunsFilter(run_ids=list({run_id for run_id, _ in found.values()})))
    under_way = {run.run_id for run in runs if not run.is_finished}
    return {partition for partition, (run_id, _) in found.items() if run_id not in under_way}


def last_attempt_failed(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> bool:
    """Whether the latest attempt at an asset without partitions is over and made nothing."""
    records = instance.get_asset_records([asset_key])
    entry = records[0].asset_entry if records else None
    if entry is None or entry.last_run_id is None:
        return False
    if entry.last_materialization and entry.last_materialization.run_id == entry.last_run_id:
        return False
    run = instance.get_run_by_id(entry.last_run_id)
    return run is None or run.is_finished


def check_statuses(
    instance: dg.DagsterInstance,
    checks: Sequence[dg.AssetCheckSpec],
    partitions: Iterable[str] | None = None,
) -> CheckStatuses:
    """What came last of these checks, on each of these partitions, on all where none are named.

    A check of a whole table has one status whatever the partitions.
    """
    whole = {check.key for check in checks if check.partitions_def is None}
    found = _latest_executions(instance, list(whole), None)
    statuses = {(key, WHOLE): record.status.value for key, record in found.items() if key in whole}
    infos = instance.event_log_storage.get_asset_check_partition_info(
        [check.key for check in checks if check.partitions_def is not None],
        partition_keys=list(partitions) if partitions is not None else None,
    )
    for info in infos:
        status = info.latest_execution_status.value
        statuses[info.check_key, info.partition_key or WHOLE] = status
    return statuses


def failing_checks(instance: dg.DagsterInstance, statuses: CheckStatuses) -> list[CheckResult]:
    """What the checks say that failed last."""
    results = []
    for (key, partition), status in statuses.items():
        if status != CHECK_FAILED:
            continue
        record = _latest_executions(instance, [key], partition or None).get(key)
        evaluation = record.evaluation if record else None
        if not isinstance(evaluation, dg.AssetCheckEvaluation):
            # Another run has planned it since, or it was planned by one that broke off.
            run = instance.get_run_by_id(record.run_id) if record else None
            if run and not run.is_finished:
                continue
            evaluation = None
        results.append(
            CheckResult(
                asset_key=key.asset_key,
                name=key.name,
                partition=partition,
                passed=False,
                stops=evaluation is None or evaluation.severity is dg.AssetCheckSeverity.ERROR,
                sentence=(evaluation.description if evaluation else None)
                or f"{partition or 'all'}: the check itself broke off; see its run",
            )
        )
    return results


def _latest_executions(
    instance: dg.DagsterInstance, check_keys: Sequence[dg.AssetCheckKey], partition: str | None
) -> "Mapping[dg.AssetCheckKey, AssetCheckExecutionRecord]":
    # Dagster has no public way to ask for the checks of one partition.
    from dagster._core.event_api import PartitionKeyFilter

    return instance.event_log_storage.get_latest_asset_check_execution_by_key(
        check_keys, partition_filter=PartitionKeyFilter(key=partition)
    )
