"""What a data set is to the command and to Dagster; each one fills this in."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any, Protocol, TypeAlias

import dagster as dg

from lakehouse.checks.factory import Check, build_checks, check_specs
from lakehouse.history import Materialization
from lakehouse.partitions import WHOLE
from lakehouse.resources.lake import LakeTable
from lakehouse.settings import Settings

Job: TypeAlias = Any
"""What `define_asset_job` gives, for which Dagster has no public name."""


class Publisher(Protocol):
    """What the source of a data set can be asked."""

    def is_current(self, key: dg.AssetKey, partition: str, made: Materialization) -> bool:
        """Whether the source still has what a partition was made from."""

    def lacks(self, stage: str, partition: str) -> str | None:
        """Why the source has nothing for a partition; None where it has, or cannot be asked."""


class Runs(Enum):
    """How many partitions a run of a backfill makes."""

    OF_ONE = auto()
    """One, which takes long or much memory."""
    OF_SEVERAL = auto()
    """Up to 36, since a run costs more than a partition does: some ten seconds' work, which a kill
    undoes. Where that run fails each is made by itself, so that a bad month stops no other."""
    OF_ALL = auto()
    """A whole range and what is up to date within it, since starting costs most."""


@dataclass(frozen=True)
class Stage:
    """Assets with the same partitions, each behind its dependencies.

    Attributes:
        name: What people call it where a data set has several of a kind, such as a taxi service.
        assets: The assets; those that one of them is made from stand in this or an earlier stage.
        rejects: Where the rows are that could not be used.
        runs: How many partitions a run of a backfill makes.
        charted: The tables whose rows a report shows beside those of the months before; where none
            is named, the first one that tells how many rows came in.
    """

    name: str
    assets: Sequence[dg.AssetsDefinition]
    rejects: LakeTable | None = None
    runs: Runs = Runs.OF_ONE
    charted: Sequence[dg.AssetKey] = ()

    @cached_property
    def specs(self) -> list[dg.AssetSpec]:
        """What its assets make, each behind what it is made from."""
        specs = {spec.key: spec for asset in self.assets for spec in asset.specs}
        upstream = {
            key: [dep.asset_key for dep in spec.deps if dep.asset_key in specs]
            for key, spec in specs.items()
        }
        return [specs[key] for key in TopologicalSorter(upstream).static_order()]

    @property
    def partitions_def(self) -> dg.PartitionsDefinition | None:
        """The partitions that all its assets have."""
        return self.assets[0].partitions_def

    def partitions(self, months: Sequence[str]) -> list[str]:
        """Its partitions that these months are in, in order."""
        definition = self.partitions_def
        if definition is None:
            return [WHOLE]
        wanted = {*months, *(month[:4] for month in months)}
        return [key for key in definition.get_partition_keys() if key in wanted]

    def has(self, month: str) -> bool:
        """Whether this is one of its months, of which there may be hundreds."""
        return self.partitions_def is not None and self.partitions_def.has_partition_key(month)

    @property
    def months(self) -> list[str]:
        """All its months; none where it has other partitions."""
        definition = self.partitions_def
        keys = definition.get_partition_keys() if definition else []
        return [key for key in keys if len(key) == len("2018-01")]


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: Its name, which is the group of its assets.
        stages: Each behind those that it depends on.
        checks: The checks of each asset, by its key.
        publisher: Whom to ask whether there is something new.
        automation: Gives its jobs, schedules and sensors.
        off: What of it the settings switch off, for people.
    """

    name: str
    stages: Sequence[Stage]
    checks: Mapping[str, Sequence[Check]]
    publisher: Callable[[Settings], Publisher]
    automation: Callable[[], dg.Definitions]
    off: Sequence[str] = ()

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

    @property
    def specs(self) -> list[dg.AssetSpec]:
        """What the assets of all stages make, each behind what it is made from."""
        return [spec for stage in self.stages for spec in stage.specs]

    def check_specs(self, keys: Collection[dg.AssetKey]) -> list[dg.AssetCheckSpec]:
        """The checks of these assets."""
        return [
            check
            for asset in self.assets
            for check in (*asset.check_specs, *self._own_check_specs(asset))
            if check.asset_key in keys
        ]

    def _own_check_specs(self, asset: dg.AssetsDefinition) -> list[dg.AssetCheckSpec]:
        return [
            spec
            for key in asset.keys
            for spec in check_specs(key, asset.partitions_def, self._checks(key))
        ]

    def _checks(self, key: dg.AssetKey) -> Sequence[Check]:
        return self.checks.get(key.to_user_string(), ())

    def definitions(self) -> dg.Definitions:
        """All that Dagster needs to know of it, but for the resources."""
        checks = [
            build_checks(key, asset.partitions_def, self._checks(key))
            for asset in self.assets
            for key in asset.keys
            if self._checks(key)
        ]
        return dg.Definitions.merge(
            dg.Definitions(assets=self.assets, asset_checks=checks), self.automation()
        )
