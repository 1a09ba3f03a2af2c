"""The data sets by name: what a command needs to know of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from lakehouse.automation import drives
from lakehouse.checks.drives import CHECKS
from lakehouse.history import Materialization
from lakehouse.partitions import drives_months
from lakehouse.resources.lake import LakeTable
from lakehouse.settings import Settings
from lakehouse.tables import drives as drives_tables


@dataclass(frozen=True)
class Dataset:
    """A data set: its assets, each behind its dependencies, its months, checks and rejects."""

    name: str
    months: dg.TimeWindowPartitionsDefinition
    monthly: Sequence[dg.AssetsDefinition]
    yearly: Sequence[dg.AssetsDefinition]
    checks: dict[str, Sequence[Any]]
    rejects: LakeTable
    source_is_current: Callable[[Settings], Callable[[str, Materialization], bool]]

    @property
    def assets(self) -> list[dg.AssetsDefinition]:
        """Monthly and yearly assets."""
        return [*self.monthly, *self.yearly]

    @property
    def check_keys(self) -> list[dg.AssetCheckKey]:
        """The checks of all its assets."""
        return [
            dg.AssetCheckKey(dg.AssetKey.from_user_string(asset), check.name)
            for asset, checks in self.checks.items()
            for check in checks
        ]


DATASETS = {
    "drives": Dataset(
        name="drives",
        months=drives_months,
        monthly=drives.monthly_assets,
        yearly=drives.yearly_assets,
        checks=dict(CHECKS),
        rejects=drives_tables.REJECTS,
        source_is_current=drives.source_is_current,
    )
}
