"""The vault, the star schema and the quality tables that dbt makes of staged invoice lines."""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal

import pytest
from retail import MONTHS, Retail, failures


@pytest.fixture(scope="module")
def made(warehouse: Retail) -> Iterator[Retail]:
    """Three months with all that dbt makes and tests, for tests that only read."""
    warehouse.empty()
    warehouse.stage(*MONTHS)
    result = warehouse.dbt("build", months=["2010-11", "2010-12", "2011-01"])
    assert result.success, failures(result)
    yield warehouse
    warehouse.drop()


def test_every_line_is_in_a_fact_or_has_no_customer(made: Retail) -> None:
    lines = "invoice_no, line_number, quantity, total_amount"
    assert made.rows(f"SELECT {lines} FROM marts.Fact_Sales ORDER BY ALL") == [
        ("536300", 1, 4, Decimal(2)),
        ("536300", 1, 10, Decimal("25.5")),
        ("536300", 2, 3, Decimal("7.05")),
        ("536300", 2, 4, Decimal(2)),
        ("536400", 1, 2, Decimal("1.1")),
        ("536401", 1, 1, Decimal(0)),
        ("536401", 1, 1001, Decimal("2102.1")),
        ("536500", 1, 6, Decimal("3.3")),
        ("536501", 1, 6, Decimal("12.6")),
    ]
    assert made.rows(f"SELECT {lines} FROM marts.Fact_Sale_Returns") == [
        ("536302", 1, -2, Decimal("-5.1"))
    ]
    assert made.rows(f"SELECT {lines} FROM quality.anomaly_customer_invoices ORDER BY ALL") == [
        ("536301", 1, 1, Decimal("0.5")),
        ("536402", 1, -1, Decimal("-0.5")),
    ]


def test_a_fact_finds_its_product_customer_time_and_country(made: Retail) -> None:
    assert made.rows("""
        SELECT invoice_no, stock_code, description, customer_id, date, day_of_week, country_name
        FROM marts.Fact_Sale_Returns AS fact
        JOIN marts.Dim_Product AS product ON fact.product_key = product.product_key
        JOIN marts.Dim_Customer AS customer ON fact.customer_key = customer.customer_key
        JOIN marts.Dim_Time AS time ON fact.time_key = time.time_key
        JOIN marts.Dim_Country AS country ON fact.country_key = country.country_key
    """) == [("536302", "CUP", "WHITE CUP", 12350, date(2010, 11, 4), 4, "EIRE")]


def test_a_product_described_anew_gets_a_new_row(made: Retail) -> None:
    assert made.rows("""
        SELECT StockCode, Description, EFFECTIVE_FROM
        FROM vault.sat_product JOIN vault.hub_product USING (hub_product_hash_key)
        ORDER BY ALL
    """) == [
        ("CUP", "WHITE CUP", datetime(2010, 11, 2, 8)),
        ("MUG", "MUG", datetime(2010, 11, 2, 8)),
        ("MUG", "RED MUG", datetime(2010, 12, 1, 8)),
        ("MUG", "RED MUG", datetime(2011, 1, 4, 8)),
        ("MUG", "damaged?", datetime(2010, 12, 3, 8)),
    ]
    assert made.rows("SELECT stock_code, description FROM marts.Dim_Product ORDER BY ALL") == [
        ("CUP", "WHITE CUP"),
        ("MUG", "RED MUG"),
        ("POST", None),
    ]


def test_the_quality_tables_count_what_is_doubtful(made: Retail) -> None:
    assert made.rows("SELECT * FROM quality.data_quality ORDER BY ALL") == [
        (date(2010, 11, 4), 1 / 5, 0, 0),
        (date(2010, 12, 3), 1 / 3, 1, 1),
        (date(2011, 1, 5), 0.0, 0, 0),
    ]
    assert made.rows("SELECT unit_price, quantity FROM quality.anomaly_invoice ORDER BY ALL") == [
        (Decimal(0), 1),
        (Decimal("2.1"), 1001),
    ]
    assert made.rows("SELECT * FROM quality.sales_summary ORDER BY ALL LIMIT 1") == [
        (date(2010, 11, 2), Decimal(2), Decimal("25.5"), 4.525, 9.1375, Decimal("36.55"))
    ]


def test_the_original_keeps_one_line_of_a_key_from_one_sheet(made: Retail) -> None:
    sales = "quality.original_facts WHERE original_table = 'Fact_Sales'"
    assert made.rows(f"SELECT invoice_no, quantity FROM {sales} ORDER BY ALL") == [
        ("536300", 3),
        ("536300", 4),
        ("536400", 2),
        ("536401", 1),
        ("536401", 1001),
        ("536501", 6),
    ]
    (dashboard,) = made.rows("SELECT * FROM quality.original_dashboard")
    amounts = (Decimal("12.6"), Decimal("12.6"), 12.6, 12.6, Decimal("12.6"))
    assert dashboard == (1, 1, 2 / 7, *amounts, date(2011, 1, 5), 6, 1)


def test_every_column_is_described_and_is_what_its_description_says(made: Retail) -> None:
    models = [n for n in made.manifest.nodes.values() if n.resource_type == "model"]
    described = sorted(
        (model.schema, model.name, name, column.data_type, column.description)
        for model in models
        for name, column in model.columns.items()
    )
    assert described == made.rows("""
        SELECT database, table, name, type, comment FROM system.columns
        WHERE database IN ('vault', 'marts', 'quality') ORDER BY database, table, name
    """)
    assert all(description for *_, description in described)
    assert all(model.description for model in models)
