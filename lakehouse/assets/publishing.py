"""The assets that publish gold tables to ClickHouse, where others read them."""

from typing import Any

import dagster as dg

from lakehouse.assets.building import explained, source_version, table_metadata
from lakehouse.checks.contracts import require_contract
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.lake import Lake
from lakehouse.tables.publication import Publication


def build_published(
    gold: dg.AssetsDefinition,
    publication: Publication,
    **shared: Any,
) -> dg.AssetsDefinition:
    """The asset that replaces a partition in ClickHouse by what gold has of it.

    The rows are held against gold's contract once more before readers see them.
    """
    table = publication.table

    @dg.asset(
        key=[gold.key.path[0], "clickhouse", gold.key.path[-1]],
        deps=[gold],
        kinds={"clickhouse"},
        description=f"`{table}`, published for readers. {table.comment}",
        **shared,
    )
    @explained
    def published(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        clickhouse: dg.ResourceParam[ClickHouse],
    ) -> dg.MaterializeResult:
        partition = context.partition_key
        source = source_version(context, gold, [partition])
        with lake.exclusive(publication.gold.name, f"{partition}.clickhouse"):
            frame = lake.scan(publication.gold, partition).collect()
            require_contract(publication.gold, partition, frame)
            parts = publication.parts(partition)
            rows = sum(
                clickhouse.replace_partition(
                    table,
                    part.partition,
                    frame.filter(part.rows).select(*table.columns),
                    context.run.run_id,
                )
                for part in parts
            )
            size = sum(clickhouse.partition_bytes(table, part.partition) for part in parts)
        return dg.MaterializeResult(
            metadata=table_metadata(str(table), f"clickhouse://{table}", table.columns, rows)
            | {
                "rows_in": frame.height,
                "rows_written": rows,
                "bytes": size,
                "source_version": source,
            }
        )

    return published
