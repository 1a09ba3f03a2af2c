"""Online Retail: published lines, which are text, to typed lines, and those to keyed staging rows.

The files, their columns and the original's rules: docs/data/retail.md.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import chain

import polars as pl
import polars_hash as plh

from lakehouse.transforms.delimited import REJECTS, ColumnType, header_of, read_delimited

RECORD_SOURCE = "UCI Online Retail II"
"""What the original calls the workbook; lines of a dropped file carry the file's name."""

PUBLISHED = (
    *("InvoiceNo", "StockCode", "Description", "Quantity"),
    *("InvoiceDate", "UnitPrice", "CustomerID", "Country"),
)
"""The columns of a sheet or file, by their names in the older workbook, which we keep."""

_NAMES = {name.lower(): name for name in PUBLISHED} | {"invoice": "InvoiceNo", "price": "UnitPrice"}

_TEXT: dict[str, ColumnType] = {
    **dict.fromkeys(PUBLISHED, pl.String),
    "Sheet": pl.String,
    "Row": pl.UInt32,
}
TEXT = pl.Schema(_TEXT)
"""Lines as published: cells as text, and where they stand; the header is row 1, `Sheet` is empty
in a dropped file."""

_TIME = pl.Datetime("us", "UTC")
_PRICE = pl.Decimal(10, 4)
_TOTAL = pl.Decimal(18, 4)

_LINES: dict[str, ColumnType] = {
    "InvoiceNo": pl.String,
    "StockCode": pl.String,
    "Description": pl.String,
    "Quantity": pl.Int32,
    "InvoiceDate": _TIME,
    "UnitPrice": _PRICE,
    "CustomerID": pl.UInt64,
    "Country": pl.String,
    "TotalAmount": _TOTAL,
    "Sheet": pl.String,
    "Row": pl.UInt32,
    "_unreadable": pl.String,
}
LINES = pl.Schema(_LINES | {"on_both_sheets": pl.Boolean})
"""Typed lines. `InvoiceDate` is the publisher's local clock, called UTC; `_unreadable` is a JSON
object of the cells that could not be read, null where all could; `on_both_sheets` is true where an
earlier sheet has the line's invoice, which counts there."""

_LOADED: dict[str, ColumnType] = {"LOAD_DATETIME": _TIME, "RECORD_SOURCE": pl.String}

ONLINE_RETAILS = pl.Schema(_LINES | _LOADED)
"""A row a line as published, with when its file landed and what that is called."""

UNSPECIFIED = "Unspecified"
"""The publisher's own word for a country that is not known."""

_HUB_KEYS = (
    *("hub_invoice_hash_key", "hub_product_hash_key", "hub_customer_hash_key"),
    *("hub_time_hash_key", "hub_country_hash_key"),
)
_LINKS = {
    "link_invoice_product_hash_key": ("hub_invoice_hash_key", "hub_product_hash_key"),
    "link_invoice_customer_hash_key": ("hub_invoice_hash_key", "hub_customer_hash_key"),
    "link_invoice_time_hash_key": ("hub_invoice_hash_key", "hub_time_hash_key"),
    "link_invoice_country_hash_key": ("hub_invoice_hash_key", "hub_country_hash_key"),
    "link_customer_country_hash_key": ("hub_customer_hash_key", "hub_country_hash_key"),
}
HASH_KEYS = (*_HUB_KEYS, *_LINKS)

PSA_ONLINE_RETAILS = pl.Schema(
    {
        **dict.fromkeys(HASH_KEYS, pl.String),
        **{name: _LINES[name] for name in PUBLISHED[:6]},
        "TotalAmount": _TOTAL,
        "CustomerID": pl.UInt64,
        "Country": pl.String,
        "ReturnStatus": pl.String,
        **_LOADED,
        "Invoice": pl.String,
        "LineNumber": pl.UInt32,
        "Sheet": pl.String,
        "Row": pl.UInt32,
    }
)
"""Staging rows: ten keys as the text of UUIDs, `InvoiceNo` without its C, `CustomerID` 0 where
missing, `Invoice` as published, `LineNumber` from 1 among the lines of a `hub_invoice_hash_key`."""

_REJECTED: dict[str, ColumnType] = {"file": pl.String, **REJECTS}
REJECTED = pl.Schema(_REJECTED)
"""Why a line is no row; `file` is archive/sheet or a dropped file, `raw` its cells as JSON."""

_UNUSABLE: dict[str, ColumnType] = {
    "Sheet": pl.String,
    "Row": pl.UInt32,
    "raw": pl.String,
    "reason": pl.String,
    "day": pl.Date,
}
UNUSABLE = pl.Schema(_UNUSABLE)
"""Lines that are no rows; `day` is that of the line above where their own cannot be read."""

_NEEDED = ("InvoiceNo", "StockCode", "InvoiceDate", "Quantity", "UnitPrice", "TotalAmount")

_SENSIBLE_YEARS = (1900, 2299)
"""What ClickHouse's DateTime64 holds."""

_TIMES = [
    f"{day} {time}".rstrip()
    for day in ("%Y-%m-%d", "%Y/%m/%d", "%m/%d/%Y")
    for time in ("%H:%M:%S%.f", "%H:%M", "")
]
_TIME_TEXT = r"^([0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4})( [0-9:.]+)?$"
"""What may be a time; Polars would also take `99999-01-01` and `2018- 1- 1`."""


@dataclass(frozen=True)
class Lines:
    """Lines of a workbook or file: usable ones as `LINES`, the others as `UNUSABLE`."""

    frame: pl.DataFrame
    unusable: pl.DataFrame

    @property
    def height(self) -> int:
        """Lines that came in."""
        return self.frame.height + self.unusable.height


@dataclass(frozen=True)
class File:
    """Lines with their origin: what people call the file, its `RECORD_SOURCE`, when it landed."""

    lines: Lines
    name: str
    record_source: str
    landed_at: datetime


@dataclass(frozen=True)
class Month:
    """A month's lines as `ONLINE_RETAILS`, and those that are no rows as `REJECTED`.

    Attributes:
        frame: The rows, in the order of sheet and row.
        rejects: The lines that cannot serve.
        rows_in: Lines of the month: rows, rejects and those on both sheets together.
        on_both_sheets: Lines left out because an earlier sheet has their invoice.
        replaced: Lines, not in `rows_in`, for whose day a later file serves.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    rows_in: int
    on_both_sheets: int
    replaced: int


def published_columns(header: Sequence[str | None]) -> list[str | None]:
    """For each cell of a header the column that it names, None where we know none of that name.

    Case, spaces and underscores do not matter: `Customer ID` is `CustomerID`.
    """
    plain = ((cell or "").replace(" ", "").replace("_", "").strip().lower() for cell in header)
    return [_NAMES.get(name) for name in plain]


def header_problem(header: Sequence[str | None]) -> str | None:
    """What keeps a header from being used; None where nothing does."""
    cells = [cell for cell in header if cell]
    found = [name for name in published_columns(cells) if name]
    missing = [name for name in PUBLISHED if name not in found]
    twice = sorted({name for name in found if found.count(name) > 1})
    if not cells:
        return "its first line is empty"
    if missing and len(cells) == 1 and (separator := _separator(cells[0])):
        return f"its cells are separated by {separator!r} and should be by ','"
    if missing:
        return f"the header has no column {', '.join(missing)}; it begins {', '.join(cells)[:200]}"
    if twice:
        return f"the header has the column {', '.join(twice)} more than once"
    return None


def _separator(cell: str) -> str | None:
    return next((character for character in ";\t|" if character in cell), None)


def type_lines(text: pl.DataFrame, day: date | None = None) -> Lines:
    """Type the lines of `TEXT`; lines without any cell are none.

    A line cannot serve without invoice, stock code, time, a whole quantity and a price that fits,
    nor on another day than the one that is given. A customer that is no number becomes null.
    """
    filled = text.with_columns(_blank_to_null(name) for name in PUBLISHED)
    filled = filled.filter(pl.any_horizontal(pl.col(PUBLISHED).is_not_null()))
    typed = filled.select(
        pl.col("InvoiceNo").str.strip_chars(),
        "StockCode",
        "Description",
        _whole_number("Quantity").cast(pl.Int32, strict=False),
        _times(filled["InvoiceDate"]),
        _trimmed("UnitPrice").cast(_PRICE, strict=False),
        _whole_number("CustomerID").cast(pl.UInt64, strict=False),
        pl.col("Country").fill_null(""),
        "Sheet",
        "Row",
    ).with_columns(
        (pl.col("Quantity").cast(pl.Decimal(18, 0)) * pl.col("UnitPrice"))
        .cast(_TOTAL, strict=False)
        .alias("TotalAmount"),
        pl.lit(value=False).alias("on_both_sheets"),
    )
    typed = typed.with_columns(_unreadable(typed["CustomerID"], filled["CustomerID"]))
    days = typed["InvoiceDate"].dt.date()
    usable = typed.select(pl.all_horizontal(pl.col(_NEEDED).is_not_null())).to_series()
    if day is not None:
        usable &= (days == day).fill_null(value=False)
        days = pl.repeat(day, typed.height, dtype=pl.Date, eager=True)
    days = days.forward_fill().backward_fill().alias("day")
    unusable = filled.with_columns(days).filter(~usable)
    return Lines(
        frame=typed.filter(usable).select(LINES.names()),
        unusable=unusable.with_columns(_raw(), _reason(typed.filter(~usable))).select(
            UNUSABLE.names()
        ),
    )


def _raw() -> pl.Expr:
    return pl.struct(PUBLISHED).struct.json_encode().alias("raw")


def _blank_to_null(name: str) -> pl.Expr:
    return pl.when(_trimmed(name) != "").then(pl.col(name)).alias(name)


def _trimmed(name: str) -> pl.Expr:
    return pl.col(name).str.strip_chars()


def _whole_number(name: str) -> pl.Expr:
    """`12` and `12.0`, as spreadsheets save it."""
    return _trimmed(name).str.replace(r"\.0+$", "")


def _times(cells: pl.Series) -> pl.Series:
    """To the second. `2009-12-01 07:45:00`, and in text `2009/12/1 7:45` and `12/1/2009 7:45`."""
    trimmed = cells.str.strip_chars().str.replace("T", " ", literal=True)
    plain = trimmed.set(~trimmed.str.contains(_TIME_TEXT), None)
    times = plain.str.to_datetime(_TIMES[0], time_unit="us", strict=False)
    for pattern in _TIMES[1:]:
        if times.null_count() == plain.null_count():
            break
        times = times.fill_null(plain.str.to_datetime(pattern, time_unit="us", strict=False))
    sensible = times.dt.year().is_between(*_SENSIBLE_YEARS)
    return times.set(~sensible, None).dt.round("1s").dt.replace_time_zone("UTC")


def _unreadable(customer: pl.Series, cell: pl.Series) -> pl.Series:
    unreadable = customer.is_null() & cell.is_not_null()
    raw = [json.dumps({cell.name: text}) for text in cell.filter(unreadable)]
    none = pl.Series("_unreadable", [None], dtype=pl.String).new_from_index(0, cell.len())
    return none.scatter(unreadable.arg_true(), raw)


def _reason(typed: pl.DataFrame) -> pl.Expr:
    """Why each of these published lines is no row."""
    return (
        pl.when(pl.col("InvoiceNo").is_null())
        .then(pl.lit("the invoice is missing"))
        .when(pl.col("StockCode").is_null())
        .then(pl.lit("the stock code is missing"))
        .when(pl.col("InvoiceDate").is_null())
        .then(pl.lit("the time is missing"))
        .when(typed["InvoiceDate"].is_null())
        .then(pl.format("the time {} cannot be read", _quoted("InvoiceDate")))
        .when(pl.col("Quantity").is_null())
        .then(pl.lit("the quantity is missing"))
        .when(typed["Quantity"].is_null())
        .then(
            pl.format("the quantity {} is no whole number of at most 32 bits", _quoted("Quantity"))
        )
        .when(pl.col("UnitPrice").is_null())
        .then(pl.lit("the price is missing"))
        .when(typed["UnitPrice"].is_null())
        .then(pl.format("the price {} is no number below 1,000,000", _quoted("UnitPrice")))
        .when(typed["TotalAmount"].is_null())
        .then(pl.lit("quantity times price has more than 14 digits before the point"))
        .otherwise(pl.format("the time {} is not on {}", _quoted("InvoiceDate"), "day"))
        .alias("reason")
    )


def _quoted(name: str) -> pl.Expr:
    return pl.format("'{}'", pl.col(name).str.head(40))


def mark_both_sheets(frame: pl.DataFrame) -> pl.DataFrame:
    """Fill in `on_both_sheets`, once the lines of all sheets are there."""
    sheets = frame["Sheet"].unique(maintain_order=True)
    position = pl.col("Sheet").replace_strict(
        sheets, pl.int_range(sheets.len(), eager=True), return_dtype=pl.Int64
    )
    return frame.with_columns((position > position.min().over("InvoiceNo")).alias("on_both_sheets"))


@dataclass(frozen=True)
class ReadFile:
    """A CSV that was read; `refused` says why it could not be used as a whole."""

    lines: Lines
    refused: str | None = None


def read_csv(data: bytes, day: date | None = None) -> ReadFile:
    """Read a comma-separated file with the workbook's columns.

    With a day, lines of other days are unusable: one mistyped date must not take the place of all
    that another day has.
    """
    nothing = Lines(pl.DataFrame(schema=LINES), pl.DataFrame(schema=UNUSABLE))
    if b"\n" not in data:  # saved by a Mac of old, with carriage returns alone
        data = data.replace(b"\r", b"\n")
    header = header_of(data)
    if refused := header_problem(header):
        return ReadFile(nothing, refused)
    columns = [ours or f"other {n}" for n, ours in enumerate(published_columns(header))]
    cells = read_delimited(data, dict.fromkeys(columns, pl.String))
    text = cells.frame.select(
        *PUBLISHED, pl.lit("").alias("Sheet"), pl.col("_row").cast(pl.UInt32).alias("Row")
    )
    lines = type_lines(text, day)
    if lines.frame.is_empty():
        first = next(chain(lines.unusable["reason"], cells.rejects["reason"]), "it has none")
        return ReadFile(nothing, f"none of its lines can be used: {first}")
    return ReadFile(_with_rejects(lines, cells.rejects))


def _with_rejects(lines: Lines, rejects: pl.DataFrame) -> Lines:
    """The lines, and those that are not even whole, on the day that the file begins with."""
    broken = rejects.select(
        pl.lit("").alias("Sheet"),
        pl.col("line").cast(pl.UInt32).alias("Row"),
        "raw",
        "reason",
        pl.lit(lines.frame["InvoiceDate"][0].date()).alias("day"),
    )
    return replace(lines, unusable=pl.concat([lines.unusable, broken]).sort("Row"))


def month_of(month: str, files: Sequence[File]) -> Month:
    """The rows of a month such as `2010-12`: of each day those of the last file that has it.

    Args:
        month: The month.
        files: The workbook, then the dropped files in the order in which they were taken.
    """
    frames = [pl.DataFrame(schema=ONLINE_RETAILS)]
    rejects = [pl.DataFrame(schema=REJECTED)]
    taken: list[date] = []
    rows_in = replaced = on_both_sheets = 0
    for file in reversed(files):
        lines = _where(file.lines, pl.col("day").dt.to_string("%Y-%m") == month)
        serving = _where(lines, ~pl.col("day").is_in(taken))
        rows_in += serving.height
        replaced += lines.height - serving.height
        taken += serving.frame["InvoiceDate"].dt.date().unique().to_list()
        once = serving.frame.filter(~pl.col("on_both_sheets"))
        on_both_sheets += serving.frame.height - once.height
        frames.insert(1, _online_retails(once, file))
        rejects.insert(1, _rejected(serving.unusable, file))
    return Month(pl.concat(frames), pl.concat(rejects), rows_in, on_both_sheets, replaced)


def _where(lines: Lines, holds: pl.Expr) -> Lines:
    """The lines of which something holds, said of their `day`."""
    dated = lines.frame.with_columns(pl.col("InvoiceDate").dt.date().alias("day"))
    return Lines(dated.filter(holds).drop("day"), lines.unusable.filter(holds))


def _online_retails(frame: pl.DataFrame, file: File) -> pl.DataFrame:
    return frame.with_columns(
        pl.lit(file.landed_at, dtype=_TIME).dt.truncate("1s").alias("LOAD_DATETIME"),
        pl.lit(file.record_source).alias("RECORD_SOURCE"),
    ).select(ONLINE_RETAILS.names())


def _rejected(unusable: pl.DataFrame, file: File) -> pl.DataFrame:
    sheet = pl.when(pl.col("Sheet") != "").then("/" + pl.col("Sheet")).otherwise(pl.lit(""))
    return unusable.select(
        (pl.lit(file.name) + sheet).alias("file"),
        pl.col("Row").cast(pl.Int64).alias("line"),
        "raw",
        "reason",
    )


def psa_online_retails(rows: pl.DataFrame) -> pl.DataFrame:
    """The staging rows of a month: `ONLINE_RETAILS` to `PSA_ONLINE_RETAILS`.

    A key is the first 16 bytes of the SHA-256 of its parts, joined by `||`, as UUID; a link's
    parts are the keys of its two hubs as text.
    """
    is_return = pl.col("InvoiceNo").str.starts_with("C") | (pl.col("Quantity") < 0)
    staged = rows.sort("Sheet", "Row").with_columns(
        pl.col("InvoiceNo").alias("Invoice"),
        pl.col("InvoiceNo").str.replace_all("C", "", literal=True),
        pl.col("CustomerID").fill_null(0),
        pl.when(pl.col("Country") == "")
        .then(pl.lit(UNSPECIFIED))
        .otherwise("Country")
        .alias("Country"),
        pl.when(is_return).then(pl.lit("Return")).otherwise(pl.lit("Normal")).alias("ReturnStatus"),
    )
    keyed = staged.with_columns(hash_keys(staged))
    numbers = _line_numbers(keyed["hub_invoice_hash_key"])
    return keyed.with_columns(numbers).select(PSA_ONLINE_RETAILS.names())


def _line_numbers(keys: pl.Series) -> pl.Series:
    """Numbers from 1 among the lines with one key; most lines have a key of their own."""
    shared = keys.is_duplicated().arg_true()
    key = pl.col(keys.name)
    counted = keys.gather(shared).to_frame().select(key.cum_count().over(key)).to_series()
    ones = pl.repeat(1, keys.len(), dtype=pl.UInt32, eager=True).alias("LineNumber")
    return ones.scatter(shared, counted)


def hash_keys(rows: pl.DataFrame) -> list[pl.Series]:
    """The ten keys of rows whose `InvoiceNo`, `CustomerID` and `Country` are those of staging."""
    time = pl.col("InvoiceDate").dt.to_string("%Y-%m-%d %H:%M:%S")
    parts = {
        "hub_invoice_hash_key": (pl.col("InvoiceNo"), pl.col("StockCode"), time),
        "hub_product_hash_key": (pl.col("StockCode"),),
        "hub_customer_hash_key": (pl.col("CustomerID").cast(pl.String),),
        "hub_time_hash_key": (time,),
        "hub_country_hash_key": (pl.col("Country"),),
    }
    hubs = rows.select(_key(name, *expressions) for name, expressions in parts.items())
    links = hubs.select(_key(name, *map(pl.col, ends)) for name, ends in _LINKS.items())
    return [*hubs, *links]


def _key(name: str, *parts: pl.Expr) -> pl.Expr:
    # Nearly every line has an invoice key of its own; looking for repeats would take longer.
    hashed = _hashed if "invoice" in name else _hashed_once
    text = pl.concat_str(*parts, separator="||")
    return text.map_batches(hashed, return_dtype=pl.String).alias(name)


def _hashed(texts: pl.Series) -> pl.Series:
    """UUIDs, as text, of the first 16 bytes of each text's SHA-256."""
    digests = texts.to_frame("text").select(plh.col("text").chash.sha2_256()).to_series().str
    groups = ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))
    return pl.select(
        pl.concat_str(*(digests.slice(at, length) for at, length in groups), separator="-")
    ).to_series()


def _hashed_once(texts: pl.Series) -> pl.Series:
    """The same where texts repeat: each is hashed once."""
    unique = texts.unique()
    return texts.replace_strict(unique, _hashed(unique), return_dtype=pl.String)
