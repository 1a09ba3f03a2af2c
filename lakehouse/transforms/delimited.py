"""Delimited text to typed rows, with nothing lost: what cannot be read is set aside with a reason.

Three ways, each tried only when the one before will not do:

1. All lines are whole and every cell has its type: Polars reads the file, typed.
2. All lines are whole: read as text, each cell converted on its own; a cell that cannot be read
   becomes null and its raw text goes to the column `_unreadable`.
3. Otherwise: line by line; a line that has not the header's number of cells is rejected. Lines
   with nothing special about them still go through 1 or 2, together: one bad line must not make
   Python objects of the millions of cells around it.

A file without quotes has only whole lines when it has as many commas as its header times its
lines, which counting bytes tells at memory speed; a short and a long line that make up for each
other are found by Polars, which refuses long ones.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

ColumnType: TypeAlias = pl.DataType | type[pl.DataType]

REJECTS = pl.Schema({"line": pl.Int64, "raw": pl.String, "reason": pl.String})
"""What is known of a rejected line: its number in the file (the header is 1), its text, why."""

_LONGEST_QUOTED_RECORD = 20
"""Lines that one quoted cell may span; an unclosed quote must not swallow the rest of the file."""

_DATE = r"^([1-9][0-9]{3}[-/][0-9]{1,2}[-/][0-9]{1,2}|[0-9]{1,2}/[0-9]{1,2}/[1-9][0-9]{3})$"
"""What may be a date; Polars would also take `99999-01-01`, `-18-01-01` and `2018- 1- 1`."""


@dataclass(frozen=True)
class Delimited:
    """A file that was read.

    Attributes:
        frame: The header's columns, `_row` (line number, Int64) and `_unreadable` (JSON object of
            column to raw text, null where all cells could be read).
        rejects: The lines that are no rows, as `REJECTS`.
        records: Records in the file without its header: rows and rejects together.
        latin1_lines: Lines that were not UTF-8 and were read as Latin-1.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    records: int
    latin1_lines: int = 0


def header_of(data: bytes) -> list[str]:
    """The column names of the first line: trimmed, in lower case, without a byte order mark.

    Empty cells at the end are none; spreadsheets leave them.
    """
    text = data[: _body_at(data)].decode("utf-8-sig", "replace").strip("\r\n")
    try:
        cells = next(csv.reader([text]), [])
    except csv.Error:
        cells = [text]
    names = [cell.strip().lower() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def read_delimited(data: bytes, types: Mapping[str, ColumnType]) -> Delimited:
    """Read a file whose header has the names of `types`, in their order.

    Types: String, Int64, Decimal(20, 0) for unsigned 64-bit numbers, Date, Boolean.
    """
    body = _body_at(data)
    if lines := _whole_lines(data, body, len(types)):
        with suppress(pl.exceptions.PolarsError):
            frame = _read_whole(data, types, header=True, lines=lines)
            return Delimited(frame, pl.DataFrame(schema=REJECTS), records=lines)
    return _read_lines(data[body:], types)


def _body_at(data: bytes) -> int:
    """Where the header ends. Days are large: what follows it is not copied without need."""
    return data.find(b"\n") + 1 or len(data)


def reject_lines(data: bytes, reason: str, *, header: bool = True) -> pl.DataFrame:
    """Every line of a file that cannot be used as a whole, as `REJECTS`."""
    lines = [
        (number, line.rstrip(b"\r").decode("utf-8", "backslashreplace"), reason)
        for number, line in enumerate(data.split(b"\n"), start=1)
        if line.strip() and not (header and number == 1)
    ]
    return pl.DataFrame(lines, schema=REJECTS, orient="row")


def _whole_lines(data: bytes, body: int, width: int) -> int:
    """How many lines follow the header, if all of them are whole; else none."""
    if body == len(data) or data.find(b'"', body) >= 0 or data.find(b"\0", body) >= 0:
        return 0
    returns = data.count(b"\r", body)
    if returns and returns != data.count(b"\r\n", body) + data.endswith(b"\r"):
        return 0
    lines = data.count(b"\n", body) + (not data.endswith(b"\n"))
    return lines if data.count(b",", body) == lines * (width - 1) else 0


def _read_whole(
    data: bytes, types: Mapping[str, ColumnType], *, header: bool, lines: int
) -> pl.DataFrame:
    """Read whole lines, which are so many, behind a header or without one.

    Raises:
        PolarsError: They are not whole after all, or not UTF-8.
    """
    try:
        return _typed_frame(_read(data, _strict(types), header, lines), types)
    except pl.exceptions.PolarsError:
        text = _read(data, dict.fromkeys(types, pl.String), header, lines)
        return _convert(text, types)


def _strict(types: Mapping[str, ColumnType]) -> dict[str, ColumnType]:
    """Dates are read as text and unsigned numbers as Int64, which are strict where those are lax.

    Polars guesses among patterns for a Date, and makes 114 of `114.5` for a Decimal.
    """
    lax = {pl.Date: pl.String, pl.Decimal: pl.Int64}
    return {name: lax.get(_base(dtype), dtype) for name, dtype in types.items()}


def _typed_frame(frame: pl.DataFrame, types: Mapping[str, ColumnType]) -> pl.DataFrame:
    dates = [name for name, dtype in types.items() if _base(dtype) == pl.Date]
    if not all(frame[name].str.contains(_DATE).all() for name in dates):
        raise pl.exceptions.InvalidOperationError("a cell is no date")
    typed = (_typed(frame[name], dtype) for name, dtype in types.items())
    return frame.with_columns(*typed, pl.lit(None, dtype=pl.String).alias("_unreadable"))


def _typed(column: pl.Series, dtype: ColumnType) -> pl.Expr:
    if column.null_count() == column.len():  # half of a modern file; casting it would take as long
        return pl.lit(None, dtype=dtype).alias(column.name)
    if _base(dtype) == pl.Date:
        return pl.col(column.name).str.to_date("%Y-%m-%d", strict=True)
    return pl.col(column.name).cast(dtype)


def _read(data: bytes, schema: Mapping[str, ColumnType], header: bool, lines: int) -> pl.DataFrame:
    frame = pl.read_csv(
        data, has_header=False, skip_lines=int(header), schema=dict(schema), quote_char=None
    )
    if frame.height != lines:
        raise pl.exceptions.ShapeError("there are not as many rows as lines")
    return frame.with_columns(pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias("_row"))


def _read_lines(body: bytes, types: Mapping[str, ColumnType]) -> Delimited:
    width = len(types)
    plain: list[bytes] = []
    plain_numbers: list[int] = []
    rows: list[list[str | int | None]] = []
    rejects: list[tuple[int, str, str]] = []
    latin1 = 0
    for number, record in _records(body, width):
        if _is_plain(record, width):
            plain.append(record)
            plain_numbers.append(number)
            continue
        text, is_latin1 = _decoded(record)
        latin1 += is_latin1
        try:
            cells = _cells(text, width)
        except ValueError as reason:
            rejects.append((number, text.replace("\0", "\\x00"), str(reason)))
        else:
            rows.append([*(cell or None for cell in cells), number])
    schema: dict[str, ColumnType] = dict.fromkeys(types, pl.String)
    frame = _convert(pl.DataFrame(rows, schema=schema | {"_row": pl.Int64}, orient="row"), types)
    if plain:
        whole = _read_whole(b"\n".join(plain), types, header=False, lines=len(plain))
        whole = whole.with_columns(pl.Series("_row", plain_numbers))
        frame = pl.concat([frame, whole]).sort("_row")
    return Delimited(
        frame=frame,
        rejects=pl.DataFrame(rejects, schema=REJECTS, orient="row"),
        records=frame.height + len(rejects),
        latin1_lines=latin1,
    )


def _is_plain(record: bytes, width: int) -> bool:
    return (
        record.count(b",") == width - 1
        and record.isascii()
        and not any(special in record for special in (b'"', b"\0", b"\r"))
    )


def _cells(text: str, width: int) -> list[str]:
    """The cells of a record; empty ones beyond the header's are left out.

    Raises:
        ValueError: The record is no row; the message says why.
    """
    if "\0" in text:
        raise ValueError("the line has a NUL byte")
    try:
        cells = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        said = str(error).partition(" - ")[0]
        raise ValueError(f"the line cannot be parsed: {said}") from error
    while len(cells) > width and cells[-1] == "":
        cells.pop()
    if len(cells) != width:
        raise ValueError(f"{len(cells)} cells where the header has {width}")
    return cells


def _records(body: bytes, width: int) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each record; lines inside quotes belong together."""
    lines = body.split(b"\n")
    at = 0
    while at < len(lines):
        end = _end_of_record(lines, at, width)
        record = b"\n".join(lines[at:end]).rstrip(b"\r")
        if record.strip():
            yield at + 2, record
        at = end


def _end_of_record(lines: list[bytes], at: int, width: int) -> int:
    """Where the record that begins at a line ends: after it, unless a quoted cell goes on."""
    if lines[at].count(b'"') % 2:
        for end in range(at + 2, min(len(lines), at + _LONGEST_QUOTED_RECORD) + 1):
            if lines[end - 1].count(b'"') % 2:
                text, _ = _decoded(b"\n".join(lines[at:end]).rstrip(b"\r"))
                try:
                    _cells(text, width)
                except ValueError:
                    break
                return end
    return at + 1


def _decoded(record: bytes) -> tuple[str, bool]:
    try:
        return record.decode(), False
    except UnicodeDecodeError:
        return record.decode("latin-1"), True


def _convert(text: pl.DataFrame, types: Mapping[str, ColumnType]) -> pl.DataFrame:
    converted = text.with_columns(
        _PARSERS[_base(dtype)](pl.col(name)).cast(dtype).alias(name)
        for name, dtype in types.items()
    )
    unreadable = [name for name in types if converted[name].null_count() > text[name].null_count()]
    if not unreadable:
        return converted.with_columns(pl.lit(None, dtype=pl.String).alias("_unreadable"))
    raw = text.select(
        pl.when(converted[name].is_null() & (text[name].str.strip_chars() != ""))
        .then(text[name])
        .alias(name)
        for name in unreadable
    )
    return converted.with_columns(
        pl.when(pl.any_horizontal(raw[name].is_not_null() for name in unreadable))
        .then(_json_object(raw))
        .alias("_unreadable")
    )


def _json_object(raw: pl.DataFrame) -> pl.Series:
    """Each row as a JSON object of its cells that are not null."""
    return pl.Series(
        [
            json.dumps({name: cell for name, cell in row.items() if cell is not None})
            for row in raw.iter_rows(named=True)
        ],
        dtype=pl.String,
    )


def _base(dtype: ColumnType) -> type[pl.DataType]:
    return dtype.base_type()


def _whole_number(cell: pl.Expr) -> pl.Expr:
    """`114`, `+114`, ` 114 ` and `114.0`, as spreadsheets save it; anything else is null."""
    trimmed = cell.str.strip_chars().str.replace(r"\.0+$", "")
    return pl.when(trimmed.str.contains(r"^[+-]?[0-9]{1,20}$")).then(trimmed.str.strip_prefix("+"))


def _date(cell: pl.Expr) -> pl.Expr:
    """`2018-01-31`, and as spreadsheets save it, `2018/1/31` and `1/31/2018` (month first)."""
    trimmed = cell.str.strip_chars()
    patterns = ("%Y-%m-%d", "%Y/%m/%d", "%m/%d/%Y")
    dated = pl.when(trimmed.str.contains(_DATE)).then(trimmed)
    return pl.coalesce(dated.str.to_date(pattern, strict=False) for pattern in patterns)


def _boolean(cell: pl.Expr) -> pl.Expr:
    lowered = cell.str.strip_chars().str.to_lowercase()
    return (
        pl.when(lowered.is_in(["true", "1"]))
        .then(pl.lit(True))
        .when(lowered.is_in(["false", "0"]))
        .then(pl.lit(False))
    )


_PARSERS: dict[type[pl.DataType], Callable[[pl.Expr], pl.Expr]] = {
    pl.String: lambda cell: cell,
    pl.Int64: lambda cell: _whole_number(cell).cast(pl.Int64, strict=False),
    pl.Decimal: lambda cell: _whole_number(cell),
    pl.Date: _date,
    pl.Boolean: _boolean,
}
