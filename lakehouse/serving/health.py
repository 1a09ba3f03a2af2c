"""How the data stands, from what Dagster remembers: for the API, the dashboard and the metrics."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

import dagster as dg
import polars as pl

from lakehouse.automation.dataset import Dataset, Stage
from lakehouse.automation.datasets import NAMES, datasets
from lakehouse.automation.freshness import DatasetState, State, dataset_state
from lakehouse.errors import LakehouseError, UsageError
from lakehouse.history import CHECK_PASSED, CheckResult, Materialization, check_statuses
from lakehouse.instance import open_instance
from lakehouse.partitions import WHOLE, month_after, month_start, months_of
from lakehouse.resources.lake import Lake, LakeTable
from lakehouse.serving.readings import Readings, Row
from lakehouse.settings import Settings

_LOOK_SECONDS = 2.0
"""How long nobody looks whether Dagster has recorded something new."""
_KEEP_SECONDS = 300.0
"""How long a picture is kept of a history in which nothing happens: months become due meanwhile."""


@dataclass(frozen=True)
class DatasetHealth:
    """A data set at a moment.

    Attributes:
        dataset: The data set.
        specs: What its assets make, each behind what it is made from.
        due: The partitions of each asset that are over, in order.
        state: How those that were made or tried stand.
        evaluations: For each asset how many checks passed, warned and failed, by partition.
    """

    dataset: Dataset
    specs: Sequence[dg.AssetSpec]
    due: Mapping[dg.AssetKey, Sequence[str]]
    state: DatasetState
    evaluations: Mapping[dg.AssetKey, Counter[str]]

    def newest(self, key: dg.AssetKey) -> str | None:
        """The newest partition that was made of an asset; None where it has but one."""
        return max(self.state.made[key], default=None) or None

    def data_end(self, key: dg.AssetKey) -> date | None:
        """The day after the last one that an asset has data of; None where nobody knows.

        Of a year that is the end of its newest month among those that it was made from.
        """
        newest = self.newest(key) or self.metadata(key).get("last_month")
        if newest is None:
            return None
        return partition_end(max(self._months_behind(key, newest), default=str(newest)))

    def _months_behind(self, key: dg.AssetKey, year: str) -> set[str]:
        """The months that a year was made from; none of what is made by the month."""
        if len(year) != len("2018"):
            return set()
        made, months = self.state.made, months_of(year)
        found = {
            month
            for dep in self._deps[key]
            for month in months
            if month in made[dep] and made[dep][month].event < made[key][year].event
        }
        return found.union(
            *(self._months_behind(d, year) for d in self._deps[key] if year in made[d])
        )

    @cached_property
    def _deps(self) -> Mapping[dg.AssetKey, Sequence[dg.AssetKey]]:
        made = self.state.made
        return {
            spec.key: [dep.asset_key for dep in spec.deps if dep.asset_key in made]
            for spec in self.specs
        }

    def partitions(self, key: dg.AssetKey) -> Counter[State]:
        """How many partitions of an asset stand how; those that are due and not there, too."""
        states = Counter(self.state.states[key].values())
        states[State.MISSING] = max(len(self.due[key]) - states.total(), 0)
        return states

    def failing(self, key: dg.AssetKey) -> list[CheckResult]:
        """The checks of an asset whose latest evaluation failed, by partition."""
        return [check for check in self.state.failing if check.asset_key == key]

    def latest(self, key: dg.AssetKey) -> Materialization | None:
        """The asset's latest materialization, of whatever partition."""
        return max(self.state.made[key].values(), key=lambda each: each.event, default=None)

    def metadata(self, key: dg.AssetKey) -> Mapping[str, Any]:
        """What that reported; empty without one."""
        latest = self.latest(key)
        return latest.metadata if latest else {}


class Health:
    """The state of all data sets; the history is read again only once something happened in it.

    Each method raises:
        LakehouseError: Dagster's history cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lake = Lake(settings)
        self._readings = Readings(settings)
        self._lock = threading.Lock()
        self._looked = self._taken = float("-inf")
        self._event: int | None = None
        self._found: dict[str, DatasetHealth] = {}

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """Dagster's instance, which is kept open."""
        return open_instance(self._settings)

    @cached_property
    def _datasets(self) -> Mapping[str, Dataset]:
        return datasets(self._settings)

    def current(self) -> Mapping[str, DatasetHealth]:
        """All data sets, by name, as they are now."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked > _LOOK_SECONDS:
                event = self.instance.event_log_storage.get_maximum_record_id()
                if event != self._event or now - self._taken > _KEEP_SECONDS:
                    self._found = {n: self._look(d) for n, d in self._datasets.items()}
                    self._event, self._taken = event, now
                self._looked = now
            return self._found

    def _look(self, dataset: Dataset) -> DatasetHealth:
        specs = dataset.specs
        due = {spec.key: keys for keys, stage in _due(dataset) for spec in stage.specs}
        checks = dataset.check_specs({spec.key for spec in specs})
        state = dataset_state(self.instance, specs, checks)
        failed = {(c.asset_key, c.name, c.partition): c for c in state.failing}
        evaluations: dict[dg.AssetKey, Counter[str]] = {spec.key: Counter() for spec in specs}
        for (key, partition), status in check_statuses(self.instance, checks).items():
            check = failed.get((key.asset_key, key.name, partition))
            if check is not None:
                evaluations[key.asset_key]["failed" if check.stops else "warned"] += 1
            elif status == CHECK_PASSED:
                evaluations[key.asset_key]["passed"] += 1
        return DatasetHealth(dataset, specs, due, state, evaluations)

    def datasets(self) -> list[Row]:
        """A row for each table and file of each data set, each behind what it is made from.

        Columns: dataset, asset, description, table (its name in the lake, ClickHouse, …), rows,
        partitions, fresh, stale, failed, missing (in partitions), newest (partition),
        newest_data_until (the day after its last), last_success (UTC), checks_passed,
        checks_warned, checks_failed, failing (sentences), source (its address), delta_version;
        None where it has no such thing.
        """
        tables = self._table_rows()
        return [
            self._row(health, spec, tables)
            for health in self.current().values()
            for spec in health.specs
        ]

    def _row(
        self, health: DatasetHealth, spec: dg.AssetSpec, tables: Mapping[str, int | None]
    ) -> Row:
        key, made = spec.key, health.state.made[spec.key]
        latest, metadata = health.latest(key), health.metadata(key)
        states = health.partitions(key)
        table = metadata.get("dagster/table_name") or ".".join(key.path[-2:])
        counts = [each.metadata.get("dagster/partition_row_count") for each in made.values()]
        known = [int(count) for count in counts if count is not None]
        newest = health.newest(key)
        evaluations = health.evaluations[key]
        return {
            "dataset": health.dataset.name,
            "asset": key.to_user_string(),
            "description": (spec.description or "").split("\n\n")[0].replace("\n", " "),
            "table": metadata.get("dagster/table_name") or (table if table in tables else None),
            "rows": sum(known) if known else tables.get(table),
            "partitions": len(made),
            **{state.value: states[state] for state in State},
            "newest": newest,
            "newest_data_until": health.data_end(key),
            "last_success": _time(latest.timestamp if latest else None),
            **{f"checks_{how}": evaluations[how] for how in ("passed", "warned", "failed")},
            "failing": [check.sentence for check in health.failing(key)],
            "source": _source(health, spec) if made else None,
            "delta_version": self._delta_version(metadata),
        }

    def _delta_version(self, metadata: Mapping[str, Any]) -> int | None:
        if "delta_version" not in metadata:
            return None
        return self._lake.version(LakeTable(str(metadata["dagster/table_name"]), pl.Schema()))

    def _table_rows(self) -> Mapping[str, int | None]:
        """Rows of the tables in ClickHouse; none while it is away: the rest is known without it."""
        try:
            return self._readings.table_rows()
        except LakehouseError:
            return {}

    def months(self, dataset: str) -> list[Row]:
        """A row for each asset and month: service, asset, month, state, in order.

        The state is fresh, stale, failed or missing; service is empty where there is but one. From
        the first month that was ever made or tried of the data set to the last one.

        Raises:
            UsageError: There is no such data set.
        """
        health = self._of(dataset)
        stages = [stage for stage in health.dataset.stages if stage.months]
        keys = [(stage.name, spec.key) for stage in stages for spec in stage.specs]
        known = {month for _, key in keys for month in health.state.states[key]}
        return [
            {
                "service": service,
                "asset": key.to_user_string(),
                "month": month,
                "state": health.state.of(key, month).value,
            }
            for service, key in keys
            for month in health.due[key]
            if known and min(known) <= month <= max(known)
        ]

    def calendar(self, dataset: str) -> list[Row]:
        """A row for each service and month: service, month, state; the worst of its assets.

        Services that were never used are left out. A month that was made in part is stale.

        Raises:
            UsageError: There is no such data set.
        """
        found: dict[tuple[str, str], set[State]] = {}
        for row in self.months(dataset):
            found.setdefault((row["service"], row["month"]), set()).add(State(row["state"]))
        used = {service for (service, _), states in found.items() if states != {State.MISSING}}
        return [
            {"service": service, "month": month, "state": _worst(states).value}
            for (service, month), states in sorted(found.items())
            if service in used
        ]

    def failing(self, dataset: str | None = None) -> list[Row]:
        """A row for each check and partition that fails, newest partition first.

        Columns: dataset, asset, check, partition (null where there is but one), stops (whether it
        stops what is downstream), sentence.

        Raises:
            UsageError: There is no such data set.
        """
        chosen = self.current().values() if dataset is None else [self._of(dataset)]
        rows = [
            {
                "dataset": health.dataset.name,
                "asset": check.asset_key.to_user_string(),
                "check": check.name,
                "partition": check.partition or None,
                "stops": check.stops,
                "sentence": check.sentence,
            }
            for health in chosen
            for check in health.state.failing
        ]
        return sorted(rows, key=lambda row: str(row["partition"] or ""), reverse=True)

    def rejects(self) -> list[Row]:
        """A row for each data set, service and month with rejected rows, in order.

        Columns: dataset, service (empty where there is but one), month, rows.
        """
        return [
            {"dataset": name, "service": stage.name, "month": month, "rows": rows}
            for name, health in self.current().items()
            for stage in health.dataset.stages
            if stage.rejects
            for month, rows in self._lake.row_counts(stage.rejects).items()
            if rows
        ]

    def overview(self) -> list[Row]:
        """A row for each data set.

        Columns: dataset, fresh, stale, failed, missing (partitions of all its assets), newest_data
        (the newest month at the end of a stage), newest_data_age_days (since its end),
        checks_passed, checks_warned, checks_failed, rows_rejected, last_success (UTC).
        """
        rejected = Counter[str]()
        for row in self.rejects():
            rejected[row["dataset"]] += row["rows"]
        return [
            _summary(health) | {"rows_rejected": rejected[name]}
            for name, health in self.current().items()
        ]

    def _of(self, dataset: str) -> DatasetHealth:
        if dataset not in NAMES:
            raise UsageError(f"there is no data set {dataset!r}; there is {', '.join(NAMES)}")
        return self.current()[dataset]


def _summary(health: DatasetHealth) -> Row:
    states, evaluations = Counter[State](), Counter[str]()
    for spec in health.specs:
        states += health.partitions(spec.key)
        evaluations += health.evaluations[spec.key]
    ends = [stage.specs[-1].key for stage in health.dataset.stages if stage.months]
    newest = max((month for key in ends for month in health.state.made[key]), default=None)
    made = [each.timestamp for of in health.state.made.values() for each in of.values()]
    return {
        "dataset": health.dataset.name,
        **{state.value: states[state] for state in State},
        "newest_data": newest,
        "newest_data_age_days": _age(newest) if newest else None,
        **{f"checks_{how}": evaluations[how] for how in ("passed", "warned", "failed")},
        "last_success": _time(max(made, default=None)),
    }


def _due(dataset: Dataset) -> Iterator[tuple[Sequence[str], Stage]]:
    for stage in dataset.stages:
        definition = stage.partitions_def
        yield definition.get_partition_keys() if definition else [WHOLE], stage


def _worst(states: set[State]) -> State:
    if State.FAILED in states:
        return State.FAILED
    return states.pop() if len(states) == 1 else State.STALE


def _source(health: DatasetHealth, spec: dg.AssetSpec) -> str | None:
    """The address of the publisher's file that a table's latest rows came from."""
    if url := health.metadata(spec.key).get("url"):
        return str(url)
    specs = {each.key: each for each in health.specs}
    sources = (_source(health, specs[d.asset_key]) for d in spec.deps if d.asset_key in specs)
    return next((source for source in sources if source), None)


def partition_end(partition: str) -> date:
    """The day after a month's or year's last one."""
    if len(partition) == len("2018"):
        return date(int(partition) + 1, 1, 1)
    return month_start(month_after(partition))


def _age(month: str) -> int:
    return (datetime.now(UTC).date() - partition_end(month)).days


def _time(timestamp: float | None) -> datetime | None:
    return datetime.fromtimestamp(timestamp, UTC) if timestamp is not None else None
