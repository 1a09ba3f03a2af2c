"""What all assets share: how they fail, and what they report."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import dagster as dg

from lakehouse.errors import DISK_FULL, LakehouseError, UnavailableError, is_disk_full
from lakehouse.history import latest_metadata
from lakehouse.partitions import side_by_side
from lakehouse.processes import claim
from lakehouse.resources.lake import Lake, LakeTable, Provenance, Written
from lakehouse.resources.landing import LandedFile
from lakehouse.tables.descriptions import DESCRIPTIONS

OWNERS = ["team:data-engineering"]

_RETRIES = 3
_FIRST_WAIT = 1
"""Seconds; doubled from try to try."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def explained(
    function: Callable[Concatenate[dg.AssetExecutionContext, _P], _R], retries: int = _RETRIES
) -> Callable[Concatenate[dg.AssetExecutionContext, _P], _R]:
    """Make an asset fail with our own sentence, and try again only what may be back in a moment."""

    @functools.wraps(function)
    def call(context: dg.AssetExecutionContext, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with explaining(context, retries):
            return function(context, *args, **kwargs)

    return call


@contextmanager
def explaining(context: dg.AssetExecutionContext, retries: int = _RETRIES) -> Iterator[None]:
    """The same for a part of an asset, such as one that gives events one by one."""
    claim(context.instance, context.run.run_id)
    try:
        yield
    except UnavailableError as error:
        if context.retry_number < retries:
            wait = _FIRST_WAIT * 2**context.retry_number
            raise dg.RetryRequested(retries, seconds_to_wait=wait) from error
        raise dg.Failure(str(error)) from error
    except LakehouseError as error:
        raise dg.Failure(str(error)) from error
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise dg.Failure(DISK_FULL) from error


def made_by_partition(
    context: dg.AssetExecutionContext, make: Callable[[str], Mapping[str, Any]]
) -> dg.MaterializeResult:
    """Make each partition of the run; what `make` gives of one becomes its metadata."""
    partitions = context.partition_keys
    for partition, metadata in zip(partitions, side_by_side(make, partitions), strict=True):
        context.add_asset_metadata(metadata, partition_key=partition)
    return dg.MaterializeResult()


def source_version(
    context: dg.AssetExecutionContext, upstream: dg.AssetsDefinition, partitions: Sequence[str]
) -> str:
    """The hash of the landed files that these upstream partitions were made from.

    Raises:
        LakehouseError: The one partition upstream was never made: nothing would pass for a month
            without rows.
    """
    versions = [
        str(metadata.get("source_version", ""))
        for partition in partitions
        if (metadata := latest_metadata(context.instance, upstream.key, partition))
    ]
    if not versions and len(partitions) == 1:
        name = upstream.key.to_user_string()
        raise LakehouseError(f"there is no {name} of {partitions[0]}: materialize that first")
    if len(versions) == 1:
        return versions[0]
    return hashlib.sha256("\n".join(versions).encode()).hexdigest()


def written_metadata(
    lake: Lake, table: LakeTable, written: Written, provenance: Provenance
) -> dict[str, Any]:
    """What every materialization of a Delta table reports."""
    return table_metadata(table.name, lake.uri(table), table.schema, written.rows) | {
        "rows_written": written.rows,
        "source_version": provenance.source_hash,
        "bytes": written.bytes,
        "delta_version": written.version,
    }


def file_metadata(landed: LandedFile) -> dict[str, Any]:
    """Where a landed file is from, and what it was when it landed."""
    return {
        "url": dg.MetadataValue.url(landed.url),
        "path": dg.MetadataValue.path(landed.path),
        "size_bytes": landed.size,
        "sha256": landed.sha256,
        "etag": landed.etag or "",
        "last_modified": landed.last_modified or "",
        "landed_at": landed.landed_at.isoformat(),
        "downloaded": landed.downloaded,
    }


def table_metadata(name: str, uri: str, columns: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Name, place, columns and rows of a table's partition, under Dagster's own names."""
    return {
        "dagster/table_name": name,
        "dagster/uri": uri,
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(column, str(dtype), description=DESCRIPTIONS.get(column))
                for column, dtype in columns.items()
            ]
        ),
        "dagster/partition_row_count": rows,
    }
