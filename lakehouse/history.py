"""What Dagster's event log remembers of a partition."""

from collections.abc import Mapping
from typing import Any

import dagster as dg


def latest_metadata(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition: str
) -> Mapping[str, Any]:
    """The metadata of a partition's latest materialization; empty without one."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset_key, asset_partitions=[partition]), limit=1
    ).records
    if not records or not (materialization := records[0].asset_materialization):
        return {}
    return {name: value.value for name, value in materialization.metadata.items()}
