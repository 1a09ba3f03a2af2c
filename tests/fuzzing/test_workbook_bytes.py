"""Whatever a workbook holds, each of its lines is a row or set aside, or it is refused."""

import io
import struct
import zipfile
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st
from mutations import dropped, fuzzed, mutated, unless_refused

from lakehouse.resources.retail_files import RetailFiles
from lakehouse.resources.workbook import read_workbook
from lakehouse.settings import Settings

HEADER = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price"]
HEADER += ["Customer ID", "Country"]
AT = datetime(2010, 12, 1, 8, 26)
LINE = [489434, "85123A", "HEART", 6, AT, 2.55, 17850, "United Kingdom"]
RETURN = ["C489449", "D", None, -1, AT, 27.5, None, "France"]


def workbook(*rows: list) -> bytes:
    packed = io.BytesIO()
    with xlsxwriter.Workbook(packed, {"nan_inf_to_errors": True}) as book:
        times = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        sheet = book.add_worksheet("Year 2010-2011")
        for row, cells in enumerate([HEADER, *rows]):
            for column, cell in enumerate(cells):
                is_time = isinstance(cell, datetime)
                sheet.write(row, column, cell, times if is_time else None)
    return packed.getvalue()


SOUND = workbook(LINE, RETURN, LINE)
PARTS = ("xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml", "xl/workbook.xml")


@cache
def parts() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(SOUND)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def repacked(changed: dict[str, bytes]) -> bytes:
    """The workbook with other bytes in some of its parts, and sound as an archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (parts() | changed).items():
            archive.writestr(name, content)
    return packed.getvalue()


def lines_read(folder: Path, content: bytes) -> int | None:
    """How many lines the workbook has, usable or set aside; None where it is refused."""
    taken = dropped(folder, "retail.xlsx", content)

    def read() -> int:
        RetailFiles(Settings(home=folder)).months_of_dropped(taken)
        return read_workbook(taken.path).height

    return unless_refused(read)


@fuzzed
@given(content=mutated(SOUND))
def test_bytes_that_changed_are_read_or_refused(folder: Path, content):
    lines_read(folder, content)


@fuzzed
@given(
    changed=st.sampled_from(PARTS).flatmap(
        lambda name: st.tuples(st.just(name), mutated(parts()[name]))
    )
)
def test_parts_that_changed_are_read_or_refused(folder: Path, changed):
    lines_read(folder, repacked(dict([changed])))


cells = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["=1/0", "=A1", "2010-12-01 8:26", "9" * 40, " ", "C", "1e400", "{=A1}"])
    | st.datetimes(datetime(1900, 1, 1), datetime(9999, 12, 31))
)


@fuzzed
@given(rows=st.lists(st.lists(cells, max_size=10), max_size=5))
def test_every_line_of_odd_cells_is_accounted_for(folder: Path, rows):
    height = lines_read(folder, workbook(LINE, *rows))
    filled = [row for row in rows if any(_is_text(cell) for cell in row[:8])]
    assert height is None or len(filled) < height <= 1 + len(rows)


def _is_text(cell: object) -> bool:
    """Whether a reader of the sheet sees something in it for certain."""
    return isinstance(cell, int | datetime) or (isinstance(cell, str) and cell[:1].isalnum())


SHEET = "xl/worksheets/sheet1.xml"


def with_cell(reference: str, value: str = "1") -> bytes:
    """The workbook with one cell more, anywhere."""
    row = int("".join(filter(str.isdigit, reference)) or 0)
    cell = f'<row r="{row}"><c r="{reference}"><v>{value}</v></c></row></sheetData>'
    return repacked({SHEET: parts()[SHEET].replace(b"</sheetData>", cell.encode())})


@pytest.mark.parametrize(
    "cell", ["XFD1048576", "Z2000000", "a4294967295", "ZZZZ5", "A18446744073709551616", "A0", ""]
)
def test_a_cell_far_away_is_refused(folder: Path, cell: str) -> None:
    """The reader takes memory for all cells between, and ends the process where there is none."""
    assert lines_read(folder, with_cell(cell)) is None


def test_a_part_that_is_larger_than_it_says_is_refused(folder: Path) -> None:
    """The reader would inflate it to its end, however much that is."""
    content = bytearray(SOUND)
    for signature, sizes in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        entry = -1
        while (entry := content.find(signature, entry + 1)) >= 0:
            (size,) = struct.unpack_from("<I", content, entry + sizes)
            struct.pack_into("<I", content, entry + sizes, size // 2)
    assert lines_read(folder, bytes(content)) is None
