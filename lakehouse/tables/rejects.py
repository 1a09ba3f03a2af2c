"""The tables of rows that could not be used; each data set has its own."""

import polars as pl

from lakehouse.resources.lake import LakeTable
from lakehouse.transforms.delimited import REJECTS, ColumnType

_REJECTED: dict[str, ColumnType] = {
    "file": pl.String,
    **REJECTS,
    "run_id": pl.String,
    "month": pl.String,
}
REJECTED = pl.Schema(_REJECTED)
"""File, line, raw text and reason of a row, and the run that set it aside."""


def rejects_table(name: str) -> LakeTable:
    """The rejects of a data set, or of a part of it."""
    return LakeTable(name, REJECTED)
