"""Published lines become typed rows, rejects with a reason, and keyed staging rows."""

import hashlib
import json
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest

from lakehouse.transforms.retail import (
    HASH_KEYS,
    LINES,
    ONLINE_RETAILS,
    PSA_ONLINE_RETAILS,
    PUBLISHED,
    REJECTED,
    TEXT,
    UNUSABLE,
    File,
    Lines,
    header_problem,
    mark_both_sheets,
    month_of,
    psa_online_retails,
    read_csv,
    type_lines,
)

LANDED = datetime(2012, 1, 1, 12, tzinfo=UTC)

GOOD = {
    "InvoiceNo": "536365",
    "StockCode": "85123A",
    "Description": "WHITE HANGING HEART T-LIGHT HOLDER",
    "Quantity": "6",
    "InvoiceDate": "2010-12-01 08:26:00",
    "UnitPrice": "2.55",
    "CustomerID": "17850",
    "Country": "United Kingdom",
}


def text(*lines: dict[str, str | None], sheet: str = "Year 2010-2011") -> pl.DataFrame:
    """Published lines that are good but for these cells."""
    cells = [{**GOOD, "Sheet": sheet, "Row": row, **line} for row, line in enumerate(lines, 2)]
    return pl.DataFrame(cells, schema=TEXT)


def row(**cells: str | None) -> dict:
    """The one typed row of a line that is good but for these cells."""
    typed = type_lines(text(cells))
    assert typed.unusable.is_empty()
    return typed.frame.row(0, named=True)


def reason(**cells: str | None) -> str:
    """Why a line that is good but for these cells is no row."""
    typed = type_lines(text(cells))
    assert typed.frame.is_empty()
    return typed.unusable["reason"].item()


def workbook(*sheets: pl.DataFrame, landed_at: datetime = LANDED) -> File:
    typed = [type_lines(sheet) for sheet in sheets]
    lines = Lines(
        mark_both_sheets(pl.concat(part.frame for part in typed)),
        pl.concat(part.unusable for part in typed),
    )
    return File(lines, "retail.zip", "UCI Online Retail II", landed_at)


def csv(*lines: dict[str, str], header: str = ",".join(GOOD)) -> bytes:
    rows = [",".join({**GOOD, **line}.values()) for line in lines]
    return "\n".join([header, *rows]).encode()


def dropped(name: str, *lines: dict[str, str], landed_at: datetime = LANDED) -> File:
    return File(read_csv(csv(*lines)).lines, name, name, landed_at)


def staged(*lines: dict[str, str | None]) -> pl.DataFrame:
    return psa_online_retails(month_of("2010-12", [workbook(text(*lines))]).frame)


# Cells


def test_a_line_is_typed():
    assert row() == {
        "InvoiceNo": "536365",
        "StockCode": "85123A",
        "Description": "WHITE HANGING HEART T-LIGHT HOLDER",
        "Quantity": 6,
        "InvoiceDate": datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
        "UnitPrice": Decimal("2.5500"),
        "CustomerID": 17850,
        "Country": "United Kingdom",
        "TotalAmount": Decimal("15.3000"),
        "Sheet": "Year 2010-2011",
        "Row": 2,
        "_unreadable": None,
        "on_both_sheets": False,
    }
    typed = type_lines(text({}))
    assert (typed.frame.schema, typed.unusable.schema) == (LINES, UNUSABLE)


@pytest.mark.parametrize("invoice", ["536365", "C489449", "A506401"])
@pytest.mark.parametrize("code", ["85048", "85123A", "POST", "47503J ", "85123a"])
def test_invoices_and_stock_codes_stay_as_published(invoice, code):
    typed = row(InvoiceNo=invoice, StockCode=code)
    assert (typed["InvoiceNo"], typed["StockCode"]) == (invoice, code)


def test_blanks_around_an_invoice_do_not_hide_its_cancellation():
    assert row(InvoiceNo=" C489449 ")["InvoiceNo"] == "C489449"


@pytest.mark.parametrize(
    "time",
    [
        "2010-12-01 08:26:00",
        "2010-12-01T08:26:00",
        "2010-12-01 08:25:59.999",
        "2010-12-01 8:26",
        "2010/12/1 8:26",
        "12/1/2010 8:26",
        " 12/01/2010 08:26:00 ",
    ],
)
def test_times_are_read_in_the_ways_that_spreadsheets_save_them(time):
    assert row(InvoiceDate=time)["InvoiceDate"] == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)


def test_a_day_alone_is_midnight():
    assert row(InvoiceDate="2010-12-01")["InvoiceDate"] == datetime(2010, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cells", "typed"),
    [
        ({"Quantity": "12.0"}, {"Quantity": 12, "TotalAmount": Decimal("30.6")}),
        ({"Quantity": "-80995"}, {"Quantity": -80_995, "TotalAmount": Decimal("-206537.25")}),
        ({"UnitPrice": "-53594.36"}, {"UnitPrice": Decimal("-53594.36")}),
        ({"UnitPrice": "0"}, {"UnitPrice": Decimal(0), "TotalAmount": Decimal(0)}),
        ({"UnitPrice": "1.00006"}, {"UnitPrice": Decimal("1.0001")}),
        ({"CustomerID": "13085.0"}, {"CustomerID": 13_085}),
        ({"CustomerID": None}, {"CustomerID": None, "_unreadable": None}),
        ({"CustomerID": " "}, {"CustomerID": None, "_unreadable": None}),
        ({"CustomerID": "-5"}, {"CustomerID": None, "_unreadable": '{"CustomerID": "-5"}'}),
        (
            {"CustomerID": 'a "b"'},
            {"CustomerID": None, "_unreadable": r'{"CustomerID": "a \"b\""}'},
        ),
        ({"Description": None}, {"Description": None}),
        ({"Description": ""}, {"Description": None}),
        ({"Description": " WHITE "}, {"Description": " WHITE "}),
        ({"Country": None}, {"Country": ""}),
    ],
)
def test_what_is_odd_and_serves(cells, typed):
    found = row(**cells)
    assert {name: found[name] for name in typed} == typed


def test_a_total_is_exact():
    assert row(Quantity="2147483647", UnitPrice="0.0001")["TotalAmount"] == Decimal("214748.3647")


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"InvoiceNo": None}, "the invoice is missing"),
        ({"StockCode": None}, "the stock code is missing"),
        ({"StockCode": "  "}, "the stock code is missing"),
        ({"InvoiceDate": None}, "the time is missing"),
        ({"InvoiceDate": "yesterday"}, "the time 'yesterday' cannot be read"),
        ({"InvoiceDate": "31/12/2010 8:26"}, "the time '31/12/2010 8:26' cannot be read"),
        ({"InvoiceDate": "40513.35"}, "the time '40513.35' cannot be read"),
        ({"InvoiceDate": "1066-10-14 09:00:00"}, "the time '1066-10-14 09:00:00' cannot be read"),
        ({"Quantity": None}, "the quantity is missing"),
        ({"Quantity": "six"}, "the quantity 'six' is no whole number of at most 32 bits"),
        ({"Quantity": "1.5"}, "the quantity '1.5' is no whole number of at most 32 bits"),
        ({"Quantity": "2147483648"}, "the quantity '2147483648' is no whole number of at most"),
        ({"UnitPrice": None}, "the price is missing"),
        ({"UnitPrice": "free"}, "the price 'free' is no number below 1,000,000"),
        ({"UnitPrice": "1000000000000"}, "the price '1000000000000' is no number below"),
        ({"UnitPrice": "1e12"}, "the price '1e12' is no number below 1,000,000"),
        ({"UnitPrice": "inf"}, "the price 'inf' is no number below 1,000,000"),
        (
            {"Quantity": "2147483647", "UnitPrice": "999999"},
            "quantity times price has more than 14 digits before the point",
        ),
    ],
)
def test_what_cannot_serve_is_set_aside_with_its_reason(cells, why):
    assert reason(**cells).startswith(why)


def test_what_is_set_aside_keeps_its_cells_and_its_place():
    (found,) = type_lines(text({}, {"Quantity": 'si"x', "Description": None})).unusable.to_dicts()
    assert json.loads(found["raw"]) == {**GOOD, "Quantity": 'si"x', "Description": None}
    assert (found["Sheet"], found["Row"], found["day"]) == (
        *("Year 2010-2011", 3),
        date(2010, 12, 1),
    )


def test_a_line_without_a_time_belongs_to_the_day_of_the_line_above():
    typed = type_lines(
        text(
            {"InvoiceDate": None},
            {"InvoiceDate": "2010-11-30 08:00:00"},
            {"InvoiceDate": "soon"},
            {"InvoiceDate": "2010-12-01 08:00:00"},
            {"InvoiceDate": None},
        )
    )
    days = [date(2010, 11, 30), date(2010, 11, 30), date(2010, 12, 1)]
    assert typed.unusable["day"].to_list() == days


def test_empty_lines_are_none_and_the_others_keep_their_rows():
    empty = dict.fromkeys(PUBLISHED)
    typed = type_lines(text({}, empty, {**empty, "Country": " "}, {}))
    assert typed.height == 2
    assert typed.frame["Row"].to_list() == [2, 5]


# Headers and CSVs


@pytest.mark.parametrize(
    "header",
    [
        PUBLISHED,
        (*PUBLISHED[1:], "invoice_no"),
        ("Invoice", *PUBLISHED[1:5], "Price", "Customer ID", "Country"),
        (*reversed(PUBLISHED), None, "Remark"),
        tuple(name.upper() for name in PUBLISHED),
    ],
)
def test_headers_of_both_workbooks_are_known(header):
    assert header_problem(header) is None


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ([], "its first line is empty"),
        (["a", "b"], "the header has no column InvoiceNo, StockCode, Description, Quantity"),
        ([*PUBLISHED[:3], "Qty", *PUBLISHED[4:]], "the header has no column Quantity; it begins"),
        ([*PUBLISHED, "Price"], "the header has the column UnitPrice more than once"),
        ([";".join(PUBLISHED)], "its cells are separated by ';' and should be by ','"),
        (["\t".join(PUBLISHED)], r"its cells are separated by '\t' and should be by ','"),
    ],
)
def test_a_header_that_cannot_be_used_is_named(header, problem):
    assert header_problem(header).startswith(problem)


def test_a_csv_is_read_with_the_numbers_of_its_lines():
    read = read_csv(csv({}, {"InvoiceNo": "C536379"}))
    assert read.refused is None
    assert read.lines.frame["InvoiceNo"].to_list() == ["536365", "C536379"]
    assert read.lines.frame["Row"].to_list() == [2, 3]
    assert set(read.lines.frame["Sheet"]) == {""}


def test_a_csv_may_have_the_newer_names_other_columns_and_another_order():
    data = (
        b"Country,Remark,Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,\r\n"
        b'EIRE,x,489434,85048,"15CM, ""GLASS""",12,2009-12-01 07:45:00,6.95,13085,\r\n'
    )
    (line,) = read_csv(data).lines.frame.to_dicts()
    assert (line["Country"], line["Description"]) == ("EIRE", '15CM, "GLASS"')
    assert (line["UnitPrice"], line["CustomerID"]) == (Decimal("6.95"), 13_085)


def test_broken_lines_of_a_csv_are_set_aside_among_the_others():
    data = csv({}, {"Quantity": "six"}) + b"\n1,2,3\n" + csv({}).splitlines()[1]
    lines = read_csv(data).lines
    assert lines.frame["Row"].to_list() == [2, 5]
    assert lines.unusable.select("Row", "reason", "day").rows() == [
        (3, "the quantity 'six' is no whole number of at most 32 bits", date(2010, 12, 1)),
        (4, "3 cells where the header has 8", date(2010, 12, 1)),
    ]
    assert lines.unusable["raw"][1] == "1,2,3"


def test_with_a_day_lines_of_other_days_are_set_aside():
    data = csv({}, {"InvoiceDate": "2010-11-01 08:26:00"}, {"InvoiceDate": ""})
    lines = read_csv(data, date(2010, 12, 1)).lines
    assert lines.frame["Row"].to_list() == [2]
    assert lines.unusable.select("Row", "reason", "day").rows() == [
        (3, "the time '2010-11-01 08:26:00' is not on 2010-12-01", date(2010, 12, 1)),
        (4, "the time is missing", date(2010, 12, 1)),
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "its first line is empty"),
        (csv().replace(b",", b";"), "its cells are separated by ';' and should be by ','"),
        (csv(), "none of its lines can be used: it has none"),
        (csv({"Quantity": "six"}), "none of its lines can be used: the quantity 'six' is no whole"),
        (csv() + b"\n1,2", "none of its lines can be used: 2 cells where the header has 8"),
        (csv({}, header="a,b,c,d,e,f,g,h"), "the header has no column InvoiceNo"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_as_a_whole(data, why):
    read = read_csv(data)
    assert read.refused.startswith(why)
    assert read.lines.height == 0


# Months


def test_an_invoice_on_both_sheets_is_taken_from_the_first():
    first = text({"InvoiceNo": "1"}, {"InvoiceNo": "2", "Description": "A "}, sheet="first")
    second = text(
        {"InvoiceNo": "2", "Description": "A"},
        {"InvoiceNo": "2", "Description": "A"},
        {"InvoiceNo": "3"},
        sheet="Another",
    )
    month = month_of("2010-12", [workbook(first, second)])
    assert month.frame.select("InvoiceNo", "Sheet", "Row").rows() == [
        ("1", "first", 2),
        ("2", "first", 3),
        ("3", "Another", 4),
    ]
    assert (month.rows_in, month.on_both_sheets, month.replaced) == (5, 2, 0)


def test_an_invoice_whose_first_copy_cannot_serve_is_taken_from_the_second_sheet():
    first = text({"InvoiceNo": "1"}, {"InvoiceNo": "2", "Quantity": "six"}, sheet="1")
    month = month_of("2010-12", [workbook(first, text({"InvoiceNo": "2"}, sheet="2"))])
    assert month.frame.select("InvoiceNo", "Sheet").rows() == [("1", "1"), ("2", "2")]
    assert (month.rows_in, month.on_both_sheets, month.rejects.height) == (3, 0, 1)


def test_a_month_has_its_own_lines_and_rejects():
    november = {"InvoiceDate": "2010-11-30 23:59:00"}
    file = workbook(text(november, {}, november | {"StockCode": None}, {"UnitPrice": "1e12"}))
    month = month_of("2010-12", [file])
    assert month.frame["Row"].to_list() == [3]
    assert month.frame.schema == ONLINE_RETAILS
    assert month.rejects.schema == REJECTED
    assert month.rejects.drop("raw").rows() == [
        ("retail.zip/Year 2010-2011", 5, "the price '1e12' is no number below 1,000,000")
    ]
    assert month.rows_in == 2
    assert month_of("2009-12", [file]).rows_in == 0


def test_rows_carry_their_origin():
    landed_at = LANDED.replace(microsecond=5)
    month = month_of("2010-12", [workbook(text({}), landed_at=landed_at)])
    origin = month.frame.row(0, named=True)
    assert (origin["LOAD_DATETIME"], origin["RECORD_SOURCE"]) == (LANDED, "UCI Online Retail II")


def test_the_days_of_a_dropped_file_take_the_place_of_the_workbooks():
    second, third = {"InvoiceDate": "2010-12-02 08:00:00"}, {"InvoiceDate": "2010-12-03 08:00:00"}
    files = [
        workbook(text({}, second, second, second | {"StockCode": None}, third)),
        dropped("2010-12-02.csv", second | {"InvoiceNo": "7"}, second | {"Quantity": "six"}),
    ]
    month = month_of("2010-12", files)
    assert month.frame.select("InvoiceNo", "RECORD_SOURCE", "Row").rows() == [
        ("536365", "UCI Online Retail II", 2),
        ("536365", "UCI Online Retail II", 6),
        ("7", "2010-12-02.csv", 2),
    ]
    assert month.rejects.select("file", "line").rows() == [("2010-12-02.csv", 3)]
    assert (month.rows_in, month.replaced) == (4, 3)


def test_of_two_dropped_files_the_later_one_serves_the_day():
    files = [
        dropped("old.csv", {"InvoiceNo": "1"}, {"InvoiceDate": "2010-12-02 08:00:00"}),
        dropped("new.csv", {"InvoiceNo": "2"}),
    ]
    month = month_of("2010-12", files)
    assert month.frame.select("InvoiceNo", "RECORD_SOURCE").rows() == [
        ("536365", "old.csv"),
        ("2", "new.csv"),
    ]
    assert month.replaced == 1


def test_a_dropped_file_may_serve_a_month_that_the_workbook_has_not():
    file = dropped("2012-01-05.csv", {"InvoiceDate": "2012-01-05 08:00:00"})
    assert month_of("2012-01", [workbook(text({})), file]).frame.height == 1


# Staging


def key(*parts: str) -> str:
    """The key as the original makes it, but with a separator."""
    return str(uuid.UUID(bytes=hashlib.sha256("||".join(parts).encode()).digest()[:16]))


def test_keys_are_the_hashes_of_their_parts():
    (found,) = staged({"InvoiceNo": "C536365", "Quantity": "-6"}).to_dicts()
    hubs = {
        "invoice": key("536365", "85123A", "2010-12-01 08:26:00"),
        "product": key("85123A"),
        "customer": key("17850"),
        "time": key("2010-12-01 08:26:00"),
        "country": key("United Kingdom"),
    }
    links = [("invoice", other) for other in ("product", "customer", "time", "country")]
    links.append(("customer", "country"))
    assert {name: found[name] for name in HASH_KEYS} == {
        **{f"hub_{hub}_hash_key": hashed for hub, hashed in hubs.items()},
        **{f"link_{a}_{b}_hash_key": key(hubs[a], hubs[b]) for a, b in links},
    }


def test_parts_of_a_key_do_not_run_into_each_other():
    keys = staged({"InvoiceNo": "1", "StockCode": "23"}, {"InvoiceNo": "12", "StockCode": "3"})
    assert keys["hub_invoice_hash_key"].n_unique() == 2


def test_a_staging_row_has_the_attributes_of_the_vault():
    frame = staged({"InvoiceNo": "C53C6365", "CustomerID": None, "Country": None})
    assert frame.schema == PSA_ONLINE_RETAILS
    (found,) = frame.to_dicts()
    assert (found["InvoiceNo"], found["Invoice"]) == ("536365", "C53C6365")
    assert (found["CustomerID"], found["hub_customer_hash_key"]) == (0, key("0"))
    assert (found["Country"], found["hub_country_hash_key"]) == ("Unspecified", key("Unspecified"))


@pytest.mark.parametrize(
    ("invoice", "quantity", "status"),
    [
        ("536365", "6", "Normal"),
        ("536365", "0", "Normal"),
        ("536365", "-1", "Return"),
        ("C536365", "-1", "Return"),
        ("C536365", "1", "Return"),
        ("A536365", "1", "Normal"),
    ],
)
def test_a_return_is_cancelled_or_negative(invoice, quantity, status):
    frame = staged({"InvoiceNo": invoice, "Quantity": quantity})
    assert frame["ReturnStatus"].item() == status


def test_lines_of_one_key_are_told_apart_by_their_number():
    frame = staged({}, {"StockCode": "POST"}, {}, {"InvoiceNo": "C536365", "Quantity": "-6"})
    numbers = frame.select("Invoice", "StockCode", "Row", "LineNumber").sort("Row").rows()
    assert numbers == [
        ("536365", "85123A", 2, 1),
        ("536365", "POST", 3, 1),
        ("536365", "85123A", 4, 2),
        ("C536365", "85123A", 5, 3),
    ]


def test_staging_does_not_depend_on_the_order_in_which_rows_come():
    rows = month_of("2010-12", [workbook(text({}, {}, {"StockCode": "POST"}, {}))]).frame
    assert psa_online_retails(rows.reverse()).equals(psa_online_retails(rows))


def test_a_month_without_rows_stages_none():
    empty = psa_online_retails(pl.DataFrame(schema=ONLINE_RETAILS))
    assert (empty.height, empty.schema) == (0, PSA_ONLINE_RETAILS)
