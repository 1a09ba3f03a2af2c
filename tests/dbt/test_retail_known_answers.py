"""The publisher's workbook: the original's figures come out of the vault, and ours lose no line.

The workbook is looked for in `../shared/mirror`, or where LAKEHOUSE_TEST_MIRROR says.
"""

import os
import zipfile
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import fastexcel
import polars as pl
import pytest
from retail import Retail

MIRROR = Path(
    os.environ.get("LAKEHOUSE_TEST_MIRROR")
    or Path(__file__).resolve().parents[3] / "shared" / "mirror"
)
WORKBOOK = MIRROR / "archive.ics.uci.edu/static/public/502/online+retail+ii.zip"

pytestmark = [
    pytest.mark.mirror,
    pytest.mark.skipif(not WORKBOOK.is_file(), reason="the publisher's workbook is not here"),
]

COLUMNS = {
    "Invoice": "string",
    "StockCode": "string",
    "Description": "string",
    "Quantity": "int",
    "InvoiceDate": "datetime",
    "UnitPrice": "float",
    "CustomerID": "int",
    "Country": "string",
}


def workbook() -> pl.DataFrame:
    """Both sheets as lines; an invoice that stands on both is taken from the first."""
    with zipfile.ZipFile(WORKBOOK) as archive:
        book = fastexcel.read_excel(archive.read("online_retail_II.xlsx"))
    first, second = (
        book.load_sheet(name, dtypes=dict(enumerate(COLUMNS.values())))
        .to_polars()
        .rename(dict(zip(_names(book, name), COLUMNS, strict=True)))
        .with_columns(
            pl.col("InvoiceDate").dt.replace_time_zone("UTC"),
            pl.col("Quantity").cast(pl.Int32),
            pl.col("UnitPrice").cast(pl.Decimal(10, 4)),
            pl.col("CustomerID").fill_null(0).cast(pl.UInt64),
            Sheet=pl.lit(name),
            Row=pl.int_range(2, pl.len() + 2, dtype=pl.UInt32),
        )
        for name in book.sheet_names
    )
    return pl.concat([first, second.join(first, on="Invoice", how="anti")])


def _names(book: fastexcel.ExcelReader, sheet: str) -> list[str]:
    return [column.name for column in book.load_sheet(sheet, n_rows=0).available_columns()]


@pytest.fixture(scope="module")
def made(warehouse: Retail) -> Iterator[Retail]:
    """All months of the workbook, for tests that only read."""
    warehouse.empty()
    warehouse.stage_frame(workbook())
    warehouse.make()
    yield warehouse
    warehouse.drop()


def test_the_eight_figures_of_the_originals_dashboard(made: Retail) -> None:
    ((*figures, day, sales, returns),) = made.rows("SELECT * FROM quality.original_dashboard")
    unit_price, quantity, missing, low, high, median, average, volume = figures
    assert (unit_price, quantity, round(missing, 4)) == (30, 198, 0.2653)
    assert (low, high, volume) == (Decimal("0.42"), Decimal("3794.4"), Decimal("38106.26"))
    assert (median, round(average, 4)) == (11.25, 22.0395)
    assert (day, sales, returns) == (date(2010, 12, 9), 394_990, 9_759)


def test_the_originals_top_products_and_countries(made: Retail) -> None:
    def top(name: str, dimension: str, key: str) -> list[tuple]:
        return made.rows(f"""
            SELECT {name}, round(sum(total_amount), 2) AS amount
            FROM quality.original_facts AS fact
            JOIN marts.{dimension} AS dimension ON fact.{key} = dimension.{key}
            WHERE original_table = 'Fact_Sales'
            GROUP BY {name} ORDER BY amount DESC LIMIT 5
        """)

    assert top("stock_code", "Dim_Product", "product_key") == [
        ("85123A", Decimal("150186.76")),
        ("22423", Decimal("143523.60")),
        ("M", Decimal("98182.19")),
        ("85099B", Decimal("84858.45")),
        ("84879", Decimal("69996.97")),
    ]
    assert top("country_name", "Dim_Country", "country_key") == [
        ("United Kingdom", Decimal("7340738.25")),
        ("EIRE", Decimal("356023.36")),
        ("Netherlands", Decimal("268684.93")),
        ("Germany", Decimal("201901.19")),
        ("France", Decimal("146053.05")),
    ]


def test_the_lines_that_the_original_loses_are_here(made: Retail) -> None:
    first_sheet = "vault.sat_invoice WHERE Sheet = 'Year 2009-2010'"
    assert made.rows(f"SELECT count() FROM {first_sheet}") == [(525_461,)]
    assert made.rows("SELECT count() FROM quality.original_facts") == [(512_129,)]
    assert made.rows(f"SELECT sum(TotalAmount) FROM {first_sheet}") == [(Decimal("9539484.634"),)]


def test_the_facts_add_up_to_the_workbook(made: Retail) -> None:
    assert made.rows("SELECT count() FROM vault.sat_invoice") == [(1_044_847,)]
    assert made.rows("""
        SELECT sum(n), sum(amount) = (SELECT sum(TotalAmount) FROM raw.psa_online_retails)
        FROM (
            SELECT count() AS n, sum(total_amount) AS amount FROM marts.Fact_Sales
            UNION ALL SELECT count(), sum(total_amount) FROM marts.Fact_Sale_Returns
            UNION ALL SELECT count(), sum(total_amount) FROM quality.anomaly_customer_invoices
        )
    """) == [(1_044_847, True)]


def test_the_tests_pass_on_all_months(made: Retail) -> None:
    result = made.dbt("test", "--exclude-resource-type", "unit_test")
    assert result.success
