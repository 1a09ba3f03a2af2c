"""What the marts say is what the workbook says: reckoned here from its cells, to the cent.

Once on the sample, and once on the publisher's own workbook where that is here; on that one all the
known figures too, the original's among them.
"""

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastexcel
import polars as pl
import pytest
from homes import Home

from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.samples.retail import RETAIL_FILE, make_retail_workbook

MIRROR = Path(
    os.environ.get("LAKEHOUSE_TEST_MIRROR")
    or Path(__file__).resolve().parents[2] / "shared" / "mirror"
)
REAL = pytest.param(
    "real",
    marks=[
        pytest.mark.mirror,
        pytest.mark.skipif(
            not (MIRROR / RETAIL_FILE).is_file(), reason="the publisher's workbook is not here"
        ),
    ],
)

COLUMNS = ["invoice", "code", "description", "quantity", "time", "price", "customer", "country"]

MONTHS_OF_THE_REAL_ONE = {
    "2009-12": 45_228,
    "2010-01": 31_555,
    "2010-11": 78_015,
    "2010-12": 42_481,
    "2011-11": 84_711,
    "2011-12": 25_525,
}


@dataclass(frozen=True)
class Made:
    """What the command made of a workbook, and that workbook's usable lines, each once."""

    home: Home
    reports: list[dict[str, Any]]
    lines: pl.DataFrame

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return ClickHouse(self.home.settings).query(sql).rows

    def number(self, name: str) -> int:
        """Rows of a kind in the months' reports, added up."""
        months = [r for r in self.reports if r["partition"] and " to " not in r["partition"]]
        return sum(report[name] for report in months)


def lines_of(workbook: Path) -> pl.DataFrame:
    """The lines that can serve; an invoice of the first sheet is left out of the second."""
    with zipfile.ZipFile(workbook) as archive:
        book = fastexcel.read_excel(archive.read(archive.namelist()[0]))
    sheets = []
    for name in book.sheet_names:
        cells = pl.DataFrame(book.load_sheet(name, dtypes="string"))
        lines = cells.rename(dict(zip(cells.columns, COLUMNS, strict=True))).with_columns(
            pl.col("time").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False),
            pl.col("quantity").cast(pl.Int64, strict=False),
            pl.col("price").cast(pl.Decimal(18, 4), strict=False),
            pl.col("customer").cast(pl.Int64, strict=False),
        )
        sheets.append(
            lines.filter(
                pl.col("code").is_not_null()
                & pl.col("time").is_not_null()
                & pl.col("quantity").is_not_null()
                & (pl.col("price") < 1_000_000)
            ).with_columns(sheet=pl.lit(name))
        )
    first, second = sheets
    again = second.join(first.select("invoice").unique(), on="invoice", how="anti")
    cancelled = pl.col("invoice").str.starts_with("C") | (pl.col("quantity") < 0)
    return pl.concat([first, again]).with_columns(
        day=pl.col("time").dt.date(),
        amount=pl.col("quantity").cast(pl.Decimal(18, 0)) * pl.col("price"),
        table=pl.when(pl.col("customer").is_null())
        .then(pl.lit("quality.anomaly_customer_invoices"))
        .when(cancelled)
        .then(pl.lit("marts.Fact_Sale_Returns"))
        .otherwise(pl.lit("marts.Fact_Sales")),
    )


@pytest.fixture(scope="module", params=["sample", REAL])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    root = tmp_path_factory.mktemp("known")
    mirror, months = MIRROR, ("2009-12", "2011-12")
    if request.param == "sample":
        mirror, months = root / "mirror", ("2010-10", "2011-02")
        make_retail_workbook(mirror)
    home = Home(root / "home", mirror)
    try:
        reports = home.backfill(*months, "--json", dataset="retail")
        yield Made(home, list(reports), lines_of(mirror / RETAIL_FILE))
    finally:
        home.down()


@pytest.mark.parametrize(
    "table", ["marts.Fact_Sales", "marts.Fact_Sale_Returns", "quality.anomaly_customer_invoices"]
)
@pytest.mark.parametrize("by", ["day", "product", "country"])
def test_lines_pieces_and_pounds_are_the_workbooks(made: Made, table: str, by: str) -> None:
    dimension, key, column, cell = {
        "day": ("Dim_Time", "time_key", "date", "day"),
        "product": ("Dim_Product", "product_key", "stock_code", "code"),
        "country": ("Dim_Country", "country_key", "country_name", "country"),
    }[by]

    found = made.rows(
        f"SELECT {column}, count(), sum(quantity), sum(total_amount) FROM {table} AS fact"
        f" JOIN marts.{dimension} AS dimension ON fact.{key} = dimension.{key}"
        f" GROUP BY {column} ORDER BY {column}"
    )

    lines = made.lines.filter(table=table).group_by(cell)
    wanted = lines.agg(pl.len(), pl.col("quantity").sum(), pl.col("amount").sum()).sort(cell)
    assert found == wanted.rows()


def test_every_line_is_in_one_table_and_adds_up(made: Made) -> None:
    assert made.rows("SELECT count(), sum(TotalAmount) FROM vault.sat_invoice") == [
        (made.lines.height, made.lines["amount"].sum())
    ]
    assert made.number("rows_in") == sum(
        made.number(name) for name in ("rows_written", "rows_rejected", "rows_dropped")
    )
    assert made.number("rows_written") == made.lines.height


def test_what_the_original_loses_is_here(made: Made) -> None:
    """Of its sheet it keeps the last line of each key, also where the others are not the same."""
    sheet = made.lines.filter(sheet="Year 2009-2010").with_columns(
        number=pl.col("invoice").str.replace_all("C", "")
    )
    key = ["number", "code", "time"]
    kept = sheet.unique(key, keep="last", maintain_order=True)

    (facts,) = made.rows("SELECT count(), sum(total_amount) FROM quality.original_facts")
    (ours,) = made.rows(
        "SELECT count(), sum(TotalAmount) FROM vault.sat_invoice WHERE Sheet = 'Year 2009-2010'"
    )

    assert facts == (kept.height, kept["amount"].sum())
    assert ours == (sheet.height, sheet["amount"].sum())
    assert ours[0] > facts[0]


def test_the_original_dashboard_is_reckoned_by_its_rules(made: Made) -> None:
    sheet = made.lines.filter(sheet="Year 2009-2010").with_columns(
        number=pl.col("invoice").str.replace_all("C", "")
    )
    kept = sheet.unique(["number", "code", "time"], keep="last", maintain_order=True)
    sales = kept.filter(table="marts.Fact_Sales")
    last = sales.filter(pl.col("day") == sales["day"].max())["amount"]
    counts = dict(kept["table"].value_counts().rows())
    known = counts["marts.Fact_Sales"] + counts["marts.Fact_Sale_Returns"]

    (found,) = made.rows(
        "SELECT anomaly_unit_price_count, anomaly_quantity_count, missing_customer_id_ratio,"
        " latest_min_total_amount, latest_max_total_amount, latest_median_total_amount,"
        " latest_avg_total_amount, latest_sales_volume FROM quality.original_dashboard"
    )

    assert found[:2] == (
        sales.filter(pl.col("price") <= 0).height,
        sales.filter(pl.col("quantity") > 1000).height,
    )
    assert found[2] == pytest.approx(counts["quality.anomaly_customer_invoices"] / known)
    assert found[3:5] == (last.min(), last.max())
    assert found[5:7] == pytest.approx((float(last.median()), float(last.mean())))
    assert found[7] == last.sum()


def test_the_known_figures_of_the_real_workbook(made: Made) -> None:
    if made.home.mirror != MIRROR:
        pytest.skip("they are of the publisher's workbook")
    by_month = {r["partition"]: r["rows_written"] for r in made.reports}

    assert made.number("rows_written") == 1_044_847
    assert made.number("rows_dropped") == 22_523
    assert made.number("rows_rejected") == 0
    assert {month: by_month[month] for month in MONTHS_OF_THE_REAL_ONE} == MONTHS_OF_THE_REAL_ONE
    cancelled = made.rows(
        "SELECT Sheet, countIf(startsWith(InvoiceNo, 'C')) FROM raw.online_retails"
        " GROUP BY Sheet ORDER BY Sheet"
    )
    second = made.lines.filter(sheet="Year 2010-2011")["invoice"].str.starts_with("C").sum()
    assert cancelled == [("Year 2009-2010", 10_206), ("Year 2010-2011", second)]
    (dashboard,) = made.rows("SELECT * FROM quality.original_dashboard")
    assert dashboard[:2] == (30, 198)
    assert round(dashboard[2], 4) == 0.2653
    assert dashboard[3:5] == (Decimal("0.42"), Decimal("3794.40"))
    assert [round(value, 4) for value in dashboard[5:7]] == [11.25, 22.0395]
    assert dashboard[7:] == (Decimal("38106.26"), date(2010, 12, 9), 394_990, 9_759)
    (lost,) = made.rows(
        "SELECT (SELECT count() FROM vault.sat_invoice WHERE Sheet = 'Year 2009-2010')"
        " - (SELECT count() FROM quality.original_facts)"
    )
    assert lost == (13_332,)
    assert originals_top(made, "stock_code", "Dim_Product", "product_key") == [
        ("85123A", Decimal("150186.76")),
        ("22423", Decimal("143523.60")),
        ("M", Decimal("98182.19")),
        ("85099B", Decimal("84858.45")),
        ("84879", Decimal("69996.97")),
    ]
    assert originals_top(made, "country_name", "Dim_Country", "country_key") == [
        ("United Kingdom", Decimal("7340738.25")),
        ("EIRE", Decimal("356023.36")),
        ("Netherlands", Decimal("268684.93")),
        ("Germany", Decimal("201901.19")),
        ("France", Decimal("146053.05")),
    ]


def originals_top(made: Made, name: str, dimension: str, key: str) -> list[tuple[Any, ...]]:
    return made.rows(f"""
        SELECT {name}, round(sum(total_amount), 2) AS amount
        FROM quality.original_facts AS fact
        JOIN marts.{dimension} AS dimension ON fact.{key} = dimension.{key}
        WHERE original_table = 'Fact_Sales'
        GROUP BY {name} ORDER BY amount DESC LIMIT 5
    """)
