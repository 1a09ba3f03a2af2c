"""The sample workbook: what it holds is counted here from its XML alone."""

import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from xml.etree import ElementTree

import pytest

from lakehouse.resources.workbook import read_workbook
from lakehouse.samples.retail import (
    HEADER,
    RETAIL_FILE,
    WORKBOOK,
    RetailTruth,
    make_retail_workbook,
)

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RetailTruth:
    return make_retail_workbook(tmp_path_factory.mktemp("mirror"))


def sheets(truth: RetailTruth) -> list[list[dict[str, str]]]:
    """The lines of each sheet: column to what stands in the cell."""
    with zipfile.ZipFile(truth.path) as outer:
        book = zipfile.ZipFile(io.BytesIO(outer.read(WORKBOOK)))
    return [list(lines(book.read(f"xl/worksheets/sheet{n}.xml"))) for n in (1, 2)]


def lines(sheet: bytes) -> Iterator[dict[str, str]]:
    root = ElementTree.fromstring(sheet)
    for row in list(root.iter(f"{MAIN}row"))[1:]:
        yield {HEADER["ABCDEFGH".index(c.attrib["r"][0])]: "".join(c.itertext()) for c in row}


def time_of(cell: str) -> datetime | None:
    try:
        return datetime(1899, 12, 30) + timedelta(days=float(cell))
    except ValueError:
        return datetime.fromisoformat(cell) if cell[:1] == "2" else None


def is_number(cell: str) -> bool:
    try:
        return Decimal(cell) < 10**6
    except InvalidOperation:
        return False


def counted(truth: RetailTruth) -> dict[str, dict[str, int | Decimal]]:
    first, second = sheets(truth)
    on_first = {line["Invoice"] for line in first}
    months: dict[str, Counter] = {}
    for sheet in (first, second):
        month = ""
        for line in sheet:
            time = time_of(line.get("InvoiceDate", ""))
            month = f"{time:%Y-%m}" if time else month
            count = months.setdefault(month, Counter())
            count["rows_in"] += 1
            usable = time and line.get("StockCode") and is_number(line["Quantity"])
            if not usable or not is_number(line["Price"]):
                count["rejected"] += 1
            elif sheet is second and line["Invoice"] in on_first:
                count["on_both_sheets"] += 1
            else:
                count["rows"] += 1
                count["returns"] += line["Invoice"][0] == "C" or line["Quantity"][0] == "-"
                count["without_customer"] += not line.get("Customer ID", "").isdigit()
                count["total"] += Decimal(line["Quantity"]) * Decimal(line["Price"])
    return months


def test_the_same_seed_makes_the_same_bytes(made, tmp_path):
    again = make_retail_workbook(tmp_path)
    assert again.months == made.months
    assert (
        hashlib.sha256(again.path.read_bytes()).digest()
        == hashlib.sha256(made.path.read_bytes()).digest()
    )


def test_another_seed_makes_other_bytes(made, tmp_path):
    assert make_retail_workbook(tmp_path, seed=1).path.read_bytes() != made.path.read_bytes()


def test_the_workbook_stands_where_the_publisher_has_it(made):
    assert made.path.as_posix().endswith(f"/{RETAIL_FILE}")
    assert zipfile.ZipFile(made.path).namelist() == [WORKBOOK]


def test_the_truth_is_what_an_independent_count_finds(made):
    found = counted(made)
    for month, truth in made.months.items():
        assert {name: found[month][name] for name in asdict(truth)} == asdict(truth)
        assert truth.rows_in == truth.on_both_sheets + truth.rejected + truth.rows
    assert sorted(found) == ["2010-10", "2010-11", "2010-12", "2011-01", "2011-02"]
    assert 1_900 < sum(month.rows_in for month in made.months.values()) < 2_300


def test_the_workbook_is_read_whole(made):
    read = read_workbook(made.path)
    assert read.height == sum(month.rows_in for month in made.months.values())
    assert read.unusable.height == sum(month.rejected for month in made.months.values())


def test_the_traps_of_the_real_workbook_are_there(made):
    first, second = sheets(made)
    everything = first + second
    kinds = Counter(line["Invoice"][0] for line in everything if not line["Invoice"].isdigit())
    assert set(kinds) == {"C", "A"}
    codes = {line.get("StockCode") for line in everything}
    assert {None, "85123A", "22423", "POST", "47503J ", "85132a"} <= codes
    assert any("Description" not in line for line in everything)
    assert any(Decimal(line["Price"]) < 0 for line in everything)
    assert any(Decimal(line["Price"]) == 0 for line in everything)
    assert any(len(line["Quantity"]) > 3 and line["Quantity"].isdigit() for line in everything)
    assert max(Counter(tuple(line.items()) for line in first).values()) > 1


def test_what_stands_on_both_sheets_differs_in_white_space(made):
    first, second = sheets(made)
    descriptions = [
        {(line["Invoice"], line.get("StockCode")): line.get("Description") for line in sheet}
        for sheet in (first, second)
    ]
    both = descriptions[0].keys() & descriptions[1].keys()
    named = [key for key in both if descriptions[0][key]]
    assert len(named) > 50
    for key in named:
        here, there = descriptions[0][key], descriptions[1][key]
        assert here != there
        assert here.split() == there.split()
