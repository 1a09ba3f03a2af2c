"""NYC taxi trips: the publisher's months to objects, BigQuery, PostgreSQL, gold and ClickHouse."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import polars as pl

from lakehouse.assets.building import (
    OWNERS,
    explained,
    file_metadata,
    table_metadata,
    written_metadata,
)
from lakehouse.assets.publishing import build_published
from lakehouse.checks.contracts import require_contract
from lakehouse.partitions import month_start, taxi_months
from lakehouse.resources.bigquery import BigQuery
from lakehouse.resources.lake import Lake, Provenance
from lakehouse.resources.objects import Objects
from lakehouse.resources.postgres import Postgres
from lakehouse.resources.trip_files import TripFiles
from lakehouse.tables import taxi as tables
from lakehouse.transforms.taxi import trips as transforms
from lakehouse.transforms.taxi.eras import SCHEMAS, SERVICES
from lakehouse.transforms.taxi.zones import ZONES

_SHARED: dict[str, Any] = {
    "group_name": "taxi",
    "owners": OWNERS,
    "pool": "taxi",
    "code_version": "1",
}

COPY_ROWS = 250_000
"""Rows that PostgreSQL is given at a time."""


@dg.asset(key=["taxi", "raw", "zones"], kinds={"file"}, **_SHARED)
@partial(explained, retries=0)  # the source itself has tried again, and waited
def zones(
    context: dg.AssetExecutionContext, trip_files: dg.ResourceParam[TripFiles]
) -> dg.MaterializeResult:
    """The publisher's lookup of taxi zones: number, borough, zone, service zone."""
    landed = trip_files.land_zones()
    lookup, version = trip_files.zones()
    return dg.MaterializeResult(
        metadata=file_metadata(landed)
        | table_metadata("taxi_zone_lookup", str(landed.path), ZONES, lookup.height)
        | {"source_version": version, "rows_written": lookup.height},
        data_version=dg.DataVersion(version),
    )


def build_service(service: str) -> list[dg.AssetsDefinition]:
    """The assets of a taxi service, each behind its dependencies."""
    shared = _SHARED | {"partitions_def": taxi_months[service]}
    raw = _build_raw(service, shared)
    objects = _build_objects(service, raw, shared)
    gold = [_build_gold(service, name, objects, shared) for name in tables.gold_tables(service)]
    return [
        raw,
        objects,
        _build_bigquery(service, objects, shared),
        _build_postgres(service, objects, shared),
        *gold,
        *(
            build_published(
                asset, tables.gold_tables(service)[_gold_name(service, asset)].publication, **shared
            )
            for asset in gold
        ),
    ]


def _build_raw(service: str, shared: dict[str, Any]) -> dg.AssetsDefinition:
    @dg.asset(
        key=["taxi", "raw", f"{service}_trips"],
        kinds={"file"},
        description=f"The publisher's file of {service} trips, downloaded once and verified. A file"
        " dropped into the inbox takes its place.",
        **shared,
    )
    @partial(explained, retries=0)
    def raw(
        context: dg.AssetExecutionContext, trip_files: dg.ResourceParam[TripFiles]
    ) -> dg.MaterializeResult:
        file = trip_files.land(service, context.partition_key)
        return dg.MaterializeResult(
            metadata={"file": file.path.name, "source_version": file.sha256}
            | (file_metadata(file.landed) if file.landed else {})
            | _contents(file.path),
            data_version=dg.DataVersion(file.sha256),
        )

    return raw


def _contents(path: Path) -> dict[str, Any]:
    """The schema, rows and row groups that a Parquet file says it has."""
    if path.suffix != ".parquet":
        return {}
    # Brings half of pyarrow with it, which only this step needs.
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return table_metadata(
            path.name, str(path), pl.read_parquet_schema(path), file.metadata.num_rows
        ) | {"row_groups": file.metadata.num_row_groups}


def _build_objects(
    service: str, raw: dg.AssetsDefinition, shared: dict[str, Any]
) -> dg.AssetsDefinition:
    @dg.asset(
        key=["taxi", "objects", f"{service}_trips"],
        deps=[raw, zones],
        kinds={"parquet", "polars"},
        description=f"The cleaned {service} trips of the month as one Parquet object in the bucket:"
        " the same columns whatever the era, doubtful trips flagged. Rows without a pickup time go"
        f" to `taxi/rejects/{service}`.",
        **shared,
    )
    @explained
    def cleaned(
        context: dg.AssetExecutionContext,
        trip_files: dg.ResourceParam[TripFiles],
        objects: dg.ResourceParam[Objects],
        lake: dg.ResourceParam[Lake],
    ) -> dg.MaterializeResult:
        month = context.partition_key
        name = tables.object_name(service, month)
        rejects_table = tables.REJECTS[service]
        with lake.exclusive(tables.OBJECTS[service], month), TemporaryDirectory() as folder:
            file = trip_files.landed(service, month)
            lookup, zones_version = trip_files.zones()
            path = Path(folder) / Path(name).name
            with trip_files.read(file) as read:
                trips = transforms.canonical(read.frame, service, month, lookup)
                transforms.write(trips.frame, path)
                counts = transforms.count(pl.scan_parquet(path))
                rejects = read.rejects
                if counts.rows + rejects.height < read.rows:
                    rejects = pl.concat([rejects, trips.rejects.collect(engine="streaming")])
            stored = objects.put(name, path)
            origin = Provenance(context.run.run_id, file.sha256)
            if rejects.height or lake.row_counts(rejects_table).get(month):
                lake.replace(
                    rejects_table, month, [_rejected(rejects, file.path.name, origin)], origin
                )
        return dg.MaterializeResult(
            metadata=table_metadata(
                tables.OBJECTS[service], stored[0].uri, SCHEMAS[service], counts.rows
            )
            | {
                "rows_in": read.rows,
                "rows_written": counts.rows,
                "rows_rejected": rejects.height,
                "source_version": file.sha256,
                "zones_version": zones_version,
                "bytes": stored[0].size,
                "sha256": stored[0].sha256 or "",
                "object_version": stored[0].version,
                "targets": [each.uri for each in stored],
                "missing_passenger_counts_before": counts.passenger_count_missing,
                "missing_passenger_counts_after": 0,
                "rows_with_unreadable_cells": counts.unreadable_rows,
                "unknown_columns": list(trips.unknown),
                "missing_columns": list(trips.missing),
                **counts.flags,
            }
        )

    return cleaned


def _rejected(rejects: pl.DataFrame, file: str, origin: Provenance) -> pl.DataFrame:
    return rejects.select(
        pl.lit(file).alias("file"), pl.all(), pl.lit(origin.run_id).alias("run_id")
    )


def _build_bigquery(
    service: str, objects_asset: dg.AssetsDefinition, shared: dict[str, Any]
) -> dg.AssetsDefinition:
    table = tables.BIGQUERY[service]

    @dg.asset(
        key=["taxi", "bigquery", f"{service}_trips"],
        deps=[objects_asset],
        kinds={"bigquery"},
        description=f"The {service} trips in the warehouse, partitioned by month, clustered by"
        " pickup zone.",
        **shared,
    )
    @explained
    def loaded(
        context: dg.AssetExecutionContext,
        objects: dg.ResourceParam[Objects],
        bigquery: dg.ResourceParam[BigQuery],
        lake: dg.ResourceParam[Lake],
    ) -> dg.MaterializeResult:
        month = context.partition_key
        name = tables.object_name(service, month)
        with lake.exclusive(f"taxi/bigquery/{service}_trips", month), objects.local(name) as local:
            stored, rows = local.stored, _rows(local.path)
            source = stored.uri if bigquery.reads(stored.uri) else local.path
            done = bigquery.replace_month(
                table, month_start(month), source, rows, context.run.run_id, stored.version
            )
        return dg.MaterializeResult(
            metadata=table_metadata(bigquery.name(table), "", table.columns, done.rows)
            | {
                "rows_in": rows,
                "rows_written": done.rows,
                "source_version": stored.sha256 or stored.version,
                "object_version": stored.version,
                "bytes": done.bytes,
                "job_id": done.job_id,
                "slot_ms": done.slot_ms,
                "staged_from": str(done.staged_from),
            }
        )

    return loaded


def _build_postgres(
    service: str, objects_asset: dg.AssetsDefinition, shared: dict[str, Any]
) -> dg.AssetsDefinition:
    table = tables.POSTGRES[service]
    loaded_columns = [name for name in table.columns if name != table.partition_by]

    @dg.asset(
        key=["taxi", "postgres", f"{service}_trips"],
        deps=[objects_asset],
        kinds={"postgres"},
        description=f"The {service} trips in the relational database, a partition a month.",
        **shared,
    )
    @explained
    def loaded(
        context: dg.AssetExecutionContext,
        objects: dg.ResourceParam[Objects],
        postgres: dg.ResourceParam[Postgres],
        lake: dg.ResourceParam[Lake],
    ) -> dg.MaterializeResult:
        month = context.partition_key
        name = tables.object_name(service, month)
        with lake.exclusive(f"taxi/postgres/{service}_trips", month), objects.local(name) as local:
            stored, rows = local.stored, _rows(local.path)
            written = postgres.replace_month(
                table,
                month_start(month),
                _batches(pl.scan_parquet(local.path).select(loaded_columns), rows),
                rows,
                context.run.run_id,
            )
        return dg.MaterializeResult(
            metadata=table_metadata(str(table), "", table.columns, written)
            | {
                "rows_in": rows,
                "rows_written": written,
                "bytes": postgres.month_bytes(table, month_start(month)),
                "source_version": stored.sha256 or stored.version,
                "object_version": stored.version,
            }
        )

    return loaded


def _rows(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _batches(trips: pl.LazyFrame, rows: int) -> Iterator[pl.DataFrame]:
    for start in range(0, rows, COPY_ROWS):
        yield trips.slice(start, COPY_ROWS).collect()


def _build_gold(
    service: str, name: str, objects_asset: dg.AssetsDefinition, shared: dict[str, Any]
) -> dg.AssetsDefinition:
    gold = tables.gold_tables(service)[name]
    table = gold.publication.gold

    @dg.asset(
        key=["taxi", "gold", f"{service}_{name}"],
        deps=[objects_asset, zones],
        kinds={"delta", "polars", "gold"},
        description=f"{gold.publication.table.comment} Of {service} trips whose pickup lies in the"
        " month of their file.",
        **shared,
    )
    @explained
    def summed(
        context: dg.AssetExecutionContext,
        trip_files: dg.ResourceParam[TripFiles],
        objects: dg.ResourceParam[Objects],
        lake: dg.ResourceParam[Lake],
    ) -> dg.MaterializeResult:
        month = context.partition_key
        lookup, _ = trip_files.zones()
        object_name = tables.object_name(service, month)
        with lake.exclusive(table.name, month), objects.local(object_name) as local:
            frame = gold.make(pl.scan_parquet(local.path), month, lookup)
            require_contract(table, month, frame)
            origin = Provenance(context.run.run_id, local.stored.sha256 or local.stored.version)
            written = lake.replace(table, month, [frame], origin)
        return dg.MaterializeResult(metadata=written_metadata(lake, table, written, origin))

    return summed


def _gold_name(service: str, asset: dg.AssetsDefinition) -> str:
    return asset.key.path[-1].removeprefix(f"{service}_")


services = {service: build_service(service) for service in SERVICES}
"""The assets of each service."""
