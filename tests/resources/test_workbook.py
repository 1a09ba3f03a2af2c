"""A workbook is read with nothing lost, staged once, or refused with a sentence that says why."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xlsxwriter

from lakehouse.errors import LakehouseError, SourceRefusedError
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.workbook import Staged, check_workbook, read_workbook, stage
from lakehouse.tables.retail import ONLINE_RETAILS, PSA_ONLINE_RETAILS, month_partition
from lakehouse.transforms.retail import File, month_of, psa_online_retails

MIRROR = Path(
    os.environ.get("LAKEHOUSE_TEST_MIRROR")
    or Path(__file__).resolve().parents[3] / "shared" / "mirror"
)
REAL = MIRROR / "archive.ics.uci.edu" / "static" / "public" / "502" / "online+retail+ii.zip"

NEW = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price"]
NEW += ["Customer ID", "Country"]
OLD = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice"]
OLD += ["CustomerID", "Country"]
AT = datetime(2010, 12, 1, 8, 26)
GOOD = (489434, "85123A", "HEART", 6, AT, 2.55, 17850, "United Kingdom")

Rows = list[tuple[Any, ...]]


def write_workbook(
    path: Path, sheets: dict[str, Rows], *, since_1904: bool = False, at: tuple[int, int] = (0, 0)
) -> Path:
    """A workbook whose sheets begin at a row and column; times are cells with a date format."""
    with xlsxwriter.Workbook(path, {"date_1904": since_1904, "nan_inf_to_errors": True}) as book:
        times = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for row, cells in enumerate(rows, at[0]):
                for column, cell in enumerate(cells, at[1]):
                    is_time = isinstance(cell, datetime)
                    sheet.write(row, column, cell, times if is_time else None)
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a workbook of one sheet with these lines, the header before them."""

    def write(*lines: tuple[Any, ...], header: list[str] = NEW, **options: Any) -> Path:
        return write_workbook(tmp_path / "retail.xlsx", {"Sheet": [header, *lines]}, **options)

    return write


# Cells


def test_numbers_and_text_of_one_column_come_as_they_stand(write):
    lines = read_workbook(
        write(
            GOOD,
            ("C489449", 22423, *GOOD[2:]),
            ("A506401", "B", "Adjust bad debt", 1, AT, -53594.36, None, "EIRE"),
            ("00489450", "47503J ", None, -12, AT, 0, 12346, "EIRE"),
        )
    )
    assert lines.frame.select("InvoiceNo", "StockCode", "Quantity", "CustomerID").rows() == [
        ("489434", "85123A", 6, 17850),
        ("C489449", "22423", 6, 17850),
        ("A506401", "B", 1, None),
        ("00489450", "47503J ", -12, 12346),
    ]
    assert lines.frame["UnitPrice"].to_list() == [
        *(Decimal("2.55"), Decimal("2.55")),
        *(Decimal("-53594.36"), Decimal(0)),
    ]
    assert lines.frame["Row"].to_list() == [2, 3, 4, 5]


@pytest.mark.parametrize("price", [0.1 + 0.2, 2.55, 1.001, 18910.69, 1e-4, 999999.9999])
def test_prices_come_without_the_noise_of_floating_point(write, price):
    lines = read_workbook(write((*GOOD[:5], price, *GOOD[6:])))
    assert lines.frame["UnitPrice"].item() == Decimal(str(round(price, 4)))


@pytest.mark.parametrize("since_1904", [False, True])
@pytest.mark.parametrize("time", [AT, datetime(1999, 2, 28, 23, 59, 59), datetime(2031, 1, 1)])
def test_times_of_any_year_are_right_in_both_date_systems(write, time, since_1904):
    lines = read_workbook(write((*GOOD[:4], time, *GOOD[5:]), since_1904=since_1904))
    assert lines.frame["InvoiceDate"].item() == time.replace(tzinfo=UTC)


def test_every_minute_of_a_day_is_read_to_the_second(write):
    times = [AT + timedelta(minutes=n) for n in range(24 * 60)]
    lines = read_workbook(write(*((*GOOD[:4], time, *GOOD[5:]) for time in times)))
    assert lines.frame["InvoiceDate"].dt.replace_time_zone(None).to_list() == times


def test_times_in_text_are_read_and_what_is_none_is_set_aside(write):
    lines = read_workbook(
        write(
            (*GOOD[:4], "2010-12-01 08:26:00", *GOOD[5:]),
            (*GOOD[:4], "12/1/2010 8:26", *GOOD[5:]),
            (*GOOD[:4], "yesterday", *GOOD[5:]),
        )
    )
    assert lines.frame["InvoiceDate"].to_list() == [AT.replace(tzinfo=UTC)] * 2
    assert lines.unusable["reason"].to_list() == ["the time 'yesterday' cannot be read"]


def test_what_cannot_serve_is_set_aside_with_its_row(write):
    lines = read_workbook(
        write(
            (*GOOD[:3], "six", *GOOD[4:]),
            GOOD,
            (*GOOD[:5], 1e12, *GOOD[6:]),
            (GOOD[0], float("nan"), *GOOD[2:]),
            (*GOOD[:6], "unknown", GOOD[7]),
        )
    )
    assert lines.unusable.select("Row", "reason").rows() == [
        (2, "the quantity 'six' is no whole number of at most 32 bits"),
        (4, "the price '1000000000000' is no number below 1,000,000"),
        (5, "the stock code is missing"),
    ]
    assert lines.frame.select("Row", "_unreadable").rows() == [
        (3, None),
        (6, '{"CustomerID": "unknown"}'),
    ]


def test_rows_are_excels_whatever_stands_around_the_table(write, tmp_path):
    title = ("Sales of the year",)
    path = write_workbook(
        tmp_path / "retail.xlsx",
        {"Sheet": [title, (), NEW, GOOD, (), GOOD, (), ("", " ")]},
        at=(2, 3),
    )
    assert read_workbook(path).frame["Row"].to_list() == [6, 8]


# Sheets


def test_an_invoice_on_both_sheets_is_marked_on_the_second(tmp_path):
    sheets = {
        "Year 2009-2010": [NEW, (1, *GOOD[1:]), (2, *GOOD[1:])],
        "Year 2010-2011": [NEW, (2, *GOOD[1:]), (3, *GOOD[1:])],
    }
    lines = read_workbook(write_workbook(tmp_path / "retail.xlsx", sheets))
    assert lines.frame.select("InvoiceNo", "Sheet", "on_both_sheets").rows() == [
        ("1", "Year 2009-2010", False),
        ("2", "Year 2009-2010", False),
        ("2", "Year 2010-2011", True),
        ("3", "Year 2010-2011", False),
    ]


def test_the_older_workbook_of_one_sheet_is_read_too(write):
    assert read_workbook(write(GOOD, header=OLD)).frame["InvoiceNo"].to_list() == ["489434"]


def test_sheets_of_something_else_are_passed_over(tmp_path):
    sheets = {"Notes": [("Country", "Price"), ("EIRE", 1)], "Blank": [], "Lines": [NEW, GOOD]}
    lines = read_workbook(write_workbook(tmp_path / "retail.xlsx", sheets))
    assert lines.frame["Sheet"].to_list() == ["Lines"]


def test_a_workbook_is_read_from_the_archive_that_holds_it(write, tmp_path):
    content = write(GOOD).read_bytes()
    path = zipped(tmp_path / "online+retail+ii.zip", {"a/b.xlsx": content, "read.me": b"x"})
    check_workbook(path)
    assert read_workbook(path).height == 1


@pytest.mark.parametrize(
    ("sheets", "says"),
    [
        ({"Blank": []}, "retail.xlsx has no sheet with the columns InvoiceNo, StockCode"),
        ({"Other": [("a", "b"), (1, 2)]}, "retail.xlsx has no sheet with the columns InvoiceNo"),
        (
            {"Good": [NEW, GOOD], "Renamed": [[*NEW[:3], "Qty", *NEW[4:]], GOOD]},
            "the sheet 'Renamed' of retail.xlsx cannot be used: the header has no column Quantity",
        ),
        (
            {"Twice": [[*NEW, "UnitPrice"], (*GOOD, 1)]},
            "the sheet 'Twice' of retail.xlsx cannot be used: the header has the column UnitPrice",
        ),
        (
            {"Good": [NEW, GOOD], "Empty": [NEW]},
            "the sheet 'Empty' of retail.xlsx cannot be used: none of its lines can be used: it",
        ),
        (
            {"Text": [NEW, (*GOOD[:3], "six", *GOOD[4:])]},
            "the sheet 'Text' of retail.xlsx cannot be used: none of its lines can be used:"
            " the quantity 'six' is no whole number",
        ),
    ],
)
def test_sheets_that_would_be_lost_are_refused(tmp_path, sheets, says):
    path = write_workbook(tmp_path / "retail.xlsx", sheets)
    with pytest.raises(SourceRefusedError) as raised:
        read_workbook(path)
    assert says in str(raised.value)
    assert str(raised.value).endswith("get a sound copy from the publisher and run again")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a zip archive but an empty file"),
        (b"<!DOCTYPE html><html></html>", "is not a zip archive but an HTML page"),
        (b"Invoice,StockCode\n1,2\n", "is not a zip archive but something else"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path, content, says):
    path = tmp_path / "retail.zip"
    path.write_bytes(content)
    for read in (check_workbook, read_workbook):
        with pytest.raises(SourceRefusedError, match=says):
            read(path)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"read.me": b"x"}, "holds 0 workbooks"),
        ({"a.xlsx": b"x", "b.xlsx": b"y"}, "holds 2 workbooks"),
        ({"a.xlsx": b"not one"}, "'a.xlsx' in retail.zip is not a workbook"),
        ({"../a.xlsx": b"x"}, "holds the unsafe path"),
    ],
)
def test_an_archive_without_a_workbook_is_refused(tmp_path, members, says):
    path = zipped(tmp_path / "retail.zip", members)
    with pytest.raises(SourceRefusedError, match=says):
        check_workbook(path)


def test_a_workbook_whose_sheet_is_cut_short_is_refused(write, tmp_path):
    with zipfile.ZipFile(write(GOOD)) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    parts["xl/worksheets/sheet1.xml"] = parts["xl/worksheets/sheet1.xml"][:-200]
    path = zipped(tmp_path / "cut.xlsx", parts)
    with pytest.raises(SourceRefusedError, match=r"cut\.xlsx holds a workbook that cannot be read"):
        read_workbook(path)


def test_a_workbook_packed_as_we_cannot_unpack_is_refused(write):
    path = write(GOOD)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 99  # the first part's compression
    path.write_bytes(content)
    with pytest.raises(SourceRefusedError, match=r"holds a workbook that cannot be read"):
        read_workbook(path)


# Staging


@pytest.fixture
def landed(tmp_path: Path) -> Path:
    november = datetime(2010, 11, 30, 23, 59)
    lines = [GOOD, (*GOOD[:4], november, *GOOD[5:]), (*GOOD[:3], "six", *GOOD[4:])]
    return write_workbook(tmp_path / "retail.xlsx", {"Sheet": [NEW, *lines]})


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def test_staged_months_are_what_the_workbook_has(landed, tmp_path):
    staged = stage(landed, sha256(landed), tmp_path / "staged")
    whole = read_workbook(landed)
    assert staged.months == ("2010-11", "2010-12")
    december = staged.read_month("2010-12")
    assert december.frame.equals(whole.frame.filter(pl.col("Row") == 2))
    assert december.unusable.equals(whole.unusable)
    assert staged.read_month("2010-11").frame["Row"].to_list() == [3]
    assert staged.read_month("2010-11").unusable.schema == whole.unusable.schema


def test_a_month_that_the_workbook_has_not_is_empty(landed, tmp_path):
    staged = stage(landed, sha256(landed), tmp_path / "staged")
    assert staged.read_month("2020-01").height == 0


def test_a_second_run_reads_what_is_staged_and_not_the_workbook(landed, tmp_path):
    digest = sha256(landed)
    first = stage(landed, digest, tmp_path / "staged")
    landed.unlink()
    assert stage(landed, digest, tmp_path / "staged") == first


def test_another_workbook_takes_the_place_of_the_one_before(landed, tmp_path):
    folder = tmp_path / "staged"
    before = stage(landed, sha256(landed), folder)
    write_workbook(landed, {"Sheet": [NEW, GOOD]})
    after = stage(landed, sha256(landed), folder)
    assert [path for path in folder.iterdir() if path.is_dir()] == [after.folder]
    assert after.months == ("2010-12",)
    with pytest.raises(LakehouseError, match="is not what was staged"):
        before.read_month("2010-12")


def test_what_a_killed_run_left_is_cleared_away(landed, tmp_path):
    folder = tmp_path / "staged"
    undisturbed = stage(landed, sha256(landed), folder)
    expected = files(folder)
    (folder / "0123.part").mkdir()
    (folder / "0123.part" / "2010-12.lines.parquet").write_bytes(b"half")
    (undisturbed.folder / "manifest.json").unlink()
    assert stage(landed, sha256(landed), folder) == undisturbed
    assert files(folder) == expected


def test_a_workbook_that_is_not_what_was_landed_is_refused(landed, tmp_path):
    with pytest.raises(SourceRefusedError, match="its bytes have changed"):
        stage(landed, "0" * 64, tmp_path / "staged")


def test_a_flipped_bit_in_a_staged_file_is_noticed(landed, tmp_path):
    staged = stage(landed, sha256(landed), tmp_path / "staged")
    file = staged.folder / "2010-12.lines.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(LakehouseError, match="is not what was staged: delete the folder"):
        staged.read_month("2010-12")
    shutil.rmtree(staged.folder)
    assert stage(landed, sha256(landed), tmp_path / "staged").read_month("2010-12").height == 2


def test_several_processes_may_stage_at_once(landed, tmp_path):
    folder, digest = tmp_path / "staged", sha256(landed)
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        found = list(pool.map(stage, [landed] * 4, [digest] * 4, [folder] * 4))
    assert len({staged.folder for staged in found}) == 1
    assert found[0].read_month("2010-12").height == 2
    assert [path for path in folder.iterdir() if path.is_dir()] == [found[0].folder]


# ClickHouse


def test_rows_arrive_in_clickhouse_as_they_are(landed, tmp_path, settings):
    staged = stage(landed, sha256(landed), tmp_path / "staged")
    file = File(staged.read_month("2010-12"), "retail.zip", "UCI", datetime(2012, 1, 1, tzinfo=UTC))
    rows = month_of("2010-12", [file]).frame
    clickhouse = ClickHouse(settings)
    for table, frame in (
        (ONLINE_RETAILS, rows),
        (PSA_ONLINE_RETAILS, psa_online_retails(rows)),
    ):
        for _ in range(2):
            clickhouse.replace_partition(table, month_partition("2010-12"), frame, "run")
        answer = clickhouse.query(f"SELECT * FROM {table}")
        (found,) = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
        (expected,) = frame.to_dicts()
        assert {name: str(cell) for name, cell in found.items()} == {
            # The driver gives times of the zone UTC without it.
            name: str(cell.replace(tzinfo=None) if isinstance(cell, datetime) else cell)
            for name, cell in expected.items()
        }
    assert clickhouse.query("SELECT toTypeName(InvoiceDate) FROM raw.online_retails").rows == [
        ("DateTime64(0, 'UTC')",)
    ]


# The publisher's file


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    if not REAL.exists():
        pytest.skip("the mirror of the publisher's files is not here")
    return stage(REAL, sha256(REAL), tmp_path_factory.mktemp("staged"))


@pytest.fixture(scope="module")
def first_sheet(real: Staged) -> pl.DataFrame:
    frame = pl.concat(real.read_month(month).frame for month in real.months)
    return frame.filter(pl.col("Sheet") == "Year 2009-2010")


@pytest.mark.mirror
def test_the_first_sheet_is_what_is_known_of_it(first_sheet):
    invoice, quantity, price = pl.col("InvoiceNo"), pl.col("Quantity"), pl.col("UnitPrice")
    assert first_sheet.height == 525_461
    assert first_sheet.select(
        invoices=invoice.n_unique(),
        stock_codes=pl.col("StockCode").n_unique(),
        customers=pl.col("CustomerID").drop_nulls().n_unique(),
        without_customer=pl.col("CustomerID").null_count(),
        cancelled=invoice.str.starts_with("C").sum(),
        adjustments=invoice.str.starts_with("A").sum(),
        negative_quantities=(quantity < 0).sum(),
        zero_prices=(price == 0).sum(),
        negative_prices=(price < 0).sum(),
        without_description=pl.col("Description").null_count(),
        countries=pl.col("Country").n_unique(),
        days=pl.col("InvoiceDate").dt.date().n_unique(),
        total=pl.col("TotalAmount").sum(),
    ).to_dicts() == [
        {
            "invoices": 28_816,
            "stock_codes": 4_632,
            "customers": 4_383,
            "without_customer": 107_927,
            "cancelled": 10_206,
            "adjustments": 3,
            "negative_quantities": 12_326,
            "zero_prices": 3_687,
            "negative_prices": 3,
            "without_description": 2_928,
            "countries": 40,
            "days": 307,
            "total": Decimal("9539484.634"),
        }
    ]
    assert first_sheet.height - first_sheet.drop("Row").unique().height == 6_865


@pytest.mark.mirror
def test_both_sheets_have_the_known_lines_in_each_month(real):
    months = {}
    for month in real.months:
        lines = File(real.read_month(month), "zip", "UCI", datetime(2012, 1, 1, tzinfo=UTC))
        months[month] = month_of(month, [lines])
    assert sum(month.rows_in for month in months.values()) == 1_067_370
    assert sum(month.on_both_sheets for month in months.values()) == 22_523
    assert sum(month.frame.height for month in months.values()) == 1_044_847
    assert sum(month.rejects.height for month in months.values()) == 0
    known = {"2009-12": 45_228, "2010-01": 31_555, "2010-11": 78_015, "2010-12": 65_004}
    known |= {"2011-11": 84_711, "2011-12": 25_525}
    assert {month: months[month].rows_in for month in known} == known
    assert months["2010-12"].frame.height == 42_481
    assert len(months) == 25


@pytest.mark.mirror
def test_the_lines_that_the_original_loses_are_told_apart(first_sheet):
    rows = first_sheet.with_columns(
        pl.lit(datetime(2012, 1, 1, tzinfo=UTC)).alias("LOAD_DATETIME"),
        pl.lit("UCI").alias("RECORD_SOURCE"),
    ).drop("on_both_sheets")
    keyed = psa_online_retails(rows)
    assert keyed["hub_invoice_hash_key"].n_unique() == 512_129
    assert (keyed["LineNumber"] > 1).sum() == 13_332
    assert keyed.select(pl.struct("hub_invoice_hash_key", "LineNumber").is_unique().all()).item()


@pytest.mark.mirror
def test_no_day_is_lost(real):
    days = real.read_month("2010-12").frame["InvoiceDate"].dt.date()
    assert (days.min(), days.max()) == (date(2010, 12, 1), date(2010, 12, 23))
