"""Delimited text to typed rows, with nothing lost: what cannot be read is set aside with a reason.

Three ways, each tried only when the one before will not do:

1. All lines are whole and every cell has its type: Polars reads the file, typed.
2. All lines are whole: read as text, each cell converted on its own; a cell that cannot be read
   becomes null and its raw text goes to the column `_unreadable`.
3. Otherwise: line by line; a line that has not the header's number of cells is rejected.

A file without quotes has only whole lines when it has as many commas as its header times its
lines, which counting bytes tells at memory speed; a short and a long line that make up for each
other are found by Polars, which refuses long ones.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

ColumnType: TypeAlias = pl.DataType | type[pl.DataType]

REJECTS = pl.Schema({"line": pl.Int64, "raw": pl.String, "reason": pl.String})
"""What is known of a rejected line: its number in the file (the header is 1), its text, why."""

_LONGEST_QUOTED_RECORD = 20
"""Lines that one quoted cell may span; an unclosed quote must not swallow the rest of the file."""


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
    """The column names of the first line: trimmed, in lower case, without a byte order mark."""
    first = data[: data.find(b"\n")] if b"\n" in data else data
    text = first.decode("utf-8-sig", "replace").strip("\r")
    cells = next(csv.reader([text]), [])
    return [cell.strip().lower() for cell in cells]


def read_delimited(data: bytes, types: Mapping[str, ColumnType]) -> Delimited:
    """Read a file whose header has the names of `types`, in their order.

    Types: String, Int64, Decimal(20, 0) for unsigned 64-bit numbers, Date, Boolean.
    """
    body = data[data.find(b"\n") + 1 :] if b"\n" in data else b""
    if _lines_are_whole(body, len(types)):
        frame = _read_typed(body, types)
        if frame is None and (text := _read_text(body, types)) is not None:
            frame = _convert(text, types)
        if frame is not None:
            return Delimited(frame, pl.DataFrame(schema=REJECTS), records=_count_lines(body))
    return _read_lines(body, types)


def reject_lines(data: bytes, reason: str, *, header: bool = True) -> pl.DataFrame:
    """Every line of a file that cannot be used as a whole, as `REJECTS`."""
    lines = [
        (number, line.rstrip(b"\r").decode("utf-8", "backslashreplace"), reason)
        for number, line in enumerate(data.split(b"\n"), start=1)
        if line.strip() and not (header and number == 1)
    ]
    return pl.DataFrame(lines, schema=REJECTS, orient="row")


def _lines_are_whole(body: bytes, width: int) -> bool:
    if not body or b'"' in body or b"\0" in body:
        return False
    lines = _count_lines(body)
    returns = body.count(b"\r")
    if returns and returns not in (body.count(b"\n"), lines):
        return False
    return body.count(b",") == lines * (width - 1) and b"\n\n" not in body


def _count_lines(body: bytes) -> int:
    return body.count(b"\n") + (not body.endswith(b"\n"))


def _read_typed(body: bytes, types: Mapping[str, ColumnType]) -> pl.DataFrame | None:
    """Dates are read as text and unsigned numbers as Int64, which are strict where those are lax.

    Polars guesses among patterns for a Date, and makes 114 of `114.5` for a Decimal.
    """
    lax = {pl.Date: pl.String, pl.Decimal: pl.Int64}
    strict = {name: lax.get(_base(dtype), dtype) for name, dtype in types.items()}
    try:
        frame = _read(body, strict)
        return frame.select(
            pl.col(name).str.to_date("%Y-%m-%d", strict=True)
            if _base(dtype) == pl.Date
            else pl.col(name).cast(dtype)
            for name, dtype in types.items()
        ).with_columns(
            pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias("_row"),
            pl.lit(None, dtype=pl.String).alias("_unreadable"),
        )
    except pl.exceptions.PolarsError:
        return None


def _read_text(body: bytes, types: Mapping[str, ColumnType]) -> pl.DataFrame | None:
    try:
        frame = _read(body, dict.fromkeys(types, pl.String))
    except pl.exceptions.PolarsError:
        return None
    return frame.with_columns(pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias("_row"))


def _read(body: bytes, schema: Mapping[str, ColumnType]) -> pl.DataFrame:
    return pl.read_csv(io.BytesIO(body), has_header=False, schema=dict(schema), quote_char=None)


def _read_lines(body: bytes, types: Mapping[str, ColumnType]) -> Delimited:
    width = len(types)
    names = [*types, "_row"]
    rows: list[list[str | int | None]] = []
    rejects: list[tuple[int, str, str]] = []
    latin1 = 0
    for number, text, decoded in _records(body, width):
        latin1 += decoded
        if "\0" in text:
            rejects.append((number, text.replace("\0", "\\x00"), "the line has a NUL byte"))
            continue
        try:
            cells = next(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            rejects.append((number, text, f"the line cannot be parsed: {error}"))
            continue
        while len(cells) > width and cells[-1] == "":
            cells.pop()
        if len(cells) != width:
            rejects.append((number, text, f"{len(cells)} cells where the header has {width}"))
            continue
        rows.append([*(cell or None for cell in cells), number])
    schema: dict[str, ColumnType] = dict.fromkeys(names, pl.String)
    text_frame = pl.DataFrame(rows, schema=schema | {"_row": pl.Int64}, orient="row")
    return Delimited(
        frame=_convert(text_frame, types),
        rejects=pl.DataFrame(rejects, schema=REJECTS, orient="row"),
        records=len(rows) + len(rejects),
        latin1_lines=latin1,
    )


def _records(body: bytes, width: int) -> Iterator[tuple[int, str, bool]]:
    """Number, text and whether Latin-1, of each record; lines inside quotes belong together."""
    lines = body.split(b"\n")
    at = 0
    while at < len(lines):
        end = _end_of_record(lines, at, width)
        record = b"\n".join(lines[at:end]).rstrip(b"\r")
        if record.strip():
            yield at + 2, *_decoded(record)
        at = end


def _end_of_record(lines: list[bytes], at: int, width: int) -> int:
    """Where the record that begins at a line ends: after it, unless a quoted cell goes on."""
    if lines[at].count(b'"') % 2:
        for end in range(at + 2, min(len(lines), at + _LONGEST_QUOTED_RECORD) + 1):
            if lines[end - 1].count(b'"') % 2:
                text, _ = _decoded(b"\n".join(lines[at:end]))
                whole = len(next(csv.reader(io.StringIO(text, newline="")), [])) == width
                return end if whole else at + 1
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
        pl.when(text[name].is_not_null() & converted[name].is_null()).then(text[name]).alias(name)
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
    return pl.when(trimmed.str.contains(r"^[+-]?\d{1,20}$")).then(trimmed.str.strip_prefix("+"))


def _date(cell: pl.Expr) -> pl.Expr:
    """`2018-01-31`, and as spreadsheets save it, `2018/1/31` and `1/31/2018` (month first)."""
    trimmed = cell.str.strip_chars()
    patterns = ("%Y-%m-%d", "%Y/%m/%d", "%m/%d/%Y")
    return pl.coalesce(trimmed.str.to_date(pattern, strict=False) for pattern in patterns)


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
