"""The older CSV files are read in pieces; every line is a row or a reject with its number."""

import gzip
import io
import json
from datetime import datetime

import polars as pl
import pytest
from taxi_heads import MIRROR, REAL_HEADS

from lakehouse.errors import SourceRefusedError
from lakehouse.transforms.taxi.csv import read_csv
from lakehouse.transforms.taxi.trips import canonical
from lakehouse.transforms.taxi.zones import read_zones

CSVS = MIRROR / "github.com" / "DataTalksClub" / "nyc-tlc-data" / "releases" / "download"
ZONES = pl.DataFrame({"location_id": pl.Series(range(1, 266), dtype=pl.Int32)})

YELLOW = (
    "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,"
    "store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,"
    "tip_amount,tolls_amount,improvement_surcharge,total_amount"
)
A_TRIP = "1,2018-01-01 08:00:00,2018-01-01 08:10:00,1,.5,1,N,1,2,1,4.5,0,0.5,1,0,0.3,6.3"
GREEN_2013 = (
    "VendorID,lpep_pickup_datetime,Lpep_dropoff_datetime,Store_and_fwd_flag,RateCodeID,"
    "Pickup_longitude,Pickup_latitude,Dropoff_longitude,Dropoff_latitude,Passenger_count,"
    "Trip_distance,Fare_amount,Extra,MTA_tax,Tip_amount,Tolls_amount,Ehail_fee,Total_amount,"
    "Payment_type,Trip_type "
)
A_GREEN_TRIP = (
    "2,2013-09-01 00:02:00,2013-09-01 00:54:51,N,1,-73.952407836914062,40.810726165771484,"
    "-73.983940124511719,40.676284790039063,5,14.35,50.5,0.5,0.5,10.3,0,,61.8,1,,,"
)
FHV_2018 = (
    '"Pickup_DateTime","DropOff_datetime","PUlocationID","DOlocationID","SR_Flag",'
    '"Dispatching_base_number","Dispatching_base_num"'
)


class Read:
    """What came out of a file: its trips, its rejects, and the pieces it was read in."""

    def __init__(
        self, text: str | bytes, service: str = "yellow", month: str = "2018-01", piece: int = 2**20
    ) -> None:
        stream = io.BytesIO(text.encode() if isinstance(text, str) else text)
        pieces = list(read_csv(stream, service, month, piece))
        assert all(p.records == p.frame.height + p.rejects.height for p in pieces)
        self.pieces = len(pieces)
        self.raw = pl.concat(piece.frame for piece in pieces)
        self.rejects = pl.concat(piece.rejects for piece in pieces)
        self.trips = canonical(self.raw.lazy(), service, month, ZONES).frame.collect()


def lines(*text: str, end: str = "\n") -> str:
    return "".join(f"{line}{end}" for line in text)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_becomes_trips_numbered_by_line(end):
    read = Read(lines(YELLOW, A_TRIP, A_TRIP, end=end))
    assert read.rejects.is_empty()
    assert read.trips["_row"].to_list() == [2, 3]
    assert read.trips.drop("_row").unique().height == 1
    trip = read.trips.row(0, named=True)
    assert trip["pickup_datetime"] == datetime(2018, 1, 1, 8)
    assert (trip["trip_distance"], trip["total_amount"]) == (0.5, 6.3)
    assert (trip["vendor_id"], trip["payment_type"], trip["dropoff_location_id"]) == ("1", 1, 2)


def test_a_blank_line_below_the_header_is_no_row():
    read = Read(lines(YELLOW) + "\r\n" + lines(A_TRIP, A_TRIP, end="\r\n"))
    assert read.trips["_row"].to_list() == [3, 4]


def test_two_empty_cells_more_than_the_header_has_as_in_green_2013():
    read = Read(lines(GREEN_2013) + "\r\n" + lines(A_GREEN_TRIP, A_GREEN_TRIP), "green", "2013-09")
    assert read.rejects.is_empty()
    assert read.trips["total_amount"].to_list() == [61.8, 61.8]
    assert read.trips["pickup_latitude"].to_list() == [40.810726165771484] * 2
    assert read.trips["trip_type"].to_list() == [None, None]


def test_a_cell_more_that_is_not_empty_rejects_its_line():
    read = Read(lines(GREEN_2013, A_GREEN_TRIP, A_GREEN_TRIP + "x"), "green", "2013-09")
    assert read.trips["_row"].to_list() == [2]
    assert read.rejects.rows() == [
        (3, A_GREEN_TRIP + "x", "22 cells where the header has 20"),
    ]


def test_a_file_in_which_all_is_quoted_as_fhv_of_2018():
    read = Read(
        lines(
            FHV_2018,
            '"2018-02-09 23:55:00","2018-02-10 00:15:00","265","264","","B01268",""',
            '"2018-02-09 23:54:00","2018-02-10 00:48:00","","265","1","B01268","B00001"',
        ),
        "fhv",
        "2018-02",
    )
    assert read.rejects.is_empty()
    assert read.trips.select(
        *("pickup_location_id", "dropoff_location_id", "sr_flag"),
        *("dispatching_base_number", "dispatching_base_num", "_row"),
    ).rows() == [(265, 264, None, "B01268", None, 2), (None, 265, 1, "B01268", "B00001", 3)]


def test_a_line_cut_short_is_rejected_and_a_bad_cell_is_kept_beside_its_row():
    bad = A_TRIP.replace(",1,.5,", ",one,.5,").replace(",1,4.5,", ",barter,4.5,")
    read = Read(lines(YELLOW, A_TRIP, A_TRIP[:30], bad, A_TRIP))
    assert read.trips["_row"].to_list() == [2, 4, 5]
    assert read.rejects.rows() == [(3, A_TRIP[:30], "3 cells where the header has 17")]
    assert json.loads(read.trips["_unreadable"][1]) == {
        "passenger_count": "one",
        "payment_type": "barter",
    }
    assert read.trips["_unreadable"].null_count() == 2


def test_an_unknown_column_is_kept_as_text():
    read = Read(lines(f"{YELLOW},Shift ID", f"{A_TRIP},0017"))
    assert read.trips["Shift ID"].to_list() == ["0017"]


def mixed_lines() -> str:
    """Good lines, short ones, quoted ones and one of two lines, about 100 bytes each."""
    quoted = A_TRIP.replace(",N,", ',"N",')
    two = A_TRIP.replace(",N,", ',"N\n",')
    return lines(YELLOW, *([A_TRIP, A_TRIP, "short,line", quoted, A_TRIP, two, A_TRIP] * 10))


@pytest.mark.parametrize("piece", [250, 300, 777, 1000, 4000])
def test_pieces_of_any_size_make_the_same_rows_and_rejects(piece):
    whole, pieces = Read(mixed_lines()), Read(mixed_lines(), piece=piece)
    assert whole.pieces == 1
    assert pieces.pieces > 1
    assert whole.trips.height == 60
    assert whole.rejects["line"].to_list() == list(range(4, 84, 8))
    assert pieces.trips.equals(whole.trips)
    assert pieces.rejects.equals(whole.rejects)


def test_an_open_quote_swallows_nothing_of_other_pieces():
    text = lines(YELLOW, A_TRIP, '"' + A_TRIP, *[A_TRIP] * 60)
    read = Read(text, piece=600)
    assert read.rejects["line"].to_list() == [3]
    assert read.trips["_row"].to_list() == [2, *range(4, 64)]


@pytest.mark.parametrize("text", [YELLOW, lines(YELLOW), lines(YELLOW) + "\r\n"])
def test_a_file_without_rows_has_the_columns_all_the_same(text):
    read = Read(text)
    assert read.trips.is_empty()
    assert read.rejects.is_empty()
    assert "total_amount" in read.raw.columns


def test_a_file_of_something_else_is_refused():
    for text in ("", "a,b,c\n1,2,3\n", A_TRIP, lines(GREEN_2013, A_GREEN_TRIP)):
        with pytest.raises(SourceRefusedError, match="this is no file of yellow trips"):
            Read(text)


def test_a_file_in_which_no_line_ends_is_refused_before_it_fills_the_memory():
    with pytest.raises(SourceRefusedError, match="no line ends in"):
        Read(lines(YELLOW) + "x" * 10_000, piece=1000)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:200] + bytes([data[200] ^ 255]) + data[201:],
        lambda data: b"<html>not found</html>",
    ],
    ids=["cut", "flipped", "another"],
)
def test_a_damaged_file_is_refused(damage):
    rows = "\n".join(f"{A_TRIP[:-3]}{n}" for n in range(5000))
    data = damage(gzip.compress(f"{YELLOW}\n{rows}\n".encode()))
    with (
        gzip.open(io.BytesIO(data)) as stream,
        pytest.raises(SourceRefusedError, match="the file is cut off or damaged"),
    ):
        list(read_csv(stream, "yellow", "2018-01", 10_000))


@pytest.mark.mirror
@pytest.mark.parametrize("name", sorted(REAL_HEADS))
def test_the_first_lines_of_every_real_file_are_read_without_a_loss(name):
    service, _, month = name.split("_")
    head = REAL_HEADS[name]
    read = Read(head[: head.rindex(b"\n") + 1], service, month)
    assert read.rejects.is_empty()
    assert read.trips.height > 0
    assert read.trips["_unreadable"].to_list() == [None] * read.trips.height


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("month", "rows", "total"), [("2020-11", 88_605, None), ("2020-12", 83_130, "1933848.78")]
)
def test_the_real_csv_months_have_the_known_rows(month, rows, total):
    file = CSVS / "green" / f"green_tripdata_{month}.csv.gz"
    if not file.exists():
        pytest.skip("the mirror of the publisher's files is not here")
    with gzip.open(file) as stream:
        pieces = list(read_csv(stream, "green", month, 2**20))
    assert len(pieces) > 5
    assert sum(piece.records for piece in pieces) == rows
    raw = pl.concat(piece.frame for piece in pieces)
    trips = canonical(raw.lazy(), "green", month, ZONES).frame.collect()
    assert trips.height == rows
    assert trips["_unreadable"].null_count() == rows
    if total:
        assert str(trips["total_amount"].cast(pl.Decimal(18, 2)).sum()) == total


@pytest.mark.mirror
def test_csv_and_parquet_of_a_month_make_the_same_trips():
    """But for the vendor, which the CSV does not know of trips without a meter's record."""
    month = "2020-12"
    publisher = MIRROR / "d37ci6vzurychx.cloudfront.net"
    csv = CSVS / "green" / f"green_tripdata_{month}.csv.gz"
    parquet = publisher / "trip-data" / f"green_tripdata_{month}.parquet"
    if not (csv.exists() and parquet.exists()):
        pytest.skip("the mirror of the publisher's files is not here")
    zones = read_zones((publisher / "misc" / "taxi_zone_lookup.csv").read_bytes())
    with gzip.open(csv) as stream:
        raw = pl.concat(piece.frame for piece in read_csv(stream, "green", month))
    made = [
        canonical(of_form, "green", month, zones).frame.drop("_row", "vendor_id").collect()
        for of_form in (raw.lazy(), pl.scan_parquet(parquet))
    ]
    assert made[0].equals(made[1])
