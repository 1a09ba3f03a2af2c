"""Bad data breaks its contract, and the sentence says what is wrong with how many rows."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import polars as pl
import pytest

from lakehouse.checks.contract import EXAMPLES, Verdict, examine
from lakehouse.checks.contracts import contract_of, require_contract
from lakehouse.errors import LakehouseError
from lakehouse.resources.lake import LakeTable
from lakehouse.tables import drives as tables

A_DAY = date(2018, 1, 31)

RATES = {
    "period": "month",
    "period_start": date(2018, 1, 1),
    "model": "ST4000DM000",
    "maker": "Seagate",
    "drive_count": 10,
    "drive_days": 310,
    "failures": 1,
    "afr": 117.7,
    "afr_low": 3.0,
    "afr_high": 656.0,
}
GOOD: dict[str, dict[str, Any]] = {
    tables.BRONZE.name: {
        "date": A_DAY,
        "serial_number": "Z1",
        "model": None,
        "capacity_bytes": -1,
        "failure": 1,
        "_source": "data_Q1_2018.zip/2018-01-31.csv",
        "_row": 2,
        "month": "2018-01",
    },
    tables.SILVER.name: {
        "date": A_DAY,
        "serial_number": "Z1",
        "model": None,
        "maker": "Unknown",
        "brand": "Others",
        "capacity_bytes": None,
        "capacity_doubtful": True,
        "failure": 0,
        "_source": "data_Q1_2018.zip/2018-01-31.csv",
        "_row": 2,
        "month": "2018-01",
    },
    tables.DAILY_SUMMARY.name: {
        "date": A_DAY,
        "drive_count": 5,
        "drive_failures": 5,
        "month": "2018-01",
    },
    tables.DAILY_BRAND_SUMMARY.name: {
        "date": A_DAY,
        "brand": "Seagate",
        "drive_count": 5,
        "drive_failures": 5,
        "month": "2018-01",
    },
    tables.FAILURE_RATES.name: RATES | {"month": "2018-01"},
    tables.PERIOD_FAILURE_RATES.name: RATES | {"period": "quarter", "year": 2018},
    tables.YEARLY_SUMMARY.name: {
        "year": 2018,
        "brand": "Seagate",
        "drive_count": 1,
        "drive_days": 31,
        "drive_failures": 0,
    },
}
GOLD = [
    *(tables.DAILY_SUMMARY, tables.DAILY_BRAND_SUMMARY, tables.FAILURE_RATES),
    *(tables.PERIOD_FAILURE_RATES, tables.YEARLY_SUMMARY),
]


def frame(table: LakeTable, *rows: dict[str, Any]) -> pl.DataFrame:
    """Rows that are good but for these cells; one good row where none are given."""
    cells = [{**dict.fromkeys(table.schema), **GOOD[table.name], **row} for row in rows or [{}]]
    return pl.DataFrame(cells, schema=table.schema)


def verdict(table: LakeTable, *frames: pl.DataFrame) -> Verdict:
    return examine(frames, contract_of(table.name), table.schema, frames[0].schema)


@pytest.mark.parametrize(
    "table", [tables.BRONZE, tables.SILVER, *GOLD], ids=lambda table: table.name
)
def test_good_rows_keep_the_contract(table):
    found = verdict(table, frame(table))
    assert found.passed
    assert str(found) == "All 1 rows keep the contract."


@pytest.mark.parametrize(
    "table", [tables.BRONZE, tables.SILVER, *GOLD], ids=lambda table: table.name
)
def test_no_rows_keep_the_contract(table):
    assert verdict(table, frame(table).clear()).passed


@pytest.mark.parametrize(
    ("table", "bad", "says"),
    [
        (tables.BRONZE, {"date": None}, "date breaks not_nullable (None)"),
        (tables.BRONZE, {"serial_number": ""}, "serial_number breaks str_length(1, None) ('')"),
        (tables.BRONZE, {"serial_number": None}, "serial_number breaks not_nullable (None)"),
        (tables.BRONZE, {"failure": 2}, "failure breaks isin([0, 1]) (2)"),
        (tables.BRONZE, {"failure": None}, "failure breaks not_nullable (None)"),
        (tables.BRONZE, {"_row": 1}, "_row breaks greater_than_or_equal_to(2) (1)"),
        (tables.BRONZE, {"_source": None}, "_source breaks not_nullable (None)"),
        (tables.BRONZE, {"month": "2018-1"}, "month breaks str_matches"),
        (tables.BRONZE, {"month": "2013-03"}, "month breaks greater_than_or_equal_to(2013-04)"),
        (tables.SILVER, {"maker": None}, "maker breaks not_nullable (None)"),
        (tables.SILVER, {"brand": None}, "brand breaks not_nullable (None)"),
        (
            tables.SILVER,
            {"capacity_bytes": -1},
            "capacity_bytes breaks greater_than_or_equal_to(1)",
        ),
        (tables.SILVER, {"capacity_bytes": 10**17}, "capacity_bytes breaks less_than_or_equal_to("),
        (tables.SILVER, {"failure": -1}, "failure breaks isin([0, 1]) (-1)"),
        (tables.DAILY_SUMMARY, {"drive_count": 0, "drive_failures": 0}, "drive_count breaks"),
        (tables.DAILY_SUMMARY, {"drive_failures": -1}, "drive_failures breaks"),
        (
            tables.DAILY_SUMMARY,
            {"drive_failures": 6},
            "DailySummary breaks failures_are_drives"
            " (date 2018-01-31, drive_count 5, drive_failures 6, month 2018-01)",
        ),
        (
            tables.FAILURE_RATES,
            {"period": "week"},
            "period breaks isin(['month', 'quarter', 'year'])",
        ),
        (tables.FAILURE_RATES, {"model": None}, "model breaks not_nullable (None)"),
        (tables.FAILURE_RATES, {"drive_count": -1}, "drive_count breaks"),
        (
            tables.FAILURE_RATES,
            {"drive_days": 0},
            "drive_days breaks greater_than_or_equal_to(1) (0)",
        ),
        (tables.FAILURE_RATES, {"failures": -1}, "failures breaks"),
        (tables.FAILURE_RATES, {"afr_low": 118.0}, "FailureRates breaks interval_holds_the_rate"),
        (tables.FAILURE_RATES, {"afr_high": 117.0}, "FailureRates breaks interval_holds_the_rate"),
        (tables.FAILURE_RATES, {"afr": float("nan")}, "breaks interval_holds_the_rate"),
        (tables.PERIOD_FAILURE_RATES, {"afr": -0.1, "afr_low": -0.2}, "afr breaks"),
        (tables.DAILY_BRAND_SUMMARY, {"brand": "Hitachi"}, "'Others']) (Hitachi)"),
        (
            tables.DAILY_BRAND_SUMMARY,
            {"drive_failures": 6},
            "DailyBrandSummary breaks failures_are_drives",
        ),
        (tables.YEARLY_SUMMARY, {"brand": "Hitachi"}, "'Others']) (Hitachi)"),
        (
            tables.YEARLY_SUMMARY,
            {"year": 2012},
            "year breaks greater_than_or_equal_to(2013) (2012)",
        ),
        (tables.YEARLY_SUMMARY, {"drive_days": 0}, "drive_days breaks"),
    ],
)
def test_one_bad_row_among_good_ones_is_counted_and_shown(table, bad, says):
    others = {"serial_number": "Z9", "model": "B", "date": date(2018, 1, 1), "brand": "Toshiba"}
    good = {name: cell for name, cell in others.items() if name in table.schema}
    found = verdict(table, frame(table, good, bad))
    assert not found.passed
    assert str(found).startswith("Of 2 rows, 1 row: ")
    assert says in str(found)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            tables.SILVER,
            "date and serial_number breaks uniqueness (date 2018-01-31, serial_number Z1)",
        ),
        (tables.DAILY_SUMMARY, "date breaks field_uniqueness (2018-01-31)"),
        (
            tables.DAILY_BRAND_SUMMARY,
            "date and brand breaks uniqueness (date 2018-01-31, brand Seagate)",
        ),
        (tables.FAILURE_RATES, "period and period_start and model breaks uniqueness (period month"),
        (tables.YEARLY_SUMMARY, "brand breaks field_uniqueness (Seagate)"),
    ],
)
def test_what_stands_twice_breaks_the_contract(table, says):
    assert f"Of 2 rows, 2 rows: {says}" in str(verdict(table, frame(table, {}, {})))


def test_a_drive_may_stand_twice_in_bronze():
    assert verdict(tables.BRONZE, frame(tables.BRONZE, {}, {})).passed


def test_bad_rows_are_all_counted_and_a_few_are_shown():
    bad = [{"failure": number} for number in range(2, 10_002)]
    found = verdict(tables.BRONZE, frame(tables.BRONZE, *bad), frame(tables.BRONZE, *bad[:1]))
    (finding,) = found.findings
    assert (finding.rule, finding.column, finding.count) == ("isin([0, 1])", "failure", 10_001)
    assert len(finding.examples) == EXAMPLES
    assert finding.examples[0]["serial_number"] == "Z1"
    assert str(found) == (
        "Of 10,001 rows, 10,001 rows: failure breaks isin([0, 1]) (2, 3, 4, 5, 6),"
        " first in data_Q1_2018.zip/2018-01-31.csv line 2."
    )


def test_frames_are_one_partition_and_are_taken_one_at_a_time():
    def frames() -> Iterator[pl.DataFrame]:
        for number in range(3):
            yield frame(tables.BRONZE, {"failure": number})

    found = examine(
        frames(), contract_of(tables.BRONZE.name), tables.BRONZE.schema, tables.BRONZE.schema
    )
    assert str(found) == (
        "Of 3 rows, 1 row: failure breaks isin([0, 1]) (2),"
        " first in data_Q1_2018.zip/2018-01-31.csv line 2."
    )


def test_several_rules_can_break_at_once():
    found = verdict(tables.BRONZE, frame(tables.BRONZE, {"failure": 2}, {"serial_number": ""}))
    assert {finding.column for finding in found.findings} == {"failure", "serial_number"}
    assert str(found).count("1 row: ") == 2


def test_a_missing_column_breaks_the_contract():
    found = verdict(tables.DAILY_SUMMARY, frame(tables.DAILY_SUMMARY).drop("drive_count"))
    assert str(found) == "Of 1 rows, column drive_count is missing."


def test_a_mistyped_column_breaks_the_contract():
    mistyped = frame(tables.DAILY_SUMMARY).cast({"drive_count": pl.String})
    found = verdict(tables.DAILY_SUMMARY, mistyped)
    assert found.mistyped == {"drive_count": ("Int64", "String")}
    assert str(found) == "Of 1 rows, column drive_count is String, not Int64."


def test_bad_rows_of_a_mistyped_table_are_still_found():
    mistyped = frame(tables.DAILY_SUMMARY, {"drive_failures": -1}).cast({"drive_count": pl.Int32})
    assert "1 row: drive_failures breaks" in str(verdict(tables.DAILY_SUMMARY, mistyped))


def test_an_extra_column_is_named_and_breaks_nothing():
    found = verdict(tables.BRONZE, frame(tables.BRONZE).with_columns(rack_id=pl.lit("7")))
    assert found.passed
    assert found.extra == ["rack_id"]


def test_what_breaks_its_contract_is_not_written():
    bad = frame(tables.YEARLY_SUMMARY, {"brand": "Hitachi"}).drop("year")
    with pytest.raises(LakehouseError) as raised:
        require_contract(tables.YEARLY_SUMMARY, "2018", bad)
    said = str(raised.value)
    assert said.startswith("drives/gold/yearly_summary 2018 was not written, what was there stays:")
    assert "1 row: brand breaks isin(" in said
    assert "(Hitachi)" in said


@pytest.mark.parametrize("table", GOLD, ids=lambda table: table.name)
def test_what_keeps_its_contract_may_be_written(table):
    partition = str(GOOD[table.name][table.partition_by])
    require_contract(table, partition, frame(table).drop(table.partition_by))
