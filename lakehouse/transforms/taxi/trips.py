"""The publisher's rows to canonical trips: typed, cleaned, flagged, and none lost in silence.

Everything here is a lazy frame, which the streaming engine carries through to the written file, so
that memory does not grow with the month.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse.errors import SourceRefusedError
from lakehouse.transforms.delimited import ColumnType, parsed, set_aside
from lakehouse.transforms.taxi.eras import (
    COLUMNS,
    FLAGS,
    SCHEMAS,
    TIMESTAMP,
    Layout,
    recognise,
)

LARGEST_BELIEVABLE_AMOUNT = 10**9
"""Dollars, miles or degrees; what is not smaller is no measurement, and would spoil exact sums."""

DOUBTFUL_MILES = 1000

PAYMENT_NAMES: Mapping[int, str] = {
    0: "Flex fare",
    1: "Credit card",
    2: "Cash",
    3: "No charge",
    4: "Dispute",
    5: "Unknown",
    6: "Voided trip",
}
"""The publisher's codes of payment types."""

_PAYMENT_TEXTS: Mapping[int, tuple[str, ...]] = {
    1: ("CRD", "CRE", "CREDIT"),
    2: ("CSH", "CAS", "CASH"),
    3: ("NOC", "NO", "NO CHARGE"),
    4: ("DIS", "DISPUTE"),
    5: ("UNK", "UNKNOWN", "NA"),
    6: ("VOID", "VOIDED TRIP"),
}
_STORED_TEXTS: Mapping[str, tuple[str, ...]] = {
    "Y": ("Y", "y", "1", "1.0"),
    "N": ("N", "n", "0", "0.0"),
}

_YEARS = (datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))
"""What other programs can hold; Parquet could have the year 292277."""

_RAW = "raw "
"""Before the name of a column that is carried along until it is known what could not be read."""

_EARLIER = f"{_RAW}_unreadable"

_NO_KEY = "the pickup time is missing or cannot be read"


@dataclass(frozen=True)
class Trips:
    """A month of a service.

    Attributes:
        frame: As `SCHEMAS` of the service, and the unknown columns behind it.
        rejects: Rows without a pickup time, as `REJECTS`; `raw` is a JSON object of the row's
            cells. There are as many as `frame` has fewer rows than the file: collect it only then.
        unknown: Columns that no era has; they are kept.
        missing: Columns that files of the month have and this one has not; they are null.
    """

    frame: pl.LazyFrame
    rejects: pl.LazyFrame
    unknown: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Counts:
    """What is counted of written trips: all rows, and those to which each of these applies."""

    rows: int
    passenger_count_missing: int
    unreadable_rows: int
    flags: Mapping[str, int]


def canonical(raw: pl.LazyFrame, service: str, month: str, zones: pl.DataFrame) -> Trips:
    """The trips of a month such as `2020-03`, from the publisher's Parquet or `read_csv`'s frames.

    Args:
        raw: The columns of the file; `_row`, which is made where it is absent, numbers its rows
            from 1 on, and `_unreadable` beside it is what `read_csv` could not read.
        service: One of `SERVICES`.
        month: The month that the file is of.
        zones: As `ZONES`; their location ids are the known ones.

    Raises:
        SourceRefusedError: The file is not the service's, or has types that no trip has.
    """
    schema = raw.collect_schema()
    numbered = "_row" in schema
    told = numbered and "_unreadable" in schema
    cells = [name for name in schema if not (numbered and name in ("_row", "_unreadable"))]
    layout = recognise(cells, service, month)
    rows = raw if numbered else raw.with_row_index("_row", offset=1)
    read = rows.select(
        pl.col("_row").cast(pl.Int64),
        *(pl.col("_unreadable").alias(_EARLIER) for _ in range(told)),
        *_read(layout, service, schema),
    )
    frame = (
        read.filter(pl.col("pickup_datetime").is_not_null())
        .with_columns(_unreadable(read.collect_schema().names()))
        .select(*_canonical(layout, service, month, zones), *layout.unknown)
    )
    return Trips(
        frame=frame,
        rejects=_rejects(rows, layout, schema),
        unknown=tuple(layout.unknown),
        missing=layout.missing,
    )


def write(trips: pl.LazyFrame, path: Path) -> None:
    """Write trips as Parquet, in bounded memory; the same rows make the same bytes.

    The file is not replaced in one step: write it beside its place and move it there.
    """
    # Of yellow's, level 3 saves 6 % of the bytes and takes 8 % longer.
    trips.sink_parquet(
        path,
        compression="zstd",
        compression_level=2,
        statistics=True,
        row_group_size=256 * 1024,
        data_page_size=1024 * 1024,
        maintain_order=True,
        engine="streaming",
    )


def count(trips: pl.LazyFrame) -> Counts:
    """Count written trips; only the columns concerned are read."""
    has_passengers = "passenger_count_missing" in trips.collect_schema()
    found = (
        trips.select(
            pl.len().alias("rows"),
            (pl.col("passenger_count_missing").sum() if has_passengers else pl.lit(0)).alias(
                "passenger_count_missing"
            ),
            pl.col("_unreadable").count().alias("unreadable_rows"),
            pl.col(FLAGS).sum(),
        )
        .collect(engine="streaming")
        .row(0, named=True)
    )
    return Counts(
        rows=found["rows"],
        passenger_count_missing=found["passenger_count_missing"],
        unreadable_rows=found["unreadable_rows"],
        flags={flag: found[flag] for flag in FLAGS},
    )


def _read(layout: Layout, service: str, schema: pl.Schema) -> list[pl.Expr]:
    """Each column of the file, typed, and beside it the raw one where a cell may be unreadable."""
    read: list[pl.Expr] = []
    for column in COLUMNS[service]:
        there = layout.names.get(column.name)
        if there is None:
            read.append(pl.lit(None, dtype=column.dtype).alias(column.name))
            continue
        cell, dtype = pl.col(there), schema[there]
        value = _value(column.name, column.dtype, cell, dtype)
        read.append(value.alias(column.name))
        if _may_fail(column.name, column.dtype, dtype):
            raw = _filled(cell) if dtype == pl.String else cell
            read.append(raw.alias(f"{_RAW}{column.name}"))
    for name, there in layout.unknown.items():
        nothing = schema[there] == pl.Null
        read.append(pl.col(there).cast(pl.String if nothing else schema[there]).alias(name))
    return read


def _value(name: str, dtype: ColumnType, cell: pl.Expr, found: pl.DataType) -> pl.Expr:
    """A cell of a column of the file in its canonical type; null where it cannot be read."""
    if found == pl.Null:
        return pl.lit(None, dtype=dtype)
    _refuse_type(name, dtype, found)
    if name == "payment_type" and found == pl.String:
        trimmed = cell.str.strip_chars().str.to_uppercase()
        return pl.coalesce(_coded(trimmed, _PAYMENT_TEXTS), parsed(trimmed, pl.Int64))
    if name == "store_and_fwd_flag":
        return _coded(cell.cast(pl.String), _STORED_TEXTS)
    if dtype == pl.String:
        return _filled(cell) if found == pl.String else _text(cell, found)
    if found == pl.String:
        cell = parsed(cell, pl.Int64 if dtype == pl.Int32 else dtype)
    elif dtype.is_integer() and not found.is_integer():
        cell = pl.when(cell == cell.floor()).then(cell)
    return _believable(cell.cast(dtype, strict=False), dtype)


def _coded(text: pl.Expr, codes: Mapping[Any, tuple[str, ...]]) -> pl.Expr:
    """The code of a text. `replace_strict` would do it with the whole month in memory."""
    return pl.coalesce(
        pl.when(text.is_in(texts)).then(pl.lit(code)) for code, texts in codes.items()
    )


def _refuse_type(name: str, dtype: ColumnType, found: pl.DataType) -> None:
    if dtype == TIMESTAMP:
        kind = "times"
        fits = found == pl.Date or (isinstance(found, pl.Datetime) and found.time_zone is None)
    else:
        kind = "text" if dtype == pl.String else "numbers"
        fits = found.is_numeric()
    if not (fits or found == pl.String):
        raise SourceRefusedError(
            f"the column {name} has the type {found}, where {kind} should be: this is no file of"
            " the publisher's. Look whether the right file stands under this name"
        )


def _may_fail(name: str, dtype: ColumnType, found: pl.DataType) -> bool:
    """Whether cells of a type may have no place in the canonical one."""
    if found == pl.Null:
        return False
    if dtype == pl.String:
        return name == "store_and_fwd_flag"
    return not (dtype.is_integer() and found in (dtype, pl.Int32, pl.Int16, pl.Int8))


def _text(cell: pl.Expr, found: pl.DataType) -> pl.Expr:
    """Numbers as text; `2`, not `2.0`, where integers became floats."""
    if found.is_float():
        whole = cell.cast(pl.Int64, strict=False)
        return pl.when(cell == whole).then(whole.cast(pl.String)).otherwise(cell.cast(pl.String))
    return cell.cast(pl.String)


def _filled(text: pl.Expr) -> pl.Expr:
    """Text without the blanks around it; null where there is none."""
    trimmed = text.str.strip_chars()
    return pl.when(trimmed != "").then(trimmed)


def _believable(value: pl.Expr, dtype: ColumnType) -> pl.Expr:
    """Times and amounts in the range that has a meaning."""
    if dtype == TIMESTAMP:
        return pl.when(value.is_between(*_YEARS)).then(value)
    if dtype == pl.Float64:  # NaN and infinity are not smaller than anything
        return pl.when(value.abs() < LARGEST_BELIEVABLE_AMOUNT).then(value)
    return value


def _unreadable(names: list[str]) -> pl.Expr:
    """The cells that were there and could not be read, as a JSON object."""
    carried = [name for name in names if name.startswith(_RAW)]
    if not carried:
        return pl.lit(None, dtype=pl.String).alias("_unreadable")
    values = [name.removeprefix(_RAW) for name in carried]
    return (
        pl.struct(*carried, *(name for name in values if name in names))
        .map_batches(_told, return_dtype=pl.String, is_elementwise=True)
        .alias("_unreadable")
    )


def _told(cells: pl.Series) -> pl.Series:
    """Of some rows. Hardly ever is there anything to tell, which counting nulls shows at once."""
    both = cells.struct.unnest()
    raw = [name for name in both.columns if name.startswith(_RAW) and name != _EARLIER]
    lost = {
        name: name.removeprefix(_RAW)
        for name in raw
        if both[name].null_count() < both[name.removeprefix(_RAW)].null_count()
    }
    told = set_aside(
        both.select(
            pl.when(pl.col(name).is_null()).then(pl.col(there).cast(pl.String)).alias(name)
            for there, name in lost.items()
        )
        if lost
        else pl.DataFrame(height=both.height)
    )
    return _joined(both[_EARLIER], told) if _EARLIER in both.columns else told


def _joined(earlier: pl.Series, later: pl.Series) -> pl.Series:
    """What could not be read in the file, and what has no place in a trip, as one object."""
    if not later.count():
        return earlier
    return pl.Series(
        [
            json.dumps(json.loads(one) | json.loads(other)) if one and other else one or other
            for one, other in zip(earlier, later, strict=True)
        ],
        dtype=pl.String,
    )


def _canonical(layout: Layout, service: str, month: str, zones: pl.DataFrame) -> list[pl.Expr]:
    first = date.fromisoformat(f"{month}-01")
    passengers = pl.col("passenger_count")
    made = {
        "month": pl.lit(first),
        "passenger_count": passengers.fill_null(0),
        "passenger_count_missing": passengers.is_null(),
        **_flags(layout, service, first, zones),
    }
    return [made.get(name, pl.col(name)).alias(name) for name in SCHEMAS[service]]


def _flags(layout: Layout, service: str, first: date, zones: pl.DataFrame) -> dict[str, pl.Expr]:
    """What is doubtful about a trip; where a column is missing or null, it is not."""
    pickup, dropoff = pl.col("pickup_datetime"), pl.col("dropoff_datetime")
    known = zones["location_id"].implode()
    places = [pl.col(name).is_in(known) for name in layout.names if name.endswith("_location_id")]
    flags = {
        "pickup_outside_month": ~pickup.is_between(
            pl.lit(first, dtype=TIMESTAMP),
            pl.lit(first, dtype=TIMESTAMP).dt.offset_by("1mo"),
            closed="left",
        ),
        "dropoff_before_pickup": dropoff < pickup,
        "negative_total": total(service) < 0,
        "distance_over_1000_miles": distance(service) > DOUBTFUL_MILES,
        "unknown_zone": ~pl.all_horizontal(places).fill_null(value=False)
        if places
        else pl.lit(value=False),
    }
    return {flag: doubtful.fill_null(value=False) for flag, doubtful in flags.items()}


_FHVHV_TOTAL = (
    *("base_passenger_fare", "tolls", "bcf", "sales_tax", "congestion_surcharge"),
    *("airport_fee", "tips", "cbd_congestion_fee"),
)


def total(service: str) -> pl.Expr:
    """What the passenger paid in dollars; null where nothing is known of it."""
    if service == "fhv":
        return pl.lit(None, dtype=pl.Float64)
    if service == "fhvhv":
        known = pl.any_horizontal(pl.col(_FHVHV_TOTAL).is_not_null())
        return pl.when(known).then(pl.sum_horizontal(_FHVHV_TOTAL))
    return pl.col("total_amount")


def distance(service: str) -> pl.Expr:
    """Miles; null where nothing is known of them."""
    names = {"yellow": "trip_distance", "green": "trip_distance", "fhvhv": "trip_miles"}
    return pl.col(names[service]) if service in names else pl.lit(None, dtype=pl.Float64)


def _rejects(rows: pl.LazyFrame, layout: Layout, schema: pl.Schema) -> pl.LazyFrame:
    there = layout.names["pickup_datetime"]
    pickup = _value("pickup_datetime", TIMESTAMP, pl.col(there), schema[there])
    return rows.filter(pickup.is_null()).select(
        pl.col("_row").cast(pl.Int64).alias("line"),
        pl.struct(pl.exclude("_row")).struct.json_encode().alias("raw"),
        pl.lit(_NO_KEY).alias("reason"),
    )
