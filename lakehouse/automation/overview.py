"""How a data set stands, in figures: for `lakehouse status`."""

from calendar import monthrange
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from lakehouse.automation.dataset import Dataset
from lakehouse.automation.freshness import State, dataset_state
from lakehouse.partitions import WHOLE
from lakehouse.resources.lake import Lake
from lakehouse.settings import Settings


def overview(instance: dg.DagsterInstance, dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """Partitions of every asset by state, failing checks, and the age of the newest data.

    The publisher is not asked: an archive that was published again shows as stale once the sensor
    for publications has seen it.
    """
    specs = dataset.specs
    state = dataset_state(instance, specs, dataset.check_specs({spec.key for spec in specs}))
    assets = []
    failed: dict[str, list[str]] = {}
    told: set[str] = set()
    for asset in specs:
        states = Counter(state.states[asset.key].values())
        partitions = asset.partitions_def.get_partition_keys() if asset.partitions_def else [WHOLE]
        there = sorted(state.made[asset.key])
        here = {p for p, how in state.states[asset.key].items() if how is State.FAILED} - told
        told |= here
        if here:
            failed[asset.key.to_user_string()] = sorted(here)
        assets.append(
            {
                "asset": asset.key.to_user_string(),
                "fresh": states[State.FRESH],
                "stale": states[State.STALE],
                "failed": states[State.FAILED],
                "missing": len(partitions)
                - states[State.FRESH]
                - states[State.STALE]
                - states[State.FAILED],
                "newest": there[-1] if there else None,
            }
        )
    ends = [stage.specs[-1].key for stage in dataset.stages if stage.months]
    newest = max((month for key in ends for month in state.made[key]), default=None)
    lake = Lake(settings)
    rejects = [stage.rejects for stage in dataset.stages if stage.rejects]
    return {
        "dataset": dataset.name,
        "assets": assets,
        "newest_data": newest,
        "newest_data_age_days": _age(newest) if newest else None,
        # Where each failed first; what follows it failed with it.
        "failed_partitions": failed,
        "failing_checks": [
            {
                "asset": check.asset_key.to_user_string(),
                "check": check.name,
                "partition": check.partition,
                "stops": check.stops,
                "sentence": check.sentence,
            }
            for check in state.failing
        ],
        "rows_rejected": sum(sum(lake.row_counts(table).values()) for table in rejects),
    }


def _age(month: str) -> int:
    """Days since a month's last day."""
    year, number = int(month[:4]), int(month[5:])
    last = date(year, number, monthrange(year, number)[1])
    return (datetime.now(UTC).date() - last).days
