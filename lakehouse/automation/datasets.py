"""The data sets by name: what a command needs to know of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg

from lakehouse.automation import drives
from lakehouse.checks.drives import CHECKS
from lakehouse.history import Materialization
from lakehouse.partitions import WHOLE
from lakehouse.resources.lake import LakeTable
from lakehouse.settings import Settings
from lakehouse.tables import drives as drives_tables


class Publisher(Protocol):
    """What the source of a data set can be asked."""

    def is_current(self, key: dg.AssetKey, partition: str, made: Materialization) -> bool:
        """Whether the source still has what a partition was made from."""

    def lacks(self, stage: str, partition: str) -> str | None:
        """Why the source has nothing for a partition; None where it has, or cannot be asked."""


@dataclass(frozen=True)
class Stage:
    """Assets with the same partitions, each behind its dependencies; a run makes one partition.

    Attributes:
        name: What people call it where a data set has several of a kind, such as a taxi service.
        assets: The assets.
        rejects: Where the rows are that could not be used.
        together: Whether a run makes all the partitions of a range, because starting costs more
            than a partition does.
    """

    name: str
    assets: Sequence[dg.AssetsDefinition]
    rejects: LakeTable | None = None
    together: bool = False

    def partitions(self, months: Sequence[str]) -> list[str]:
        """Its partitions that these months are in, in order."""
        definition = self.assets[0].partitions_def
        if definition is None:
            return [WHOLE]
        wanted = {*months, *(month[:4] for month in months)}
        return [key for key in definition.get_partition_keys() if key in wanted]

    @property
    def months(self) -> list[str]:
        """All its months; none where it has other partitions."""
        definition = self.assets[0].partitions_def
        keys = definition.get_partition_keys() if definition else []
        return [key for key in keys if len(key) == len("2018-01")]


@dataclass(frozen=True)
class Dataset:
    """A data set: its stages, each behind those it depends on, and the checks of its assets."""

    name: str
    stages: Sequence[Stage]
    checks: dict[str, Sequence[Any]]
    publisher: Callable[[Settings], Publisher]

    @property
    def assets(self) -> list[dg.AssetsDefinition]:
        """The assets of all stages."""
        return [asset for stage in self.stages for asset in stage.assets]

    @property
    def services(self) -> list[str]:
        """The stages that can be asked for by name."""
        return [stage.name for stage in self.stages if stage.name]

    def chosen(self, service: str | None) -> list[Stage]:
        """The stages of one service and what all services share; all stages for None."""
        return [s for s in self.stages if service is None or s.name in ("", service)]

    def check_keys(self, assets: Sequence[dg.AssetsDefinition]) -> list[dg.AssetCheckKey]:
        """The checks of these assets."""
        return [
            dg.AssetCheckKey(asset.key, check.name)
            for asset in assets
            for check in self.checks.get(asset.key.to_user_string(), ())
        ]


def datasets(settings: Settings) -> dict[str, Dataset]:
    """The data sets that these settings have."""
    return {
        "drives": Dataset(
            name="drives",
            stages=[
                Stage("", drives.monthly_assets, rejects=drives_tables.REJECTS),
                Stage("", drives.yearly_assets),
            ],
            checks=dict(CHECKS),
            publisher=drives.DrivesPublisher,
        )
    }
