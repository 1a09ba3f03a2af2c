"""Which partitions are up to date, and what a month needs to become so.

The rule is that of `make`: a partition is stale when its code has another version, or something
upstream was made or published again after it, and failed when its latest attempt made nothing or a
check that stops what is downstream failed on it. What has no partitions, such as a look-up, does
not make stale all that was ever made with it: whether it was another then, the source is asked.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import dagster as dg

from lakehouse.history import (
    CheckResult,
    Materialization,
    check_statuses,
    failed_attempts,
    failing_checks,
    last_attempt_failed,
    latest_materialization,
    latest_materializations,
    observed_since,
)
from lakehouse.partitions import WHOLE, months_of

IsCurrent = Callable[[dg.AssetKey, str, Materialization], bool]
"""Tells whether the outside still is what it was when a partition of an asset was made."""


class State(StrEnum):
    """How a partition of an asset stands."""

    FRESH = "fresh"
    STALE = "stale"
    FAILED = "failed"
    MISSING = "missing"


@dataclass(frozen=True)
class DatasetState:
    """How the partitions of a data set's assets stand."""

    states: dict[dg.AssetKey, dict[str, State]]
    made: dict[dg.AssetKey, dict[str, Materialization]]
    failing: list[CheckResult]

    def of(self, key: dg.AssetKey, partition: str) -> State:
        """The state of one partition."""
        return self.states[key].get(partition, State.MISSING)


def dataset_state(
    instance: dg.DagsterInstance,
    assets: Sequence[dg.AssetSpec],
    checks: Sequence[dg.AssetCheckSpec],
    partitions: Iterable[str] | None = None,
    is_current: IsCurrent | None = None,
) -> DatasetState:
    """How these assets, which stand before what depends on them, are.

    Args:
        instance: Whose event log is asked.
        assets: All assets of the data set, each behind its dependencies.
        checks: Their checks.
        partitions: The partitions of interest; all where not given.
        is_current: Asked of what is otherwise fresh.
    """
    wanted = set(partitions) if partitions is not None else None
    made = {asset.key: _made(instance, asset, wanted) for asset in assets}
    attempts = {asset.key: _failed(instance, asset) for asset in assets}
    failing = failing_checks(instance, check_statuses(instance, checks, wanted))
    stopped: dict[dg.AssetKey, set[str]] = defaultdict(set)
    for check in failing:
        if check.stops:
            of_all = check.partition == WHOLE
            stopped[check.asset_key] |= set(made[check.asset_key]) if of_all else {check.partition}
    states: dict[dg.AssetKey, dict[str, State]] = {}
    for asset in assets:
        deps = [dep.asset_key for dep in asset.deps if dep.asset_key in made]
        states[asset.key] = {}
        published_again = set() if deps else observed_since(instance, asset.key, made[asset.key])
        known = set(made[asset.key]) | attempts[asset.key]
        for partition in known if wanted is None else known & (wanted | {WHOLE}):
            state = _state(
                made[asset.key].get(partition),
                failed=partition in attempts[asset.key] or partition in stopped[asset.key],
                published_again=partition in published_again,
                code_version=asset.code_version,
                upstream=[
                    made[dep][source]
                    for dep in deps
                    for source in _upstream_partitions(partition, made[dep])
                ],
            )
            if state is State.FRESH and is_current:
                still = is_current(asset.key, partition, made[asset.key][partition])
                state = State.FRESH if still else State.STALE
            states[asset.key][partition] = state
    return DatasetState(states, made, failing)


def _made(
    instance: dg.DagsterInstance, asset: dg.AssetSpec, wanted: set[str] | None
) -> dict[str, Materialization]:
    if asset.partitions_def is not None:
        return latest_materializations(instance, asset.key, wanted)
    made = latest_materialization(instance, asset.key)
    return {WHOLE: made} if made else {}


def _failed(instance: dg.DagsterInstance, asset: dg.AssetSpec) -> set[str]:
    if asset.partitions_def is not None:
        return failed_attempts(instance, asset.key)
    return {WHOLE} if last_attempt_failed(instance, asset.key) else set()


def needed(
    assets: Sequence[dg.AssetSpec], state: DatasetState, partition: str
) -> list[dg.AssetKey]:
    """The assets to materialize for a partition: what is not fresh, and what follows that."""
    found: list[dg.AssetKey] = []
    for asset in assets:
        follows = any(dep.asset_key in found for dep in asset.deps)
        if follows or state.of(asset.key, partition) is not State.FRESH:
            found.append(asset.key)
    return found


def held_back(
    assets: Sequence[dg.AssetSpec],
    state: DatasetState,
    partition: str,
    keys: Sequence[dg.AssetKey],
) -> dict[dg.AssetKey, list[CheckResult]]:
    """Of these assets, those made from what failed a check and would not be made anew with them.

    Within a run Dagster sees to it that a failed check stops what follows; across runs nobody
    does. With each, the checks that hold it back; none where it follows another one held back.
    """
    held: dict[dg.AssetKey, list[CheckResult]] = {}
    for asset in (asset for asset in assets if asset.key in keys):
        deps = {dep.asset_key for dep in asset.deps}
        beside = deps - set(keys)
        failing = [
            check
            for check in state.failing
            if check.stops
            and check.asset_key in beside
            and check.partition in (WHOLE, *sources(partition))
        ]
        if failing or deps & set(held):
            held[asset.key] = failing
    return held


def _state(
    made: Materialization | None,
    *,
    failed: bool,
    published_again: bool,
    code_version: str | None,
    upstream: Iterable[Materialization],
) -> State:
    if failed:
        return State.FAILED
    if made is None:
        return State.MISSING
    if published_again or made.code_version != code_version:
        return State.STALE
    return State.STALE if any(up.event > made.event for up in upstream) else State.FRESH


def _upstream_partitions(partition: str, upstream: dict[str, Materialization]) -> Iterable[str]:
    """The upstream partitions that there are: the same one, or the months of a year."""
    return [candidate for candidate in sources(partition) if candidate in upstream]


def sources(partition: str) -> list[str]:
    """The partitions that one may be made from: the same one, and the months of a year."""
    return [partition, *(months_of(partition) if len(partition) == len("2018") else [])]
