"""How a gold table goes to ClickHouse: which rows of a partition make which partition there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse.resources.clickhouse import Table
from lakehouse.resources.lake import LakeTable


@dataclass(frozen=True)
class Part:
    """A partition in ClickHouse, as the values of its partition key, and the gold rows of it."""

    partition: tuple[Any, ...]
    rows: pl.Expr


@dataclass(frozen=True)
class Publication:
    """A gold table, the table that readers see, and the parts that a gold partition becomes."""

    gold: LakeTable
    table: Table
    parts: Callable[[str], list[Part]]
