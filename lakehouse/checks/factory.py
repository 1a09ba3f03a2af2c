"""The factory that makes what must hold of a table into blocking, partitioned asset checks.

One step checks one table; each of its checks shows, blocks and alerts on its own.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from lakehouse.checks.contracts import contract_of
from lakehouse.history import latest_metadata
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.lake import Lake, LakeTable

if TYPE_CHECKING:
    from lakehouse.checks.contract import Verdict


# Partitioned checks work since Dagster 1.13, which is pinned; it says at every import that they
# may change.
warnings.filterwarnings(
    "ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning
)


@dataclass(frozen=True)
class Partition:
    """The partition under examination, and what a check may look at."""

    key: str
    asset_key: dg.AssetKey
    lake: Lake
    clickhouse: ClickHouse
    instance: dg.DagsterInstance

    def recorded(self) -> Mapping[str, Any]:
        """The metadata of the partition's latest materialization; empty without one."""
        return latest_metadata(self.instance, self.asset_key, self.key)


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


def build_checks(asset: dg.AssetsDefinition, checks: Sequence[Check]) -> dg.AssetChecksDefinition:
    """Make these checks of an asset, in one step, blocking unless they only warn."""
    key = asset.key
    specs = [
        dg.AssetCheckSpec(
            check.name,
            asset=key,
            description=check.description,
            blocking=True,
            partitions_def=asset.partitions_def,
        )
        for check in checks
    ]

    @dg.multi_asset_check(
        name=f"{'__'.join(key.path)}__checks",
        specs=specs,
        can_subset=True,
        required_resource_keys={"lake", "clickhouse"},
    )
    def run_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        partition = Partition(
            key=context.partition_key,
            asset_key=key,
            lake=context.resources.lake,
            clickhouse=context.resources.clickhouse,
            instance=context.instance,
        )
        selected = {check_key.name for check_key in context.selected_asset_check_keys}
        for check in checks:
            if check.name not in selected:
                continue
            outcome = check.run(partition)
            yield dg.AssetCheckResult(
                passed=outcome.passed,
                asset_key=key,
                check_name=check.name,
                severity=(
                    dg.AssetCheckSeverity.WARN if outcome.warn else dg.AssetCheckSeverity.ERROR
                ),
                description=outcome.sentence,
                metadata=dict(outcome.metadata),
            )

    return run_checks


def contract_check(
    table: LakeTable,
    frames: Callable[[pl.LazyFrame], Iterable[pl.DataFrame]] = lambda rows: [rows.collect()],
    remedy: str = "",
) -> Check:
    """The check that a table of the lake has its columns, and a partition keeps its contract.

    Args:
        table: The table, which has a contract in `checks.contracts`.
        frames: Gives a partition's rows in pieces that fit in memory.
        remedy: What to do about rows that break the contract.
    """

    def run(partition: Partition) -> Outcome:
        from lakehouse.checks.contract import examine

        contract = contract_of(table)
        rows = partition.lake.scan(table, partition.key)
        found = rows.collect_schema()
        wanted = [name for name in contract.to_schema().columns if name in found]
        verdict = examine(frames(rows.select(wanted)), contract, table.schema, found)
        sentence = f"{partition.key}: {verdict}" + ("" if verdict.passed else f" {remedy}".rstrip())
        return Outcome(verdict.passed, sentence, _contract_metadata(verdict))

    return Check("contract", "Every row keeps the table's contract.", run)


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
