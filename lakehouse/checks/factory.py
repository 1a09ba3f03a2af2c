"""The factory that makes what must hold of a table into blocking, partitioned asset checks.

One step checks one table; each of its checks shows, blocks and alerts on its own.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

# Dagster has no public name for what an evaluation says of the rows that it is about.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from lakehouse.checks.contracts import contract_of
from lakehouse.history import Materialization, latest_of_partition
from lakehouse.partitions import WHOLE, side_by_side
from lakehouse.resources.bigquery import BigQuery
from lakehouse.resources.clickhouse import ClickHouse, Table
from lakehouse.resources.lake import Lake, LakeTable
from lakehouse.resources.objects import Objects
from lakehouse.resources.postgres import Postgres

if TYPE_CHECKING:
    from lakehouse.checks.contract import Verdict


# Partitioned checks work since Dagster 1.13, which is pinned; it says at every import that they
# may change.
warnings.filterwarnings(
    "ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning
)


Frames = Callable[[pl.LazyFrame], Iterable[pl.DataFrame]]
"""Gives rows in pieces that fit in memory."""

_RESOURCES = ("lake", "clickhouse", "objects", "bigquery", "postgres")


@dataclass(frozen=True)
class Partition:
    """The partition under examination, and what a check may look at."""

    key: str
    """The partition key; empty where the asset has none."""
    asset_key: dg.AssetKey
    instance: dg.DagsterInstance
    lake: Lake
    clickhouse: ClickHouse
    objects: Objects
    bigquery: BigQuery
    postgres: Postgres
    _read: dict[str, pl.DataFrame] = field(default_factory=dict, init=False)

    @cached_property
    def made(self) -> Materialization | None:
        """The partition's latest materialization."""
        return latest_of_partition(self.instance, self.asset_key, self.key)

    @property
    def recorded(self) -> Mapping[str, Any]:
        """The metadata of the partition's latest materialization; empty without one."""
        return self.made.metadata if self.made else {}

    def published(self, table: Table, values: tuple[Any, ...], *columns: str) -> pl.DataFrame:
        """Rows that a table in ClickHouse has of a partition, their UUIDs as text.

        Where all columns are read they are read once: the checks of an asset run one after the
        other, and reading takes longer than most of them.

        Args:
            table: The table.
            values: What the rows have of `table.partition_by`.
            columns: Some of its columns; all where none are named.
        """
        if table.name in self._read:
            return self._read[table.name].select(columns or table.columns)
        rows = self.clickhouse.partition_frame(table, values, *columns)
        if not columns:
            self._read[table.name] = rows
        return rows


@dataclass(frozen=True)
class Outcome:
    """What a check says: a sentence with figures, and numbers or tables beside it."""

    passed: bool
    sentence: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    warn: bool = False
    """The failure is worth knowing and stops nothing."""


@dataclass(frozen=True)
class Check:
    """Something that must hold of a partition."""

    name: str
    description: str
    run: Callable[[Partition], Outcome]


def check_specs(
    key: dg.AssetKey, partitions_def: dg.PartitionsDefinition | None, checks: Sequence[Check]
) -> list[dg.AssetCheckSpec]:
    """What Dagster is told of these checks of an asset: blocking, and partitioned as it is."""
    return [
        dg.AssetCheckSpec(
            check.name,
            asset=key,
            description=check.description,
            blocking=True,
            partitions_def=partitions_def,
        )
        for check in checks
    ]


def build_checks(
    key: dg.AssetKey, partitions_def: dg.PartitionsDefinition | None, checks: Sequence[Check]
) -> dg.AssetChecksDefinition:
    """Make these checks of an asset, in one step, blocking unless they only warn."""
    specs = check_specs(key, partitions_def, checks)

    @dg.multi_asset_check(
        name=f"{'__'.join(key.path)}__checks",
        specs=specs,
        can_subset=True,
        required_resource_keys=set(_RESOURCES),
    )
    def run_checks(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
        selected = {check_key.name for check_key in context.selected_asset_check_keys}
        chosen = [check for check in checks if check.name in selected]
        resources = {name: getattr(context.resources, name) for name in _RESOURCES}

        def evaluated(partition_key: str) -> tuple[list[dg.AssetCheckEvaluation], Exception | None]:
            partition = Partition(partition_key, key, context.instance, **resources)
            evaluations: list[dg.AssetCheckEvaluation] = []
            try:
                for check in chosen:
                    evaluations.append(_evaluation(partition, check))
            except Exception as error:
                return evaluations, error
            return evaluations, None

        partition_keys = context.partition_keys if partitions_def else [WHOLE]
        results = side_by_side(evaluated, partition_keys)
        for evaluations, _ in results:
            yield from evaluations
        # What was found before a check broke off stands all the same, of the other months too.
        for error in filter(None, (error for _, error in results)):
            raise error
        for spec in specs:
            if spec.name in selected:
                yield dg.Output(None, spec.get_python_identifier())

    return run_checks


def _evaluation(partition: Partition, check: Check) -> dg.AssetCheckEvaluation:
    """What Dagster keeps of a check of one partition.

    Of an `AssetCheckResult` it would not know which partition of a run of several is meant.
    """
    outcome = check.run(partition)
    made = partition.made
    return dg.AssetCheckEvaluation(
        asset_key=partition.asset_key,
        check_name=check.name,
        passed=outcome.passed,
        metadata=dict(outcome.metadata),
        target_materialization_data=(
            AssetCheckEvaluationTargetMaterializationData(
                storage_id=made.event, run_id=made.run_id, timestamp=made.timestamp
            )
            if made
            else None
        ),
        severity=dg.AssetCheckSeverity.WARN if outcome.warn else dg.AssetCheckSeverity.ERROR,
        description=outcome.sentence,
        blocking=True,
        partition=partition.key or None,
    )


def contract_check(
    table: LakeTable,
    frames: Frames = lambda rows: [rows.collect()],
    remedy: str = "",
) -> Check:
    """The check that a table of the lake has its columns, and a partition keeps its contract.

    Args:
        table: The table, which has a contract in `checks.contracts`.
        frames: Gives a partition's rows in pieces that fit in memory.
        remedy: What to do about rows that break the contract.
    """

    def run(partition: Partition) -> Outcome:
        rows = partition.lake.scan(table, partition.key)
        return contract_outcome(partition, table.name, table.schema, rows, frames, remedy)

    return Check("contract", "Every row keeps the table's contract.", run)


def contract_outcome(
    partition: Partition,
    name: str,
    expected: pl.Schema,
    rows: pl.LazyFrame,
    frames: Frames = lambda rows: [rows.collect()],
    remedy: str = "",
) -> Outcome:
    """What comes of holding a partition's rows against the contract of this name."""
    from lakehouse.checks.contract import examine

    contract = contract_of(name)
    found = rows.collect_schema()
    wanted = [column for column in contract.to_schema().columns if column in found]
    verdict = examine(frames(rows.select(wanted)), contract, expected, found)
    subject = partition.key or "The table"
    sentence = f"{subject}: {verdict}" + ("" if verdict.passed else f" {remedy}".rstrip())
    return Outcome(verdict.passed, sentence, _contract_metadata(verdict))


def _contract_metadata(verdict: "Verdict") -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "rows": verdict.rows,
        "missing_columns": verdict.missing,
        "extra_columns": verdict.extra,
    }
    if verdict.mistyped:
        metadata["types"] = dg.MetadataValue.table(
            [
                dg.TableRecord({"column": name, "expected": expected, "found": found})
                for name, (expected, found) in verdict.mistyped.items()
            ]
        )
    for number, finding in enumerate(verdict.findings, start=1):
        metadata[f"finding_{number}"] = str(finding)
        metadata[f"finding_{number}_examples"] = dg.MetadataValue.md(_markdown(finding.examples))
    return metadata


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows, only of columns that have a value in them."""
    columns = (
        [name for name in rows[0] if any(row[name] is not None for row in rows)] if rows else []
    )
    lines = [columns, ["---"] * len(columns), *([str(row[c]) for c in columns] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
