"""The pandera contracts of each data set, and the table that each belongs to.

Importing pandera takes half a second, which starting up should not: hence the functions.
"""

from importlib import import_module
from typing import TYPE_CHECKING

import polars as pl

from lakehouse.errors import LakehouseError
from lakehouse.resources.lake import LakeTable

if TYPE_CHECKING:
    import pandera.polars as pa


def contract_of(name: str) -> "type[pa.DataFrameModel]":
    """The contract of a table, from the module that is named like its data set."""
    import_module("lakehouse.checks.contract")  # which imports pandera in its own way
    module = import_module(f"{__name__}.{name.partition('/')[0]}")
    return module.CONTRACTS[name]


def require_contract(table: LakeTable, partition: str, frame: pl.DataFrame) -> None:
    """Let nothing pass that breaks the table's contract; the frame lacks the partition column.

    Raises:
        LakehouseError: Rows break it; the message says which rule and how many.
    """
    key = pl.lit(partition).cast(table.schema[table.partition_by]).alias(table.partition_by)
    require_frame(table.name, partition, frame.with_columns(key), table.schema)


def require_frame(
    name: str, partition: str, frame: pl.DataFrame, schema: pl.Schema | None = None
) -> None:
    """Let nothing pass that breaks the contract of this name.

    Raises:
        LakehouseError: Rows break it; the message says which rule and how many.
    """
    from lakehouse.checks.contract import examine

    verdict = examine([frame], contract_of(name), schema or frame.schema, frame.schema)
    if not verdict.passed:
        raise LakehouseError(
            f"{name} {partition} was not written, what was there stays: {verdict}"
            " Look at the tables above it in the graph."
        )
