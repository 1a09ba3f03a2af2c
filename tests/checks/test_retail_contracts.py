"""Rows of Online Retail that break their contract are counted and shown."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from lakehouse.checks.contract import Verdict, examine
from lakehouse.checks.contracts.retail import CONTRACTS
from lakehouse.tables import retail as tables
from lakehouse.transforms.retail import HASH_KEYS, ONLINE_RETAILS, PSA_ONLINE_RETAILS

RAW, STAGED = "retail/raw/online_retails", "retail/raw/psa_online_retails"
SCHEMAS = {RAW: ONLINE_RETAILS, STAGED: PSA_ONLINE_RETAILS}

LINE = {
    "InvoiceNo": "536365",
    "StockCode": "85123A",
    "Description": None,
    "Quantity": 6,
    "InvoiceDate": datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
    "UnitPrice": Decimal("2.55"),
    "Country": "United Kingdom",
    "TotalAmount": Decimal("15.30"),
    "Sheet": "Year 2010-2011",
    "Row": 2,
    "LOAD_DATETIME": datetime(2012, 1, 1, tzinfo=UTC),
    "RECORD_SOURCE": "UCI Online Retail II",
}
GOOD: dict[str, dict[str, Any]] = {
    RAW: {**LINE, "CustomerID": None, "_unreadable": None},
    STAGED: {
        **LINE,
        **dict.fromkeys(HASH_KEYS, "0f44f2a0-9d5c-bc4f-8a36-0e1d2c3b4a59"),
        "CustomerID": 0,
        "ReturnStatus": "Normal",
        "Invoice": "536365",
        "LineNumber": 1,
    },
}


def verdict(table: str, *rows: dict[str, Any]) -> Verdict:
    """What is found in rows that are good but for these cells."""
    frame = pl.DataFrame([{**GOOD[table], **row} for row in rows], schema=SCHEMAS[table])
    return examine([frame], CONTRACTS[table], SCHEMAS[table], frame.schema)


@pytest.mark.parametrize("table", [RAW, STAGED])
def test_good_rows_keep_the_contract(table):
    assert str(verdict(table, {})) == "All 1 rows keep the contract."


@pytest.mark.parametrize("table", [RAW, STAGED])
def test_no_rows_keep_the_contract(table):
    frame = pl.DataFrame(schema=SCHEMAS[table])
    assert examine([frame], CONTRACTS[table], SCHEMAS[table], frame.schema).passed


@pytest.mark.parametrize(
    ("table", "bad", "says"),
    [
        (RAW, {"InvoiceNo": ""}, "InvoiceNo breaks str_length(1, None) ('')"),
        (RAW, {"StockCode": None}, "StockCode breaks not_nullable (None)"),
        (RAW, {"InvoiceDate": None}, "InvoiceDate breaks not_nullable (None)"),
        (RAW, {"Quantity": None}, "Quantity breaks not_nullable (None)"),
        (RAW, {"UnitPrice": None}, "UnitPrice breaks not_nullable (None)"),
        (RAW, {"Country": None}, "Country breaks not_nullable (None)"),
        (RAW, {"Row": 1}, "Row breaks greater_than_or_equal_to(2) (1)"),
        (RAW, {"LOAD_DATETIME": None}, "LOAD_DATETIME breaks not_nullable (None)"),
        (RAW, {"RECORD_SOURCE": ""}, "RECORD_SOURCE breaks str_length(1, None) ('')"),
        (RAW, {"TotalAmount": Decimal("15.31")}, "breaks total_is_quantity_times_price"),
        (STAGED, {"hub_time_hash_key": "0f44f2a0"}, "hub_time_hash_key breaks str_matches"),
        (STAGED, {"link_customer_country_hash_key": None}, "breaks not_nullable (None)"),
        (STAGED, {"InvoiceNo": "C536365"}, "InvoiceNo breaks str_matches"),
        (STAGED, {"CustomerID": None}, "CustomerID breaks not_nullable (None)"),
        (STAGED, {"Country": ""}, "Country breaks str_length(1, None) ('')"),
        (STAGED, {"ReturnStatus": "Lost"}, "ReturnStatus breaks isin(['Normal', 'Return'])"),
        (STAGED, {"ReturnStatus": "Return"}, "breaks return_is_cancelled_or_negative"),
        (STAGED, {"Invoice": "C536365"}, "breaks return_is_cancelled_or_negative"),
        (
            STAGED,
            {"Quantity": -6, "TotalAmount": Decimal("-15.30")},
            "breaks return_is_cancelled_or_negative",
        ),
        (STAGED, {"LineNumber": 0}, "LineNumber breaks greater_than_or_equal_to(1) (0)"),
        (STAGED, {"TotalAmount": Decimal(0)}, "breaks total_is_quantity_times_price"),
    ],
)
def test_one_bad_row_among_good_ones_is_counted_and_shown(table, bad, says):
    other = {"Row": 3, "hub_invoice_hash_key": "1f44f2a0-9d5c-bc4f-8a36-0e1d2c3b4a59"}
    found = verdict(table, {name: other[name] for name in other if name in GOOD[table]}, bad)
    assert not found.passed
    assert "1 row: " in str(found)
    assert says in str(found)


def test_a_line_of_a_file_stands_once():
    assert "2 rows: RECORD_SOURCE and LOAD_DATETIME and Sheet and Row breaks uniqueness" in str(
        verdict(RAW, {}, {})
    )
    assert verdict(RAW, {}, {"Row": 3}, {"Sheet": "Year 2009-2010"}).passed


def test_lines_of_one_key_have_numbers_of_their_own():
    assert "hub_invoice_hash_key and LineNumber breaks uniqueness" in str(verdict(STAGED, {}, {}))
    assert verdict(STAGED, {}, {"LineNumber": 2}).passed


@pytest.mark.parametrize(
    ("table", "schema"),
    [
        (tables.ONLINE_RETAILS, ONLINE_RETAILS),
        (tables.PSA_ONLINE_RETAILS, PSA_ONLINE_RETAILS),
    ],
)
def test_the_tables_in_clickhouse_have_the_columns_that_are_checked(table, schema):
    assert list(table.columns) == schema.names()
