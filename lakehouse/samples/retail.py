"""A sample workbook of Online Retail, with what goes wrong in the real one, and some that might.

It is written part by part, as XML, so that the same seed makes the same bytes and nothing has to be
installed for it.
"""

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np

RETAIL_FILE = "archive.ics.uci.edu/static/public/502/online+retail+ii.zip"
"""Where the workbook stands in a mirror."""

WORKBOOK = "online_retail_II.xlsx"
HEADER = (
    *("Invoice", "StockCode", "Description", "Quantity"),
    *("InvoiceDate", "Price", "Customer ID", "Country"),
)

_FIRST_SHEET = ("Year 2009-2010", date(2010, 10, 1), date(2010, 12, 9))
_SECOND_SHEET = ("Year 2010-2011", date(2010, 12, 1), date(2011, 2, 28))
DEMO_MONTHS = ("2010-10", "2010-11", "2010-12", "2011-01", "2011-02")

_TIMESTAMP = (2020, 1, 1, 0, 0, 0)
_EXCEL_DAY_ZERO = datetime(1899, 12, 30)

_PRODUCTS = (
    ("85123A", "WHITE HANGING HEART T-LIGHT HOLDER", "2.95"),
    ("22423", "REGENCY CAKESTAND 3 TIER", "12.75"),
    ("85099B", "JUMBO BAG RED RETROSPOT", "1.95"),
    ("84879", "ASSORTED COLOUR BIRD ORNAMENT", "1.69"),
    ("20725", "LUNCH BAG RED SPOTTY", "1.65"),
    ("21212", "PACK OF 72 RETRO SPOT CAKE CASES", "0.55"),
    ("22197", "POPCORN HOLDER , SMALL ", "0.85"),
    ("79323W", " WHITE CHERRY LIGHTS", "6.75"),
    ("47503J ", "SET/3 FLORAL GARDEN TOOLS IN BAG", "4.95"),
    ("85132a", "CHARLIE + LOLA BISCUITS TINS", "3.25"),
    ("16162M", "THE KING GIFT BAG", "0.19"),
    ("15056BL", "EDWARDIAN PARASOL BLACK", "5.95"),
    ("POST", "POSTAGE", "18"),
    ("M", "Manual", "1.001"),
)
_NEW_NAMES = {"22197": "POPCORN HOLDER", "84879": "ASSORTED COLOUR BIRD ORNAMENTS"}
"""What products are called from 2011 on."""

_COUNTRIES = ("United Kingdom",) * 12 + ("EIRE", "Germany", "France", "Netherlands", "Unspecified")

_Cell = str | int | Decimal | datetime | None


class _Line(NamedTuple):
    """The cells of a line, in the order of the header."""

    invoice: str
    stock_code: str | None
    description: str | None
    quantity: _Cell
    time: datetime | str | None
    price: Decimal
    customer: _Cell
    country: str


@dataclass(frozen=True)
class RetailMonth:
    """What is true of one month of lines.

    Attributes:
        rows_in: Lines on both sheets together: `on_both_sheets` + `rejected` + `rows`.
        on_both_sheets: Lines of the second sheet whose invoice the first one has.
        rejected: Lines without stock code or time, with text as quantity or an absurd price.
        rows: The lines that remain.
        returns: Those with a cancelled invoice or a negative quantity.
        without_customer: Those whose customer is missing or no number.
        total: Quantity times price, added up.
    """

    rows_in: int
    on_both_sheets: int
    rejected: int
    rows: int
    returns: int
    without_customer: int
    total: Decimal


@dataclass(frozen=True)
class RetailTruth:
    """What is true of the workbook that was made."""

    path: Path
    months: dict[str, RetailMonth]


def make_retail_workbook(mirror: Path, *, seed: int = 0) -> RetailTruth:
    """Writes a workbook of about 2,000 lines in five months as a mirror of the publisher has it.

    Args:
        mirror: The mirror's folder; made when absent.
        seed: The same seed makes the same bytes.

    Returns:
        What the workbook holds, counted before it was written.
    """
    lines = list(_lines(np.random.default_rng(seed)))
    overlap = [line for line in lines if _is_on_both(line)]
    sheets = {
        _FIRST_SHEET[0]: [line for line in lines if _day(line) <= _FIRST_SHEET[2]],
        _SECOND_SHEET[0]: [
            _with_other_spaces(line) if _is_on_both(line) else line
            for line in lines
            if _day(line) >= _SECOND_SHEET[1]
        ],
    }
    bad = {name: _unusable_lines(day) for name, day in _BAD_DAYS.items()}
    for name, unusable in bad.items():
        at = next(n for n, line in enumerate(sheets[name]) if _day(line) > _BAD_DAYS[name])
        sheets[name][at:at] = unusable
    path = mirror / RETAIL_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_zipped({WORKBOOK: _workbook(sheets)}))
    rejected = Counter(f"{_BAD_DAYS[name]:%Y-%m}" for name in bad for _ in bad[name])
    return RetailTruth(path, _truth(lines, Counter(map(_month, overlap)), rejected))


_BAD_DAYS = {_FIRST_SHEET[0]: date(2010, 10, 20), _SECOND_SHEET[0]: date(2011, 1, 20)}
"""The day of each sheet after whose lines those stand that cannot serve."""


def _unusable_lines(day: date) -> list[_Line]:
    at = datetime.combine(day, time(18))
    good = _Line(f"9{day:%y%m%d}", "22423", "BAD", 1, at, Decimal("12.75"), 13085, "EIRE")
    return [
        good._replace(stock_code=None),
        good._replace(time=None),
        good._replace(time="yesterday"),
        good._replace(quantity="a dozen"),
        good._replace(price=Decimal(10) ** 12),
    ]


def _lines(rng: np.random.Generator) -> Iterator[_Line]:
    """The lines of both sheets, each once, in the order of their times."""
    number = 520_000
    day = _FIRST_SHEET[1]
    while day <= _SECOND_SHEET[2]:
        at = datetime.combine(day, time(8))
        # The shop is closed on Saturdays.
        for _ in range(0 if day.weekday() == 5 else int(rng.integers(4, 7))):
            number += 1
            at += timedelta(minutes=int(rng.integers(5, 90)))
            invoice = list(_invoice(rng, number, at))
            yield from invoice
            if rng.random() < 0.05:
                number += 1
                yield _cancelled(invoice[0], number)
        if day.day == 4:
            yield from _odd_lines(day)
        day += timedelta(days=1)


def _invoice(rng: np.random.Generator, number: int, at: datetime) -> Iterator[_Line]:
    customer = None if rng.random() < 0.25 else int(rng.integers(12_346, 12_400))
    country = _COUNTRIES[(customer or 0) % len(_COUNTRIES)]
    for _ in range(int(rng.integers(1, 6))):
        code, description, price = _PRODUCTS[int(rng.integers(len(_PRODUCTS)))]
        description = _NEW_NAMES.get(code, description) if at.year > 2010 else description
        quantity = int(rng.choice([1, 2, 6, 12, 24]))
        yield _Line(str(number), code, description, quantity, at, Decimal(price), customer, country)


def _cancelled(line: _Line, number: int) -> _Line:
    return line._replace(invoice=f"C{number}", quantity=-int(str(line.quantity)))


def _odd_lines(day: date) -> Iterator[_Line]:
    """What is odd on the fourth of a month, and serves all the same."""
    at = datetime.combine(day, time(20))
    number = int(f"6{day:%y%m}0")
    line = _Line(f"{number}", "85123A", _PRODUCTS[0][1], 6, at, Decimal("2.95"), 12_346, "France")
    yield line
    yield line  # the whole row again
    yield line._replace(quantity=12)  # the same product again
    yield line._replace(invoice=f"{number + 1}", description=None, quantity=-20, price=Decimal(0))
    yield line._replace(invoice=f"{number + 2}", quantity=1_200)
    yield line._replace(invoice=f"{number + 3}", customer="unknown")
    yield line._replace(invoice=f"{number + 4}", time=f"{at:%Y-%m-%d %H:%M:%S}")
    yield _Line(
        *(f"A{number + 5}", "B", "Adjust bad debt", 1, at, Decimal("-535.94"), None),
        "United Kingdom",
    )


def _with_other_spaces(line: _Line) -> _Line:
    return line._replace(description=line.description and f"{line.description.strip()}  ")


def _at(line: _Line) -> datetime:
    return datetime.fromisoformat(str(line.time))


def _day(line: _Line) -> date:
    return _at(line).date()


def _month(line: _Line) -> str:
    return f"{_day(line):%Y-%m}"


def _is_on_both(line: _Line) -> bool:
    return _SECOND_SHEET[1] <= _day(line) <= _FIRST_SHEET[2]


def _truth(
    lines: Sequence[_Line], overlap: Counter[str], rejected: Counter[str]
) -> dict[str, RetailMonth]:
    return {
        month: RetailMonth(
            rows_in=len(rows) + overlap[month] + rejected[month],
            on_both_sheets=overlap[month],
            rejected=rejected[month],
            rows=len(rows),
            returns=sum(r.invoice.startswith("C") or int(str(r.quantity)) < 0 for r in rows),
            without_customer=sum(not isinstance(row.customer, int) for row in rows),
            total=sum((int(str(row.quantity)) * row.price for row in rows), Decimal(0)),
        )
        for month in sorted(set(map(_month, lines)))
        if (rows := [line for line in lines if _month(line) == month])
    }


def _workbook(sheets: dict[str, list[_Line]]) -> bytes:
    """The parts of a workbook (ECMA-376) that a reader cannot do without."""
    numbers = range(1, len(sheets) + 1)
    return _zipped(
        {
            "[Content_Types].xml": _CONTENT_TYPES.format(
                "".join(_SHEET_CONTENT_TYPE.format(n) for n in numbers)
            ).encode(),
            "_rels/.rels": _ROOT_RELATIONS.encode(),
            "xl/workbook.xml": _WORKBOOK.format(
                "".join(
                    f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>'
                    for n, name in enumerate(sheets, 1)
                )
            ).encode(),
            "xl/_rels/workbook.xml.rels": _RELATIONS.format(
                "".join(_SHEET_RELATION.format(n) for n in numbers)
            ).encode(),
            "xl/styles.xml": _STYLES.encode(),
        }
        | {
            f"xl/worksheets/sheet{n}.xml": _sheet(lines)
            for n, lines in enumerate(sheets.values(), 1)
        }
    )


def _sheet(lines: Sequence[_Line]) -> bytes:
    rows = (
        f'<row r="{n}">{"".join(_cells(n, cells))}</row>'
        for n, cells in enumerate([HEADER, *map(_as_typed, lines)], 1)
    )
    data = f"<sheetData>{''.join(rows)}</sheetData>"
    return f'{_XML}<worksheet xmlns="{_MAIN}">{data}</worksheet>'.encode()


def _as_typed(line: _Line) -> Iterable[_Cell]:
    """Invoices and stock codes of digits alone are numbers in the publisher's file."""
    return (int(cell) if isinstance(cell, str) and cell.isdigit() else cell for cell in line)


def _cells(row: int, cells: Iterable[_Cell]) -> Iterator[str]:
    for column, cell in zip("ABCDEFGH", cells, strict=True):
        place = f'r="{column}{row}"'
        if isinstance(cell, str):
            text = escape(cell)
            yield f'<c {place} t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
        elif isinstance(cell, datetime):
            days = (cell - _EXCEL_DAY_ZERO) / timedelta(days=1)
            yield f'<c {place} s="1"><v>{days!r}</v></c>'
        elif cell is not None:
            yield f"<c {place}><v>{cell}</v></c>"


def _zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_SHEETML = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_CONTENT_TYPES = (
    f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels"'
    ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_SHEETML}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_SHEETML}.styles+xml"/>{{}}</Types>'
)
_SHEET_CONTENT_TYPE = (
    f'<Override PartName="/xl/worksheets/sheet{{}}.xml" ContentType="{_SHEETML}.worksheet+xml"/>'
)
_ROOT_RELATIONS = (
    f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1"'
    f' Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
)
_RELATIONS = (
    f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{{}}<Relationship Id="rId99"'
    f' Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>'
)
_SHEET_RELATION = (
    f'<Relationship Id="rId{{0}}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{{0}}.xml"/>'
)
_WORKBOOK = f'{_XML}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{{}}</sheets></workbook>'
_STYLES = (
    f'{_XML}<styleSheet xmlns="{_MAIN}">'
    '<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd\\ hh:mm"/></numFmts>'
    '<fonts count="1"><font/></fonts><fills count="1"><fill/></fills>'
    '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs>'
    '<cellXfs count="2"><xf/><xf numFmtId="164" applyNumberFormat="1"/></cellXfs></styleSheet>'
)
