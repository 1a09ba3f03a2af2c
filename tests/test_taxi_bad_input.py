"""Months of taxi trips that are not as they should be: refused with a reason, or made with one."""

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from homes import Home

from lakehouse.resources.objects import Objects
from lakehouse.samples.taxi import (
    CSV_FOLDER,
    TRIP_FOLDER,
    ZONES_FILE,
    make_taxi_csvs,
    make_taxi_months,
)
from lakehouse.tables.taxi import object_name

TRIPS = 1000
# The faults are in the file: what becomes of it is the same wherever it would go.
WITHOUT = {"LAKEHOUSE_WITHOUT": "bigquery postgres"}

MakeHome = Callable[..., Home]


def parquet(mirror: Path, service: str, month: str) -> Path:
    return mirror / TRIP_FOLDER / f"{service}_tripdata_{month}.parquet"


def in_frame(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], None]:
    return lambda path: change(pl.read_parquet(path)).write_parquet(path)


def cut_in_the_middle(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def greens(path: Path) -> None:
    month = path.stem[-7:]
    root = path.parents[len(Path(TRIP_FOLDER).parts)]
    make_taxi_months(root, months={"green": (month,)}, trips=100)
    parquet(root, "green", month).replace(path)


def five_columns(path: Path) -> None:
    pl.DataFrame({"id": [1], "name": ["a"], "x": [1.5], "y": [2], "z": [None]}).write_parquet(path)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut in the middle": (cut_in_the_middle, "is a Parquet file whose end is missing; run again"),
    "a web page": (
        lambda path: path.write_bytes(b"<!DOCTYPE html><title>Sorry</title>"),
        "is not a Parquet file but an HTML page; open its address",
    ),
    "empty": (lambda path: path.write_bytes(b""), "is not a Parquet file but an empty file"),
    "five columns": (
        five_columns,
        "this is no file of yellow trips: it has no column for",
    ),
    "green trips": (greens, "this is no file of yellow trips: it has the columns of green trips"),
    "numbers for times": (
        in_frame(lambda trips: trips.with_columns(pl.lit(7).alias("tpep_pickup_datetime"))),
        "the column pickup_datetime has the type Int32, where times should be",
    ),
    "lists for miles": (
        in_frame(lambda trips: trips.with_columns(pl.concat_list("trip_distance"))),
        "the column trip_distance has the type List(Float64), where numbers should be",
    ),
}
MADE: dict[str, tuple[Callable[[Path], None], str]] = {
    "as the samples are": (lambda path: None, "1 of 1,000 rows were rejected"),
    "an unknown column": (
        in_frame(lambda trips: trips.with_columns(pl.lit("x").alias("mood"))),
        "columns that no earlier file had, kept as they are: mood",
    ),
    "text for dollars": (
        in_frame(lambda trips: trips.with_columns(pl.col("total_amount").cast(pl.String))),
        "rows were rejected",
    ),
    "nulls for a whole column": (
        in_frame(lambda trips: trips.with_columns(pl.lit(None).alias("congestion_surcharge"))),
        "rows were rejected",
    ),
}
_ALL = [*REFUSED, *MADE]
MONTHS = dict(zip(_ALL, [f"2022-{number:02d}" for number in range(1, 13)], strict=False))


@dataclass(frozen=True)
class Spoiled:
    home: Home
    code: int
    reports: dict[str, dict[str, Any]]

    def said(self, name: str) -> list[str]:
        report = self.reports[MONTHS[name]]
        return [*report["errors"], *report["warnings"]]


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoiled]:
    """All faults, each in a month of its own, backfilled by one command."""
    root = tmp_path_factory.mktemp("spoiled")
    home = Home(root / "home", root / "mirror", WITHOUT)
    make_taxi_months(home.mirror, months={"yellow": tuple(MONTHS.values())}, trips=TRIPS)
    for name, (spoil, _) in (REFUSED | MADE).items():
        spoil(parquet(home.mirror, "yellow", MONTHS[name]))
    months = list(MONTHS.values())
    done = home.call(
        *("backfill", "taxi", "--service", "yellow", "--from", months[0], "--to", months[-1]),
        "--json",
    )
    yield Spoiled(home, done.code, {report["partition"]: report for report in done.json})
    home.down()


def test_a_bad_month_stops_no_other_and_the_exit_code_tells(spoiled: Spoiled) -> None:
    assert spoiled.code == 1
    assert {name for name in _ALL if spoiled.reports[MONTHS[name]]["ok"]} == set(MADE)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused_leaves_nothing_behind(spoiled: Spoiled, name: str) -> None:
    report, month = spoiled.reports[MONTHS[name]], MONTHS[name]

    (error,) = report["errors"]
    assert REFUSED[name][1] in error
    assert Objects(spoiled.home.settings).stat(object_name("yellow", month)) is None
    assert spoiled.home.query(f"SELECT * FROM taxi.daily WHERE date = '{month}-15'") == []


@pytest.mark.parametrize("name", MADE)
def test_a_file_that_is_odd_is_made_and_told(spoiled: Spoiled, name: str) -> None:
    report = spoiled.reports[MONTHS[name]]

    assert report["errors"] == []
    assert any(MADE[name][1] in sentence for sentence in spoiled.said(name)), spoiled.said(name)
    assert (report["rows_in"], report["rows_written"], report["rows_rejected"]) == (
        *(TRIPS, TRIPS - 1),
        1,
    )


def test_an_unknown_column_is_in_the_object(spoiled: Spoiled) -> None:
    name = object_name("yellow", MONTHS["an unknown column"])
    with Objects(spoiled.home.settings).local(name) as local:
        assert pl.read_parquet(local.path)["mood"].unique().to_list() == ["x"]


def test_no_part_of_a_refused_file_stays(spoiled: Spoiled) -> None:
    assert not list(spoiled.home.folder.rglob("*.part"))


def test_a_file_of_2013_with_coordinates(make_home: MakeHome) -> None:
    home = make_home(variables=WITHOUT)
    truth = make_taxi_months(home.mirror, months={"yellow": ("2013-05",)}, trips=TRIPS)

    (_, report) = home.backfill("2013-05", None, "--service", "yellow", "--json", dataset="taxi")

    known = truth.months["yellow", "2013-05"]
    with Objects(home.settings).local(object_name("yellow", "2013-05")) as local:
        trips = pl.read_parquet(local.path)
    assert report["rows_written"] == trips.height == TRIPS - known.rejected
    assert trips["pickup_location_id"].null_count() == trips.height
    assert trips["pickup_longitude"].is_between(-75, -73).all()
    assert not trips["unknown_zone"].any()
    (zones,) = home.query("SELECT location_id, trips FROM taxi.zones")
    assert zones == {"location_id": 0, "trips": known.trips}


def test_rejects_are_shown_and_gone_once_the_file_is_mended(make_home: MakeHome) -> None:
    home = make_home(variables=WITHOUT)
    make_taxi_months(home.mirror, months={"yellow": ("2022-01",)}, trips=TRIPS)
    home.backfill("2022-01", None, "--service", "yellow", dataset="taxi")

    (reject,) = home.call("rejects", "taxi", "--json").json
    shown = home.call("rejects", "taxi", "--service", "yellow").out
    still = home.call("replay", "taxi")

    assert (reject["month"], reject["file"]) == ("2022-01", "yellow_tripdata_2022-01.parquet")
    assert "pickup" in reject["reason"]
    path = parquet(home.mirror, "yellow", "2022-01")
    row = pl.read_parquet(path).row(reject["line"] - 1, named=True)
    assert row["tpep_pickup_datetime"] is None
    assert str(row["total_amount"]) in reject["raw"]
    assert "1 of 1 rejected rows." in shown
    assert home.call("rejects", "taxi", "--service", "green").out == "Nothing was rejected.\n"
    assert "Of 1 rejected rows, 1 are rejected still." in still.out

    noon = pl.lit(datetime(2022, 1, 15, 12))
    in_frame(lambda t: t.with_columns(pl.col("tpep_pickup_datetime").fill_null(noon)))(path)
    mended = home.call("replay", "taxi", "--json")

    assert mended.json == {"before": 1, "left": 0}
    assert home.call("rejects", "taxi", "--json").json == []
    (counted,) = home.query("SELECT sum(trips) AS trips FROM taxi.daily")
    assert counted == {"trips": TRIPS - 3}


def test_no_zones_then_zones_then_a_landed_file_that_somebody_altered(make_home: MakeHome) -> None:
    home = make_home(variables=WITHOUT)
    make_taxi_months(home.mirror, months={"yellow": ("2022-01",)}, trips=TRIPS)
    zones = home.mirror / ZONES_FILE
    zones.rename(zones.with_suffix(".away"))
    month = ("backfill", "taxi", "--service", "yellow", "--from", "2022-01")

    answer = home.call(*month)

    assert answer.code == 1
    assert "taxi_zone_lookup.csv" in answer.out
    assert "Traceback" not in answer.out + answer.err

    zones.with_suffix(".away").rename(zones)
    assert home.call(*month).code == 0

    (landed,) = (home.folder / "landing").rglob("yellow_tripdata_2022-01.parquet")
    landed.chmod(0o644)
    altered = bytearray(landed.read_bytes())
    altered[1000] ^= 1
    landed.write_bytes(altered)
    select = 'key:"taxi/objects/yellow_trips"'
    answer = home.call(*month, "--force", "--select", select)

    assert answer.code == 1
    assert "is not what was landed, its bytes have changed: delete it and" in answer.out

    landed.unlink()
    assert home.call(*month, "--force").code == 0


def test_a_csv_that_is_cut_in_the_middle(make_home: MakeHome) -> None:
    home = make_home(variables=WITHOUT | {"LAKEHOUSE_TAXI_FORMAT": "csv"})
    make_taxi_csvs(home.mirror, months={"green": ("2020-01",)}, trips=TRIPS)
    path = home.mirror / CSV_FOLDER / "green" / "green_tripdata_2020-01.csv.gz"
    whole = path.read_bytes()
    month = ("backfill", "taxi", "--service", "green", "--from", "2020-01")
    for spoiled in (whole[: len(whole) // 2], gzip.compress(b"<html>Sorry</html>")):
        path.write_bytes(spoiled)

        answer = home.call(*month)

        assert answer.code == 1
        assert "green_tripdata_2020-01.csv.gz" in answer.out
        assert "cut short" in answer.out or "no file of green trips" in answer.out
    path.write_bytes(whole)
    assert home.call(*month).code == 0
