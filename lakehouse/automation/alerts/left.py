"""What a failed run left undone, and nobody has tried again since."""

import dagster as dg


def left_partitions(
    instance: dg.DagsterInstance, run_id: str, failure_id: int
) -> list[tuple[dg.AssetKey, str]]:
    """The partitions that a failed run did not make well, and no later run has tried."""
    planned = instance.get_asset_partitions_for_run(
        run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    made = instance.get_asset_partitions_for_run(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    blocked = _blocked_assets(instance, run_id)
    left = []
    for key, partitions in planned.items():
        failed = {
            partition
            for partition in partitions
            if partition and (key in blocked or partition not in made.get(key, ()))
        }
        if not failed:
            continue
        tried = instance.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, failed
        )
        mended = instance.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION, failed
        )
        left += [
            (key, partition)
            for partition in failed
            if max(tried.get(partition, 0), mended.get(partition, 0)) < failure_id
        ]
    return sorted(left)


def _blocked_assets(instance: dg.DagsterInstance, run_id: str) -> set[dg.AssetKey]:
    """The assets that were made but failed a blocking check."""
    records = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ).records
    evaluations = [
        record.event_log_entry.get_dagster_event().asset_check_evaluation_data for record in records
    ]
    return {
        evaluation.asset_key
        for evaluation in evaluations
        if evaluation.blocking
        and not evaluation.passed
        and evaluation.severity is dg.AssetCheckSeverity.ERROR
    }
