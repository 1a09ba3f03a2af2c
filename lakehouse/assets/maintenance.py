"""What keeps the lakehouse healthy, as assets: what they did is what they report."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from lakehouse.assets.building import OWNERS, explained
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.lake import Lake, LakeTable
from lakehouse.resources.maintenance import (
    KEPT_DAYS,
    MANY_PARTS,
    checkpoint,
    clickhouse_parts,
    compact,
    drop_staging,
    join_parts,
    remove_leftovers,
    scattered,
    stored,
    vacuum,
)
from lakehouse.settings import Settings

SHARED: dict[str, Any] = {
    "group_name": "maintenance",
    "owners": OWNERS,
    "pool": "maintenance",
    "code_version": "1",
}
_LAKE = dg.AssetKey(["maintenance", "lake", "tables"])
_CLICKHOUSE = dg.AssetKey(["maintenance", "clickhouse", "tables"])
_HOME = dg.AssetKey(["maintenance", "home", "leftovers"])

_LEAST_FREE = 0.1
"""Share of the disk that should be free."""


def build_lake_tables(
    names: Sequence[str], queried: Mapping[str, Sequence[str]]
) -> dg.AssetsDefinition:
    """The asset that looks after the tables of the lake.

    Args:
        names: The tables, as far as they are there.
        queried: By table, the columns by which it is queried.
    """

    @dg.asset(
        key=_LAKE,
        kinds={"delta"},
        description="The Delta tables, looked after: small files of a partition are joined, and"
        " laid in Z-order by the columns that are queried; files that no version of the last"
        f" {KEPT_DAYS} days names are removed; the log is summed up.",
        check_specs=[
            dg.AssetCheckSpec(
                "files_are_few",
                asset=_LAKE,
                description="No partition has many small files.",
                blocking=True,
            )
        ],
        **SHARED,
    )
    @explained
    def lake_tables(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.MaterializeResult:
        # Two at once would join the same files twice.
        with lake.exclusive("maintenance", "lake"):
            tables = [table for name in names if (table := lake.find(name))]
            done = [
                _looked_after(lake, table, queried.get(table.name, ()), context.run.run_id)
                for table in tables
            ]
        left = [f"{table.name} {p}" for table in tables for p in scattered(lake, table)]
        total = {
            name: sum(int(each[name]) for each in done)
            for name in ("files_before", "files_after", "bytes_before", "bytes_after")
        }
        return dg.MaterializeResult(
            metadata=total
            | {
                "partitions_joined": sum(int(each["joined"]) for each in done),
                "files_removed": sum(int(each["removed"]) for each in done),
                "tables": dg.MetadataValue.table([dg.TableRecord(each) for each in done], _SCHEMA),
            },
            check_results=[
                dg.AssetCheckResult(
                    passed=not left,
                    check_name="files_are_few",
                    severity=dg.AssetCheckSeverity.WARN,
                    description=f"Many small files still: {', '.join(left)}."
                    if left
                    else "No partition has many small files.",
                )
            ],
        )

    return lake_tables


_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("table", "string"),
        *(
            dg.TableColumn(name, "int")
            for name in (
                *("joined", "removed", "files_before", "files_after"),
                *("bytes_before", "bytes_after"),
            )
        ),
    ]
)


def _looked_after(
    lake: Lake, table: LakeTable, queried: Sequence[str], run_id: str
) -> dict[str, str | int]:
    """Files and bytes of a table, former versions included, before and after."""
    before = stored(lake, table)
    joined = sum(
        compact(lake, table, partition, queried, run_id) for partition in scattered(lake, table)
    )
    removed = vacuum(lake, table)
    if joined or removed.files:
        checkpoint(lake, table)
    after = stored(lake, table)
    return {
        "table": table.name,
        "joined": joined,
        "removed": removed.files,
        "files_before": before.files,
        "files_after": after.files,
        "bytes_before": before.bytes,
        "bytes_after": after.bytes,
    }


@dg.asset(
    key=_CLICKHOUSE,
    kinds={"clickhouse"},
    check_specs=[
        dg.AssetCheckSpec(
            "parts_are_few",
            asset=_CLICKHOUSE,
            description="No partition has many parts.",
            blocking=True,
        )
    ],
    **SHARED,
)
@explained
def clickhouse_tables(
    context: dg.AssetExecutionContext, clickhouse: dg.ResourceParam[ClickHouse]
) -> dg.MaterializeResult:
    """The published tables, looked after: many parts are merged, forgotten staging is dropped."""
    before = clickhouse_parts(clickhouse)
    staging = drop_staging(clickhouse, context.run.run_id)
    merged = join_parts(clickhouse, context.run.run_id)
    after = clickhouse_parts(clickhouse)
    many = [each.table for each in after if each.most > MANY_PARTS]
    return dg.MaterializeResult(
        metadata={
            "parts_before": sum(each.parts for each in before),
            "parts_after": sum(each.parts for each in after),
            "bytes_before": sum(each.bytes for each in before),
            "bytes_after": sum(each.bytes for each in after),
            "partitions_merged": merged,
            "staging_tables_dropped": staging,
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not many,
                check_name="parts_are_few",
                severity=dg.AssetCheckSeverity.WARN,
                description=f"Many parts still: {', '.join(many)}."
                if many
                else "No partition has many parts.",
            )
        ],
    )


def build_leftovers(settings: Settings) -> dg.AssetsDefinition:
    """The asset that clears the home of what nobody will finish."""

    @dg.asset(
        key=_HOME,
        kinds={"file"},
        description="The home, cleared of downloads, copies and scratch files that were begun a"
        " week ago and never finished, and of copies of objects that nobody reads.",
        check_specs=[
            dg.AssetCheckSpec(
                "disk_has_room",
                asset=_HOME,
                description="A tenth of the disk is free.",
                blocking=True,
            )
        ],
        **SHARED,
    )
    @explained
    def leftovers(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        settings.state.mkdir(parents=True, exist_ok=True)
        removed = remove_leftovers(settings)
        disk = shutil.disk_usage(settings.state)
        return dg.MaterializeResult(
            metadata={
                "files_removed": removed.files,
                "bytes_removed": removed.bytes,
                "bytes_free": disk.free,
            },
            check_results=[
                dg.AssetCheckResult(
                    passed=disk.free >= _LEAST_FREE * disk.total,
                    check_name="disk_has_room",
                    severity=dg.AssetCheckSeverity.WARN,
                    description=f"{disk.free / 1e9:,.1f} of {disk.total / 1e9:,.1f} GB are free.",
                )
            ],
        )

    return leftovers
