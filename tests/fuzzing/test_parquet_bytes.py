"""Whatever a Parquet file holds, each of its rows is a trip or a reject, or it is refused."""

import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import dropped, fuzzed, mutated, unless_refused

from lakehouse.resources.trip_files import TripFile, TripFiles, months_of_dropped
from lakehouse.settings import Settings
from lakehouse.transforms.taxi import trips

ZONES = pl.DataFrame({"location_id": pl.Series(range(1, 266), dtype=pl.Int32)})
AT = datetime(2020, 1, 1, 8)
SOUND = pl.DataFrame(
    {
        "VendorID": [1, 2, 2],
        "lpep_pickup_datetime": [AT, AT, None],
        "lpep_dropoff_datetime": [AT, None, AT],
        "store_and_fwd_flag": ["N", "Y", None],
        "PULocationID": [74, 7, 999],
        "DOLocationID": [7, 7, 7],
        "passenger_count": [1.0, None, 2.0],
        "trip_distance": [14.35, 0.5, 1.0],
        "fare_amount": [50.5, 4.0, 5.0],
        "tip_amount": [10.3, 0.0, 0.0],
        "total_amount": [61.8, 4.0, float("nan")],
        "payment_type": [1, 2, None],
    }
)


def packed(frame: pl.DataFrame, **options) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, **options)
    return buffer.getvalue()


def rows_read(folder: Path, content: bytes) -> int | None:
    """The rows of a file, each a trip or a reject; None where it is refused."""
    taken = dropped(folder, "green_tripdata_2020-01.parquet", content)

    def read() -> int:
        months_of_dropped(taken)
        sha256 = hashlib.sha256(content).hexdigest()
        file = TripFile("green", "2020-01", taken.path, sha256, datetime.now(UTC))
        with TripFiles(Settings(home=folder)).read(file) as raw:
            found = trips.canonical(raw.frame, "green", "2020-01", ZONES)
            kept = folder / "kept.parquet"
            trips.write(found.frame, kept)
            rows = trips.count(pl.scan_parquet(kept)).rows
            assert rows + found.rejects.collect(engine="streaming").height == raw.rows
            return raw.rows

    return unless_refused(read)


def test_the_sound_file_is_read(folder: Path):
    assert rows_read(folder, packed(SOUND)) == SOUND.height


def test_the_name_of_a_column_is_no_command_to_a_terminal(folder: Path):
    assert rows_read(folder, packed(pl.DataFrame({"\x1b[2J\x07": [1]}))) is None


@fuzzed
@given(
    content=mutated(packed(SOUND))
    | mutated(packed(SOUND, compression="uncompressed", use_pyarrow=True))
    | mutated(packed(SOUND, compression="snappy", statistics=True, row_group_size=1))
)
def test_bytes_that_changed_are_read_or_refused(folder: Path, content):
    rows_read(folder, content)


TYPES = (
    *(pl.Null, pl.Boolean, pl.Int8, pl.UInt64, pl.Int128, pl.Float32, pl.String, pl.Binary),
    *(pl.Date, pl.Time, pl.Duration("ns"), pl.Datetime("ns"), pl.Datetime("ms", "UTC")),
    *(
        pl.Decimal(38, 10),
        pl.Categorical,
        pl.Enum(["a"]),
        pl.List(pl.Int8),
        pl.Struct({"a": pl.Int8}),
    ),
)
names = st.sampled_from(
    [*SOUND.columns, "_row", "month", "", " ", "raw total_amount", "a\0b", "ehail_fee"]
)


@fuzzed
@given(
    columns=st.dictionaries(names | st.text(max_size=4), st.sampled_from(TYPES), max_size=4),
    rows=st.sampled_from([0, 3]),
)
@example(columns={"raw total_amount": pl.String}, rows=3)  # was a DuplicateError
@example(columns={"photo": pl.Binary}, rows=3)  # was a panic of Polars, which no `except` caught
def test_columns_of_any_name_and_type_are_read_or_refused(folder: Path, columns, rows):
    odd = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in columns.items()]
    try:
        content = packed(SOUND.head(rows).with_columns(odd))
    except (pl.exceptions.PolarsError, UnicodeEncodeError):
        return  # no such file can be
    rows_read(folder, content)
