"""What Dagster's event log remembers of assets, partition by partition."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

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
    found = {}
    for record in records:
        materialization = record.asset_materialization
        if materialization and materialization.partition:
            found[materialization.partition] = Materialization(
                event=record.storage_id,
                timestamp=record.timestamp,
                run_id=record.run_id,
                code_version=(materialization.tags or {}).get(_CODE_VERSION_TAG),
                metadata={name: value.value for name, value in materialization.metadata.items()},
            )
    return found


def observed_since(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, made: Mapping[str, Materialization]
) -> set[str]:
    """The partitions that were observed after they were made: published again, that is."""
    observed = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset_key, dg.DagsterEventType.ASSET_OBSERVATION, set(made)
    )
    return {partition for partition, event in observed.items() if event > made[partition].event}


def latest_metadata(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition: str
) -> Mapping[str, Any]:
    """The metadata of a partition's latest materialization; empty without one."""
    found = latest_materializations(instance, asset_key, [partition])
    return found[partition].metadata if partition in found else {}


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


def failing_checks(
    instance: dg.DagsterInstance,
    check_keys: Sequence[dg.AssetCheckKey],
    partitions: Iterable[str] | None = None,
) -> list[CheckResult]:
    """The checks whose latest evaluation failed, on each partition that it failed on."""
    infos = instance.event_log_storage.get_asset_check_partition_info(
        check_keys, partition_keys=list(partitions) if partitions is not None else None
    )
    results = []
    for info in infos:
        if info.latest_execution_status.value != "FAILED" or info.partition_key is None:
            continue
        evaluation = _evaluation(instance, info.check_key, info.partition_key)
        results.append(
            CheckResult(
                asset_key=info.check_key.asset_key,
                name=info.check_key.name,
                partition=info.partition_key,
                passed=False,
                stops=evaluation is None or evaluation.severity is dg.AssetCheckSeverity.ERROR,
                sentence=(evaluation.description if evaluation else None)
                or f"{info.partition_key}: the check itself broke off; see its run",
            )
        )
    return results


def _evaluation(
    instance: dg.DagsterInstance, check_key: dg.AssetCheckKey, partition: str
) -> dg.AssetCheckEvaluation | None:
    # Dagster has no public way to ask for the checks of one partition.
    from dagster._core.event_api import PartitionKeyFilter

    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [check_key], partition_filter=PartitionKeyFilter(key=partition)
    )
    record = found.get(check_key)
    return record.evaluation if record else None
