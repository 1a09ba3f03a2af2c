"""Delimited text to typed rows, with nothing lost: what cannot be read is set aside with a reason.

Three ways, each tried only when the one before will not do:

1. All lines are whole and every cell has its type: Polars reads the file, typed.
2. All lines are whole: read as text, each cell converted on its own; a cell that cannot be read
   becomes null and its raw text goes to the column `_unreadable`.
3. Otherwise: line by line; a line that has not the header's number of cells is rejected. Lines
   with nothing special about them still go through 1 or 2, together: one bad line must not make
   Python objects of the millions of cells around it.

A file without quotes has only whole lines when it has as many commas in each line as its header,
which counting bytes tells at memory speed; a short and a long line that make up for each other are
found by Polars, which refuses long ones. A file in which every cell is quoted is as good once the
quotes are gone, and so is one in which every line has the same number of empty cells more.
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

_TIMESTAMP = r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?$"
_WHOLE_SECONDS = r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$"

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"

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
    return [name.lower() for name in column_names(data)]


def column_names(data: bytes) -> list[str]:
    """As `header_of`, in the file's own case.

    Names are told to people: what cannot be printed in them is replaced.
    """
    text = data[: body_at(data)].decode("utf-8-sig", "replace").strip("\r\n")
    try:
        cells = next(csv.reader([text]), [])
    except csv.Error:
        cells = [text]
    names = [_printable(cell.strip()) for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in name)


def body_at(data: bytes) -> int:
    """Where the header ends. Days are large: what follows it is not copied without need."""
    return data.find(b"\n") + 1 or len(data)


def read_delimited(data: bytes, types: Mapping[str, ColumnType]) -> Delimited:
    """Read a file whose header has the names of `types`, in their order.

    Types: String, Int64, Decimal(20, 0) for unsigned 64-bit numbers, Float64, Date,
    Datetime("us"), Boolean.
    """
    return _read_body(data, types, body_at(data), line=2)


def read_piece(data: bytes, types: Mapping[str, ColumnType], line: int) -> Delimited:
    """As `read_delimited`, a piece of a file that has no header and begins at a line."""
    return _read_body(data, types, 0, line)


def _read_body(data: bytes, types: Mapping[str, ColumnType], body: int, line: int) -> Delimited:
    """Read what follows the header, whose first line has this number in the file."""
    width = len(types)
    start = _first_record_at(data, body)
    first = line + data.count(b"\n", body, start)
    quoted = _all_quoted(data, start, width)
    text, at = (data[start:].replace(b'"', b""), 0) if quoted else (data, start)
    if lines := _whole_lines(text, at, width):
        with suppress(pl.exceptions.PolarsError):
            frame = _read_whole(text, types, lines, skip=text.count(b"\n", 0, at), first=first)
            return Delimited(frame, pl.DataFrame(schema=REJECTS), records=lines.count)
    return _read_lines(data[start:], types, first)


def _first_record_at(data: bytes, body: int) -> int:
    """Behind the blank lines that follow the header in some of the publishers' files."""
    while data.startswith((b"\n", b"\r\n"), body):
        body = data.find(b"\n", body) + 1
    return body


def reject_lines(data: bytes, reason: str, *, header: bool = True) -> pl.DataFrame:
    """Every line of a file that cannot be used as a whole, as `REJECTS`."""
    lines = [
        (number, line.rstrip(b"\r").decode("utf-8", "backslashreplace"), reason)
        for number, line in enumerate(data.split(b"\n"), start=1)
        if line.strip() and not (header and number == 1)
    ]
    return pl.DataFrame(lines, schema=REJECTS, orient="row")


@dataclass(frozen=True)
class _Lines:
    """Whole lines: how many, and the cells of each."""

    count: int
    width: int


def _whole_lines(data: bytes, start: int, width: int) -> _Lines | None:
    """The lines from there on, if all of them are whole."""
    if start == len(data) or data.find(b'"', start) >= 0 or data.find(b"\0", start) >= 0:
        return None
    returns = data.count(b"\r", start)
    if returns and returns != data.count(b"\r\n", start) + data.endswith(b"\r"):
        return None
    lines = data.count(b"\n", start) + (not data.endswith(b"\n"))
    commas, rest = divmod(data.count(b",", start), lines)
    return _Lines(lines, commas + 1) if not rest and commas + 1 >= width else None


def _all_quoted(data: bytes, start: int, width: int) -> bool:
    """Whether all quotes stand at the ends of cells, and all cells have them."""
    if not data.startswith(b'"', start):
        return False
    lines, rest = divmod(data.count(b'"', start), 2 * width)
    ends = data.count(b'"\n', start) + data.count(b'"\r\n', start)
    return (
        not rest
        and data.count(b"\n", start) == ends == lines - (not data.endswith(b"\n"))
        and data.count(b'\n"', start) == lines - 1
        and data.count(b'","', start) == data.count(b",", start) == lines * (width - 1)
    )


def _read_whole(
    data: bytes, types: Mapping[str, ColumnType], lines: _Lines, *, skip: int, first: int
) -> pl.DataFrame:
    """Read whole lines behind those to skip; the first of them has this number in the file.

    Raises:
        PolarsError: They are not whole after all, or not UTF-8.
    """
    try:
        return _typed_frame(_read(data, _strict(types), lines, skip, first), types)
    except pl.exceptions.PolarsError:
        text = _read(data, dict.fromkeys(types, pl.String), lines, skip, first)
        return _convert(text, types)


def _strict(types: Mapping[str, ColumnType]) -> dict[str, ColumnType]:
    """Dates are read as text and unsigned numbers as Int64, which are strict where those are lax.

    Polars guesses among patterns for a Date, and makes 114 of `114.5` for a Decimal.
    """
    lax = {pl.Date: pl.String, pl.Datetime: pl.String, pl.Decimal: pl.Int64}
    return {name: lax.get(_base(dtype), dtype) for name, dtype in types.items()}


def _typed_frame(frame: pl.DataFrame, types: Mapping[str, ColumnType]) -> pl.DataFrame:
    if not all(_as_strict(frame[name], dtype) for name, dtype in types.items()):
        raise pl.exceptions.InvalidOperationError("a cell is not of its type")
    typed = (_typed(frame[name], dtype) for name, dtype in types.items())
    return frame.with_columns(*typed, pl.lit(None, dtype=pl.String).alias("_unreadable"))


def _as_strict(column: pl.Series, dtype: ColumnType) -> bool:
    """Whether the cells that Polars took for a type are as its parser would have them."""
    if _base(dtype) == pl.Float64:
        return bool(column.is_finite().all())
    pattern = {pl.Date: _DATE, pl.Datetime: _WHOLE_SECONDS}.get(_base(dtype))
    return pattern is None or bool(column.str.contains(pattern).all())


def _typed(column: pl.Series, dtype: ColumnType) -> pl.Expr:
    if column.null_count() == column.len():  # half of a modern file; casting it would take as long
        return pl.lit(None, dtype=dtype).alias(column.name)
    if _base(dtype) == pl.Date:
        return pl.col(column.name).str.to_date("%Y-%m-%d", strict=True)
    if _base(dtype) == pl.Datetime:
        return pl.col(column.name).str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=True)
    return pl.col(column.name).cast(dtype)


def _read(
    data: bytes, schema: Mapping[str, ColumnType], lines: _Lines, skip: int, first: int
) -> pl.DataFrame:
    beyond = [f"_beyond_{number}" for number in range(lines.width - len(schema))]
    frame = pl.read_csv(
        data,
        has_header=False,
        skip_lines=skip,
        schema={**schema, **dict.fromkeys(beyond, pl.String)},
        quote_char=None,
    )
    if frame.height != lines.count or any(frame[name].count() for name in beyond):
        raise pl.exceptions.ShapeError("the lines have not the cells of the header")
    return frame.drop(beyond).with_columns(
        pl.int_range(first, first + pl.len(), dtype=pl.Int64).alias("_row")
    )


def _read_lines(body: bytes, types: Mapping[str, ColumnType], first: int) -> Delimited:
    width = len(types)
    plain: list[bytes] = []
    plain_numbers: list[int] = []
    rows: list[list[str | int | None]] = []
    rejects: list[tuple[int, str, str]] = []
    latin1 = 0
    for number, record in _records(body, width, first):
        if simple := _plain(record, width):
            plain.append(simple)
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
        lines = _Lines(len(plain), width)
        whole = _read_whole(b"\n".join(plain), types, lines, skip=0, first=first)
        whole = whole.with_columns(pl.Series("_row", plain_numbers))
        frame = pl.concat([frame, whole]).sort("_row")
    return Delimited(
        frame=frame,
        rejects=pl.DataFrame(rejects, schema=REJECTS, orient="row"),
        records=frame.height + len(rejects),
        latin1_lines=latin1,
    )


def _plain(record: bytes, width: int) -> bytes | None:
    """The record without empty cells beyond the header's, if nothing is special about it."""
    beyond = record.count(b",") - (width - 1)
    if beyond < 0 or not record.endswith(b"," * beyond) or not record.isascii():
        return None
    if any(special in record for special in (b'"', b"\0", b"\r")):
        return None
    return record[: len(record) - beyond]


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


def _records(body: bytes, width: int, first: int) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each record; lines inside quotes belong together."""
    lines = body.split(b"\n")
    at = 0
    while at < len(lines):
        end = _end_of_record(lines, at, width)
        record = b"\n".join(lines[at:end]).rstrip(b"\r")
        if record.strip():
            yield at + first, record
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
        parsed(pl.col(name), dtype).alias(name) for name, dtype in types.items()
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
    return converted.with_columns(set_aside(raw).alias("_unreadable"))


def set_aside(raw: pl.DataFrame) -> pl.Series:
    """Each row as a JSON object of its cells that are not null; null where all are."""
    empty = pl.Series([None], dtype=pl.String).new_from_index(0, raw.height)
    if not raw.width:
        return empty
    there = raw.select(pl.any_horizontal(pl.all().is_not_null())).to_series().arg_true()
    objects = [
        json.dumps({name: cell for name, cell in row.items() if cell is not None})
        for row in raw[there].iter_rows(named=True)
    ]
    return empty.scatter(there, objects)


def _base(dtype: ColumnType) -> type[pl.DataType]:
    return dtype.base_type()


def parsed(cell: pl.Expr, dtype: ColumnType) -> pl.Expr:
    """Text as a type that `read_delimited` knows; null where it cannot be read."""
    return _PARSERS[_base(dtype)](cell).cast(dtype)


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


def _timestamp(cell: pl.Expr) -> pl.Expr:
    """`2018-01-31 23:59:59`, also with a `T`, without seconds or with a fraction of one."""
    trimmed = cell.str.strip_chars().str.replace("T", " ", literal=True)
    timed = pl.when(trimmed.str.contains(_TIMESTAMP)).then(trimmed)
    patterns = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
    return pl.coalesce(
        timed.str.to_datetime(pattern, time_unit="us", strict=False) for pattern in patterns
    )


def _number(cell: pl.Expr) -> pl.Expr:
    """`1.5`, `-.5`, `+1`, ` 2.50 `, `1e-5`; anything else, such as `nan`, is null."""
    trimmed = cell.str.strip_chars()
    number = pl.when(trimmed.str.contains(_NUMBER)).then(trimmed).cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


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
    pl.Float64: _number,
    pl.Date: _date,
    pl.Datetime: _timestamp,
    pl.Boolean: _boolean,
}
