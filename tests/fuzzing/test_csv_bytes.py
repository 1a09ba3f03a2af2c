"""Whatever a CSV file holds, each of its lines is a row or a reject, or the file is refused."""

import gzip
import io
import re
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import dropped, fuzzed, lines_of, mutated, unless_refused

from lakehouse.resources import trip_files
from lakehouse.resources.drive_files import days_of
from lakehouse.resources.retail_files import RetailFiles
from lakehouse.settings import Settings
from lakehouse.transforms import drives, retail
from lakehouse.transforms.taxi import csv as taxi
from lakehouse.transforms.taxi.trips import canonical

NOW = datetime(2024, 1, 1, tzinfo=UTC)
ZONES = pl.DataFrame({"location_id": pl.Series(range(1, 266), dtype=pl.Int32)})

DRIVES = (
    b"date,serial_number,model,capacity_bytes,failure,smart_9_raw\n"
    b"2018-01-01,Z1,ST4000DM000,4000,0,18446744073709551615\n"
    b'2018-01-02,"Z,2",ST4000DM000,,1,\n'
    b"2018-01-03,Z3,ST4000DM000,4000,0,7\n"
)
TRIPS = (
    b"VendorID,lpep_pickup_datetime,lpep_dropoff_datetime,store_and_fwd_flag,RatecodeID,"
    b"PULocationID,DOLocationID,passenger_count,trip_distance,fare_amount,extra,mta_tax,tip_amount,"
    b"tolls_amount,ehail_fee,improvement_surcharge,total_amount,payment_type,trip_type\n"
    b"2,2020-01-01 00:02:00,2020-01-01 00:54:51,N,1,74,7,5,14.35,50.5,0.5,0.5,10.3,0,,0.3,61,1,1\n"
    b'2,2020-01-02 00:02:00,,"Y",1,74,7,,.5,4,,,,,,,4,2,\n'
)
SALES = (
    b"InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    b"536365,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850,United Kingdom\n"
    b'C536366,D,"A, ""B""",-1,12/1/2010 9:41,27.5,,France\n'
)

cells = st.sampled_from(
    ["", '"', '""', "\0", "nan", "1e999", "-1", "9" * 30, "2010-02-31", "é", "\ufeff", "\u2028"]
) | st.text(max_size=6)
odd_lines = st.lists(st.lists(cells, max_size=9).map(",".join), max_size=6)


def odd_files(sound: bytes) -> st.SearchStrategy[bytes]:
    """A sound file with bytes that changed, or its header above lines of anything."""
    header = sound.split(b"\n")[0]
    ends = st.sampled_from(["\n", "\r\n", "\r"])
    below = st.builds(lambda lines, end: end.join(["", *lines]), odd_lines, ends)
    odd = below.map(lambda text: header + text.encode("utf-8", "replace"))
    return mutated(sound) | odd | st.binary(max_size=200)


@fuzzed
@given(data=odd_files(DRIVES))
def test_lines_of_drive_stats(data):
    day = drives.read_day(data, "2018-01", "2018-01-01.csv", NOW)
    assert day.frame.height + day.rejects.height == day.records
    assert day.rejects["reason"].null_count() == 0
    if b'"' not in data and b"\r" not in data and not day.refused:
        assert day.records == lines_of(data)
    drives.clean(day.frame)


@fuzzed
@given(data=odd_files(TRIPS), piece=st.integers(300, 600))
def test_lines_of_trips(data, piece):
    read = taxi.read_csv
    pieces = unless_refused(lambda: list(read(io.BytesIO(data), "green", "2020-01", piece)))
    if pieces is None:
        return
    assert all(p.frame.height + p.rejects.height == p.records for p in pieces)
    records = sum(p.records for p in pieces)
    if b'"' not in data and b"\r" not in data:
        assert records == lines_of(data)
    trips = canonical(pl.concat(p.frame for p in pieces).lazy(), "green", "2020-01", ZONES)
    rejects = trips.rejects.collect().height + sum(p.rejects.height for p in pieces)
    assert trips.frame.collect().height + rejects == records


@fuzzed
@given(data=odd_files(SALES), day=st.none() | st.just(date(2010, 12, 1)))
def test_lines_of_sales(data, day):
    read = retail.read_csv(data, day)
    if read.refused:
        assert read.lines.height == 0
        return
    if b'"' not in data and b"\r" not in data:
        filled = [line for line in data.split(b"\n")[1:] if re.search(rb"[a-zA-Z0-9]", line)]
        assert len(filled) <= read.lines.height <= lines_of(data)
    month = retail.month_of("2010-12", [retail.File(read.lines, "a.csv", "a.csv", NOW)])
    assert month.frame.height + month.rejects.height + month.on_both_sheets == month.rows_in


DROPPED = {
    "drives": ["2018-01-01.csv", "2018-01-01.csv.gz", "2018-02-31.csv", "9999-99-99.csv", "a.zip"],
    "taxi": ["green_tripdata_2020-01.csv", "green_tripdata_2020-01.csv.gz"],
    "retail": ["2010-12-01.csv", "a.csv", "a.csv.gz", "2010-02-31.csv", "a.xlsx", "a.zip"],
}


@fuzzed
@given(data=odd_files(DRIVES), name=st.sampled_from(DROPPED["drives"]), packed=st.booleans())
def test_a_dropped_day_is_taken_or_refused(folder: Path, data, name, packed):
    taken = dropped(folder, name, gzip.compress(data) if packed else data)
    assert unless_refused(lambda: days_of(taken)) != {}


@fuzzed
@example(data=b"\x1b[2J\x07a,b\n", name="green_tripdata_2020-01.csv", packed=False)
@given(data=odd_files(TRIPS), name=st.sampled_from(DROPPED["taxi"]), packed=st.booleans())
def test_a_dropped_month_of_trips_is_taken_or_refused(folder: Path, data, name, packed):
    taken = dropped(folder, name, gzip.compress(data) if packed else data)
    assert unless_refused(lambda: trip_files.months_of_dropped(taken)) in (["2020-01"], None)


@fuzzed
@given(data=odd_files(SALES), name=st.sampled_from(DROPPED["retail"]), packed=st.booleans())
@example(data=SALES, name="2010-02-31.csv", packed=False)
def test_dropped_sales_are_taken_or_refused(folder: Path, data, name, packed):
    taken = dropped(folder, name, gzip.compress(data) if packed else data)
    files = RetailFiles(Settings(home=folder))
    assert unless_refused(lambda: files.months_of_dropped(taken)) != []
