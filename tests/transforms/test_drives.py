"""Daily files become drive days, drive days the summaries and rates that Backblaze publishes."""

import json
import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zipfile import ZipFile

import polars as pl
import pytest
from scipy.stats import chi2

from lakehouse.samples.drives import header as header_of_era
from lakehouse.transforms.drives import (
    BRONZE,
    DAILY_BRAND_SUMMARY,
    DAILY_SUMMARY,
    FAILURE_RATES,
    SILVER,
    WATCHED_SMART,
    YEARLY_SUMMARY,
    Day,
    brand,
    clean,
    column_type,
    daily_brand_summary,
    daily_summary,
    maker,
    monthly_failure_rates,
    period_failure_rates,
    read_day,
    yearly_summary,
)

MIRROR = Path(
    os.environ.get("LAKEHOUSE_TEST_MIRROR")
    or Path(__file__).resolve().parents[3] / "shared" / "mirror"
)
ARCHIVES = MIRROR / "f001.backblazeb2.com" / "file" / "Backblaze-Hard-Drive-Data"
HEADER = "date,serial_number,model,capacity_bytes,failure"
LANDED = datetime(2024, 1, 1, tzinfo=UTC)


def read(*lines: str, header: str | None = HEADER, month: str = "2018-01") -> Day:
    text = "\n".join([header, *lines] if header is not None else lines)
    day = read_day(text.encode(), month, "data_Q1_2018.zip/a.csv", LANDED)
    assert day.records == day.frame.height + day.rejects.height
    return day


def rejected(day: Day) -> list[tuple]:
    """Line, text and reason of each reject."""
    return day.rejects.rows()


def drive_days(*rows: tuple) -> pl.DataFrame:
    """Rows of bronze: a serial number, and what else differs from an ordinary drive day."""
    ordinary = {
        "date": date(2018, 1, 1),
        "model": "ST4000DM000",
        "capacity_bytes": 4_000_787_030_016,
        "failure": 0,
        "_source": "a.csv",
    }
    return pl.DataFrame(
        [
            {**ordinary, "serial_number": serial, "_row": number, **(rest[0] if rest else {})}
            for number, (serial, *rest) in enumerate(rows, start=2)
        ],
        schema_overrides=BRONZE,
    )


def silver(*rows: tuple) -> pl.LazyFrame:
    return clean(drive_days(*rows)).frame.lazy()


def fleet(model: str, first: date, days: int, drives: int, failures: int = 0) -> pl.DataFrame:
    """Drives of a model, all of them there on each of these days; the first ones fail at last."""
    last = first + timedelta(days - 1)
    return (
        pl.DataFrame({"date": pl.date_range(first, last, eager=True)})
        .join(pl.DataFrame({"drive": range(drives)}), how="cross")
        .select(
            "date",
            pl.format("{}-{}", pl.lit(model), "drive").alias("serial_number"),
            pl.lit(model).alias("model"),
            pl.lit(maker(model)).alias("maker"),
            pl.lit(brand(model)).alias("brand"),
            ((pl.col("date") == last) & (pl.col("drive") < failures))
            .cast(pl.Int64)
            .alias("failure"),
        )
    )


def columns_of(table: pl.Schema, without: str) -> dict[str, pl.DataType]:
    return {name: dtype for name, dtype in table.items() if name != without}


# Reading


@pytest.mark.parametrize(
    "month", ["2013-04", "2018-01", "2020-10", "2021-10", "2023-07", "2024-04"]
)
def test_every_column_of_every_era_has_a_type(month):
    types = {name: column_type(name) for name in header_of_era(month)}
    assert types["date"] == pl.Date
    assert types["capacity_bytes"] == types["failure"] == pl.Int64
    assert {types[name] for name in types if name.endswith("_normalized")} == {pl.Int64}
    assert {types[name] for name in types if name.endswith("_raw")} == {pl.Decimal(20, 0)}
    texts = {name for name, dtype in types.items() if dtype == pl.String}
    assert texts - {"datacenter"} == {"serial_number", "model"}
    assert types.get("is_legacy_format", pl.Boolean) == pl.Boolean


def test_a_day_is_typed_and_carries_its_origin():
    day = read(
        "2018-01-31,Z1,ST4000DM000,4000787030016,0,100,18446744073709551615",
        "2018-01-31,Z2,,,1,,",
        header=f"{HEADER},smart_1_normalized,smart_1_raw",
    )
    big, source = Decimal(2**64 - 1), "data_Q1_2018.zip/a.csv"
    assert day.frame.drop("_extracted_at").rows() == [
        (date(2018, 1, 31), "Z1", "ST4000DM000", 4_000_787_030_016, 0, 100, big, 2, None, source),
        (date(2018, 1, 31), "Z2", None, None, 1, None, None, 3, None, source),
    ]
    assert set(day.frame["_extracted_at"]) == {LANDED}
    assert day.refused is None
    assert day.unknown == ()
    wanted = columns_of(BRONZE, without="month")
    assert {name: day.frame.schema[name] for name in wanted} == wanted


def test_the_order_of_the_columns_is_no_contract():
    day = read("0,4000,Z1,2018-01-31,M", header="failure,capacity_bytes,serial_number,date,model")
    assert day.frame.select(HEADER.split(",")).row(0) == (date(2018, 1, 31), "Z1", "M", 4000, 0)


def test_a_column_that_no_era_has_is_kept_as_text_and_named():
    day = read("2018-01-31,Z1,M,1,0,7", header=f"{HEADER},rack_id")
    assert day.frame["rack_id"].to_list() == ["7"]
    assert day.unknown == ("rack_id",)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("date,model,capacity_bytes,failure", "the header has no column serial_number"),
        ("date,serial,model,capacity_bytes,failure", "it begins date, serial, model"),
        ("<!DOCTYPE html>" + "x" * 9000, "it begins <!doctype html>xxx"),
        (f"{HEADER},smart_1_raw,Smart_1_Raw", "the column 'smart_1_raw' more than once"),
        (f"{HEADER},month", "the column 'month', a name of the lakehouse's"),
        (f"{HEADER},_row", "the column '_row', a name of the lakehouse's"),
        ("", "the first line is empty"),
    ],
)
def test_a_file_with_a_wrong_header_is_refused_and_its_lines_are_rejected(header, reason):
    day = read("2018-01-31,Z1,M,1,0", "", "2018-01-31,Z2,M,1,0", header=header)
    assert day.frame.is_empty()
    assert reason in day.refused
    assert len(day.refused) < 500
    assert rejected(day) == [
        (2, "2018-01-31,Z1,M,1,0", day.refused),
        (4, "2018-01-31,Z2,M,1,0", day.refused),
    ]


@pytest.mark.parametrize("first", ["2018-01-31", "2018/1/31", "1/31/2018"])
def test_a_file_without_a_header_loses_no_line_not_even_the_first(first):
    day = read(f"{first},Z1,M,1,0", "2018-01-31,Z2,M,1,0", header=None)
    assert day.refused == "there is no header: the first line is data"
    assert [line for line, _, _ in rejected(day)] == [1, 2]


def test_an_empty_file_is_refused():
    day = read(header=None)
    assert day.refused == "the first line is empty"
    assert day.records == 0


def test_rows_without_a_key_in_the_month_are_rejected_with_their_text():
    day = read(
        "2018-01-31,Z1,M,1,0",
        "2018-01-31,,M,1,0",
        "2018-01-31,  ,M,1,0",
        "2018-02-01,Z4,M,1,0",
        "2017-01-31,Z5,M,1,0",
        "2018-13-01,Z6,M,1,0",
        "2018-01-31,Z7",
    )
    assert day.frame["serial_number"].to_list() == ["Z1"]
    assert sorted(rejected(day)) == [
        (3, "2018-01-31,,M,1,0", "the serial number is empty"),
        (4, "2018-01-31,  ,M,1,0", "the serial number is empty"),
        (5, "2018-02-01,Z4,M,1,0", "the date 2018-02-01 is not in 2018-01"),
        (6, "2017-01-31,Z5,M,1,0", "the date 2017-01-31 is not in 2018-01"),
        (7, "2018-13-01,Z6,M,1,0", "the date is missing or cannot be read"),
        (8, "2018-01-31,Z7", "2 cells where the header has 5"),
    ]


def test_a_cell_that_cannot_be_read_is_null_and_its_text_stays_beside_the_row():
    day = read("2018-01-31,Z1,M,much,0")
    assert day.frame["capacity_bytes"].to_list() == [None]
    assert json.loads(day.frame["_unreadable"][0]) == {"capacity_bytes": "much"}


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_files_of_other_machines_are_read(end):
    text = end.join([HEADER, "1/31/2018,Z1,M,114.0,0", "1/31/2018,Z2,M,114.0,0", ""])
    day = read_day(text.encode("utf-8-sig"), "2018-01", "a.csv", LANDED)
    assert day.frame["serial_number"].to_list() == ["Z1", "Z2"]
    assert day.frame["capacity_bytes"].to_list() == [114, 114]
    assert day.records == 2


def test_commas_that_a_spreadsheet_left_at_the_ends_are_no_columns():
    day = read("2018-01-31,Z1,M,1,0,,", header=f"{HEADER},,")
    assert day.frame["serial_number"].to_list() == ["Z1"]
    assert day.unknown == ()


# Cleaning


def test_silver_has_its_columns_whatever_the_era():
    cleaned = clean(drive_days(("Z1",)))
    assert cleaned.frame.schema == columns_of(SILVER, without="month")
    assert cleaned.frame.select(f"smart_{n}_raw" for n in WATCHED_SMART).row(0) == (None,) * 9
    assert (cleaned.duplicates, cleaned.capacities_doubtful) == (0, 0)


def test_smart_values_that_the_era_has_are_kept():
    rows = drive_days(("Z1",)).with_columns(
        pl.lit(2**64 - 1, dtype=pl.Decimal(20, 0)).alias("smart_9_raw"),
        pl.lit(1, dtype=pl.Decimal(20, 0)).alias("smart_1_raw"),
    )
    frame = clean(rows).frame
    assert frame["smart_9_raw"].to_list() == [Decimal(2**64 - 1)]
    assert "smart_1_raw" not in frame.columns


def test_of_two_rows_of_a_drive_and_day_the_first_stays():
    cleaned = clean(drive_days(("Z1", {"model": "A"}), ("Z2",), ("Z1", {"model": "B"})))
    assert cleaned.frame.sort("_row").select("serial_number", "_row").rows() == [
        ("Z1", 2),
        ("Z2", 3),
    ]
    assert cleaned.duplicates == 1


def test_of_several_rows_of_a_drive_and_day_the_one_with_the_failure_stays():
    cleaned = clean(drive_days(("Z1",), ("Z1", {"failure": None}), ("Z1", {"failure": 1}), ("Z1",)))
    assert cleaned.frame.select("_row", "failure").rows() == [(4, 1)]
    assert cleaned.duplicates == 3


def test_a_drive_may_stand_on_many_days():
    cleaned = clean(drive_days(("Z1",), ("Z1", {"date": date(2018, 1, 2)})))
    assert cleaned.frame.height == 2


def test_capacities_that_cannot_be_are_set_aside_and_counted():
    sizes = [-1, 0, 1, 10**15, 10**15 + 1, 2 * 10**17, None]
    cleaned = clean(drive_days(*((f"Z{n}", {"capacity_bytes": n}) for n in sizes)))
    assert cleaned.frame["capacity_bytes"].to_list() == [None, None, 1, 10**15, None, None, None]
    doubtful = cleaned.frame.filter("capacity_doubtful")["serial_number"].to_list()
    assert doubtful == ["Z-1", "Z0", f"Z{10**15 + 1}", f"Z{2 * 10**17}"]
    assert cleaned.capacities_doubtful == 4


@pytest.mark.parametrize(
    ("model", "its_maker", "its_brand"),
    [
        ("ST4000DM000", "Seagate", "Seagate"),
        ("Seagate BarraCuda SSD ZA250CM10002", "Seagate", "Seagate"),
        ("ST500LM012 HN", "Seagate", "Seagate"),
        ("Hitachi HDS5C3030ALA630", "Hitachi", "Others"),
        ("HGST HMS5C4040BLE640", "HGST", "HGST"),
        ("WDC WD30EFRX", "Western Digital", "Western Digital"),
        ("WUH721816ALE6L4", "Western Digital", "Others"),
        ("WD Blue SA510 2.5 250GB", "Western Digital", "Others"),
        ("TOSHIBA MG07ACA14TA", "Toshiba", "Toshiba"),
        ("CT250MX500SSD1", "Crucial", "Crucial"),
        ("DELLBOSS VD", "Dell", "Dell BOSS"),
        ("Micron 5300 MTFDDAK480TDS", "Micron", "Others"),
        ("MTFDDAV240TDU", "Micron", "Others"),
        ("SSDSCKKB240GZR", "Intel", "Others"),
        ("00MD00", "Unknown", "Others"),
        ("", "Unknown", "Others"),
    ],
)
def test_maker_and_brand_by_the_model(model, its_maker, its_brand):
    assert (maker(model), brand(model)) == (its_maker, its_brand)
    row = clean(drive_days(("Z1", {"model": model}))).frame.row(0, named=True)
    assert (row["maker"], row["brand"]) == (its_maker, its_brand)


def test_a_drive_without_a_model_stays():
    row = clean(drive_days(("Z1", {"model": None}), ("Z2",))).frame.row(0, named=True)
    assert (row["model"], row["maker"], row["brand"]) == (None, "Unknown", "Others")


# Summaries and rates


def test_a_day_counts_its_drives_and_its_failures():
    summary = daily_summary(
        silver(("Z2", {"date": date(2018, 1, 2), "failure": 1}), ("Z1",), ("Z2",), ("Z3",))
    )
    assert summary.rows() == [(date(2018, 1, 1), 3, 0), (date(2018, 1, 2), 1, 1)]
    assert summary.schema == columns_of(DAILY_SUMMARY, without="month")


def test_a_day_counts_the_drives_and_failures_of_each_brand():
    days = pl.concat(
        [
            fleet("ST4000DM000", date(2018, 1, 1), days=2, drives=3, failures=1),
            fleet("WUH721816ALE6L4", date(2018, 1, 2), days=1, drives=2),
        ]
    )
    summary = daily_brand_summary(days.lazy())
    assert summary.select("date", "brand", "drive_count").rows() == [
        (date(2018, 1, 1), "Seagate", 3),
        (date(2018, 1, 2), "Others", 2),
        (date(2018, 1, 2), "Seagate", 3),
    ]
    assert summary["drive_failures"].sum() == 1
    assert summary.schema == columns_of(DAILY_BRAND_SUMMARY, without="month")


def test_a_month_counts_the_drives_of_its_last_day():
    days = pl.concat(
        [
            fleet("ST4000DM000", date(2018, 1, 1), days=31, drives=10, failures=2),
            fleet("WDC WD30EFRX", date(2018, 1, 1), days=30, drives=5),
        ]
    )
    rates = monthly_failure_rates(days.lazy(), "2018-01")
    assert rates.schema == columns_of(FAILURE_RATES, without="month")
    assert rates.select(
        *("period", "period_start", "model", "maker", "drive_count", "drive_days", "failures")
    ).rows() == [
        ("month", date(2018, 1, 1), "ST4000DM000", "Seagate", 10, 310, 2),
        ("month", date(2018, 1, 1), "WDC WD30EFRX", "Western Digital", 0, 150, 0),
    ]
    assert rates["afr"].to_list() == pytest.approx([100 * 2 / (310 / 365), 0])


def test_drives_without_a_model_have_a_rate_too():
    rates = monthly_failure_rates(silver(("Z1", {"model": None})), "2018-01")
    assert rates.select("model", "maker", "drive_count").rows() == [("unknown", "Unknown", 1)]


def months(*counts: tuple[int, str, int, int, int]) -> pl.DataFrame:
    """Monthly rates of 2018: month, model, drive count, drive days, failures."""
    return pl.DataFrame(
        [
            ("month", date(2018, month, 1), model, maker(model), *rest, 0.0, 0.0, 0.0)
            for month, model, *rest in counts
        ],
        schema=columns_of(FAILURE_RATES, without="month"),
        orient="row",
    )


def test_the_rate_of_a_quarter_is_what_backblaze_published():
    """ST4000DM000 in the first quarter of 2018: 2.3 %."""
    monthly = months(
        (1, "ST4000DM000", 31_500, 980_431, 74),
        (2, "ST4000DM000", 31_200, 877_073, 63),
        (3, "ST4000DM000", 30_941, 964_778, 41),
    )
    quarter = period_failure_rates(monthly).row(0, named=True)
    assert (quarter["period"], quarter["period_start"]) == ("quarter", date(2018, 1, 1))
    assert (quarter["drive_count"], quarter["drive_days"]) == (30_941, 2_822_282)
    assert quarter["failures"] == 178
    assert round(quarter["afr"], 2) == 2.30


@pytest.mark.parametrize("failures", [0, 1, 2, 30, 178, 5000])
def test_the_interval_is_the_exact_one_of_a_poisson_count(failures):
    (rate, _) = period_failure_rates(months((1, "M", 1, 10_000, failures))).rows(named=True)
    years = 10_000 / 365
    low = chi2.ppf(0.025, 2 * failures) / 2 if failures else 0
    high = chi2.ppf(0.975, 2 * failures + 2) / 2
    assert rate["afr"] == pytest.approx(100 * failures / years)
    assert rate["afr_low"] == pytest.approx(100 * low / years)
    assert rate["afr_high"] == pytest.approx(100 * high / years)


def test_quarters_and_the_year_are_made_of_the_months_there_are():
    monthly = months(
        (1, "A", 10, 310, 1),
        (2, "A", 9, 250, 2),
        (1, "B", 5, 150, 0),
        (5, "A", 8, 240, 0),
    )
    found = period_failure_rates(monthly)
    columns = ("period", "period_start", "model", "drive_count", "drive_days", "failures")
    assert found.select(columns).rows() == [
        ("quarter", date(2018, 1, 1), "A", 9, 560, 3),
        ("quarter", date(2018, 1, 1), "B", 0, 150, 0),
        ("quarter", date(2018, 4, 1), "A", 8, 240, 0),
        ("year", date(2018, 1, 1), "A", 8, 800, 3),
        ("year", date(2018, 1, 1), "B", 0, 150, 0),
    ]
    assert found["afr"][3] == pytest.approx(100 * 3 / (800 / 365))


def test_a_year_counts_a_drive_once_however_long_it_ran():
    days = pl.concat(
        [
            fleet("ST4000DM000", date(2018, 1, 30), days=4, drives=10, failures=1),
            fleet("Hitachi HDS5C3030ALA630", date(2018, 1, 1), days=1, drives=3),
            fleet("WUH721816ALE6L4", date(2018, 3, 1), days=2, drives=2),
        ]
    )
    summary = yearly_summary(days.lazy())
    assert summary.rows() == [("Others", 5, 7, 0), ("Seagate", 10, 40, 1)]
    assert summary.schema == columns_of(YEARLY_SUMMARY, without="year")


def test_of_nothing_there_is_nothing():
    empty = silver(("Z1",)).clear()
    rates = monthly_failure_rates(empty, "2018-01")
    for found, table, key in (
        (daily_summary(empty), DAILY_SUMMARY, "month"),
        (daily_brand_summary(empty), DAILY_BRAND_SUMMARY, "month"),
        (rates, FAILURE_RATES, "month"),
        (period_failure_rates(rates), FAILURE_RATES, "month"),
        (yearly_summary(empty), YEARLY_SUMMARY, "year"),
    ):
        assert found.is_empty()
        assert found.schema == columns_of(table, without=key)
    assert clean(drive_days(("Z1",)).clear()).frame.is_empty()


@pytest.mark.mirror
@pytest.mark.skipif(not ARCHIVES.exists(), reason="../shared/mirror is not there")
def test_a_real_month_has_the_known_numbers():
    """April 2013 as Backblaze published it."""
    frames = []
    with ZipFile(ARCHIVES / "data_2013.zip") as archive:
        for name in sorted(archive.namelist()):
            if Path(name).name.startswith("2013-04") and name.endswith(".csv"):
                day = read_day(archive.read(name), "2013-04", name, LANDED)
                assert (day.refused, day.rejects.height, day.unknown) == (None, 0, ())
                frames.append(clean(day.frame).frame)
    april = pl.concat(frames).lazy()
    summary = daily_summary(april)
    assert summary.row(0) == (date(2013, 4, 10), 21_195, 1)
    assert summary.select(pl.sum("drive_count", "drive_failures")).row(0) == (452_821, 43)
