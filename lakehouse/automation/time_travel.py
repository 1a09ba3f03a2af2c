"""Time travel: the published tables as they were at a moment, and a table put back to a version."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

import dagster as dg
import polars as pl

from lakehouse.automation.dataset import Dataset
from lakehouse.checks.factory import Check
from lakehouse.definitions import build_definitions
from lakehouse.errors import LakehouseError, UsageError
from lakehouse.history import latest_materializations
from lakehouse.processes import process_tags
from lakehouse.resources.lake import Lake, LakeTable
from lakehouse.resources.maintenance import (
    KEPT_DAYS,
    Restored,
    Version,
    restore,
    version_at,
    versions,
)
from lakehouse.settings import Settings
from lakehouse.tables import drives, taxi
from lakehouse.tables.publication import Publication
from lakehouse.transforms.taxi.eras import SERVICES

_CODE_VERSION_TAG = "dagster/code_version"
_NOT_THEN = "not in the restored version"
"""The code version of what a restored table does not have: it is stale for that."""


def query_as_of(settings: Settings, sql: str, moment: datetime) -> pl.DataFrame:
    """The answer of Polars' SQL over the gold tables as they were at a moment.

    They have the names and columns that they have in ClickHouse; those of data sets that are not
    in the lake, such as Online Retail, are not there.

    Raises:
        UsageError: The query cannot be answered; the reason is Polars' own.
        LakehouseError: Files of that time are gone.
    """
    lake = Lake(settings)
    parts: dict[str, list[pl.LazyFrame]] = {}
    for publication in _publications():
        version = version_at(lake, publication.gold, moment)
        if version is not None:
            rows = pl.scan_delta(
                lake.snapshot(publication.gold, version), storage_options=lake.options
            )
            parts.setdefault(str(publication.table), []).append(
                rows.select(*publication.table.columns)
            )
    if not parts:
        raise UsageError(
            f"the log of no table reaches back to {moment:%Y-%m-%d %H:%M} UTC: it is kept for"
            f" {KEPT_DAYS} days; `lakehouse history TABLE` shows the versions that there are"
        )
    context = pl.SQLContext(
        {name: pl.concat(frames, how="vertical_relaxed") for name, frames in parts.items()}
    )
    try:
        return context.execute(sql, eager=True)
    except FileNotFoundError as error:
        raise LakehouseError(
            f"files of {moment:%Y-%m-%d} are gone: what was replaced is kept for {KEPT_DAYS} days"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise UsageError(
            f"{str(error).splitlines()[0]} (Polars' SQL, of the tables {', '.join(sorted(parts))})"
        ) from error


def _publications() -> list[Publication]:
    gold = [gold for service in SERVICES for gold in taxi.gold_tables(service).values()]
    return [*drives.PUBLICATIONS.values(), *(each.publication for each in gold)]


def table_named(lake: Lake, name: str) -> LakeTable:
    """The table of the lake that has this name.

    Raises:
        UsageError: There is none.
    """
    table = lake.find(name) if name.count("/") else None
    if table is None:
        raise UsageError(
            f"the lake has no table {name!r}: name it as its asset, such as"
            " drives/gold/daily_summary"
        )
    return table


def table_history(lake: Lake, name: str) -> list[Version]:
    """The versions of a table, newest first.

    Raises:
        UsageError: There is no such table.
    """
    return versions(lake, table_named(lake, name))


def restore_table(
    settings: Settings,
    instance: dg.DagsterInstance,
    datasets: Sequence[Dataset],
    name: str,
    version: int,
) -> Restored:
    """Put a table back to a version, and tell Dagster, so that what is made from it is stale.

    The restored partitions count as made now, from the source that they were made from, and their
    checks are run again; so are those of assets whose rejects were restored. A partition that the
    table did not have in that version is stale itself.

    Raises:
        UsageError: There is no such table, or no such version.
        LakehouseError: Files of that version are gone, or somebody wrote the table meanwhile.
    """
    lake = Lake(settings)
    table = table_named(lake, name)
    restored = restore(lake, table, version, str(uuid4()))
    rows = lake.row_counts(table)
    for dataset, spec in _assets_of(datasets, name):
        is_itself = spec.key.to_user_string() == name
        made = latest_materializations(instance, spec.key, restored.partitions)
        for partition, origin in restored.partitions.items():
            if is_itself:
                _report(instance, spec, partition, origin, rows.get(partition), restored)
            is_there = partition in made and (partition in rows or not is_itself)
            if is_there and _checks(dataset, spec):
                _check(settings, instance, dataset, spec, partition)
    return restored


def _assets_of(datasets: Sequence[Dataset], name: str) -> list[tuple[Dataset, dg.AssetSpec]]:
    """The asset that is this table; of a table of rejects, those whose checks look at it."""
    return [
        (dataset, spec)
        for dataset in datasets
        for stage in dataset.stages
        for spec in stage.specs
        if spec.key.to_user_string() == name or (stage.rejects and stage.rejects.name == name)
    ]


def _checks(dataset: Dataset, spec: dg.AssetSpec) -> Sequence[Check]:
    return dataset.checks.get(spec.key.to_user_string(), ())


def _report(
    instance: dg.DagsterInstance,
    spec: dg.AssetSpec,
    partition: str,
    origin: Version | None,
    rows: int | None,
    restored: Restored,
) -> None:
    told = _recorded(instance, spec.key, partition, origin)
    told |= {"rows_written": rows or 0, "delta_version": restored.version}
    if origin is not None:
        told |= {"restored_from_version": origin.version, "source_version": origin.source_hash}
    code_version = _NOT_THEN if rows is None else spec.code_version
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            spec.key,
            description=f"Put back to version {restored.of} with `lakehouse restore`.",
            metadata=told,
            partition=partition,
            tags={_CODE_VERSION_TAG: code_version} if code_version else None,
        )
    )


def _recorded(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str, origin: Version | None
) -> dict[str, Any]:
    """What was reported when the restored rows were written; empty where it is forgotten."""
    if origin is None:
        return {}
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1000
    ).records
    for record in records:
        if record.run_id == origin.run_id and record.asset_materialization:
            return dict(record.asset_materialization.metadata)
    return {}


def _check(
    settings: Settings,
    instance: dg.DagsterInstance,
    dataset: Dataset,
    spec: dg.AssetSpec,
    partition: str,
) -> None:
    """Run the checks of a partition; what they said before was of other rows."""
    checks = {dg.AssetCheckKey(spec.key, each.name) for each in _checks(dataset, spec)}
    job = build_definitions(settings, only=dataset).resolve_implicit_global_asset_job_def()
    run_id = str(uuid4())
    job.get_subset(asset_selection=set(), asset_check_selection=checks).execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        run_id=run_id,
        # Not as partition_key: Dagster looks for the partitions of assets, of which there are none.
        tags=process_tags(run_id) | {"dagster/partition": partition},
    )
