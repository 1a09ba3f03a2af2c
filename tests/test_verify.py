"""`lakehouse verify` says that all is as it was recorded, and notices whatever is not."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake
from homes import Home
from small_archives import archive_of, month_files, write_archive

from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.lake import Lake, Provenance
from lakehouse.resources.objects import Objects
from lakehouse.resources.postgres import Postgres
from lakehouse.samples.retail import make_retail_workbook
from lakehouse.samples.taxi import make_taxi_months
from lakehouse.tables import drives as tables

MONTHS = ("2018-01", "2018-02")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Two months and their year, from the archive to ClickHouse."""
    root = tmp_path_factory.mktemp("verify")
    home = Home(root / "home", root / "mirror")
    files = {name: data for month in MONTHS for name, data in month_files(month).items()}
    write_archive(home.mirror, archive_of(MONTHS[0]), files)
    home.backfill(*MONTHS)
    yield home
    home.down()


@pytest.fixture
def home(made: Home, tmp_path: Path) -> Iterator[Home]:
    """The same, of which files may be spoiled: they are as they were for the next test."""
    kept = tmp_path / "kept"
    for name in ("landing", "lake"):
        shutil.copytree(made.folder / name, kept / name)
    yield made
    for name in ("landing", "lake"):
        shutil.rmtree(made.folder / name)
        shutil.copytree(kept / name, made.folder / name)


def verified(home: Home, dataset: str = "drives") -> dict[str, Any]:
    answer = home.call("verify", dataset, "--json")
    (found,) = answer.json
    assert answer.code == (0 if found["ok"] else 1)
    return found


def places(home: Home, dataset: str = "drives") -> list[str]:
    return [difference["place"] for difference in verified(home, dataset)["differences"]]


def data_file(home: Home, table: str, month: str = "2018-01") -> Path:
    (path,) = (home.folder / "lake" / table).glob(f"month={month}/*.parquet")
    return path


def flip_a_bit(path: Path, at: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


def test_nothing_differs(made: Home) -> None:
    found = verified(made)

    assert found["differences"] == []
    assert found["notes"] == []
    examined = found["examined"]
    landed = (made.mirror / "f001.backblazeb2.com").rglob("*.zip")
    assert examined["landed files"] == {"files": 1, "bytes": next(landed).stat().st_size}
    # Bronze, silver and three gold tables by month, two by year.
    assert examined["files of Delta tables"]["files"] == 2 * 5 + 2
    assert examined["comparisons"]["files"] > 20


def test_it_is_said_on_a_screen(made: Home) -> None:
    answer = made.call("verify")

    assert answer.code == 0
    assert "Nothing differs." in answer.out
    assert len(answer.out.splitlines()) < 25


def test_a_flipped_bit_in_a_landed_file(home: Home) -> None:
    archive = home.folder / "landing" / "drives" / archive_of(MONTHS[0])
    flip_a_bit(archive)

    answer = home.call("verify", "drives")

    assert answer.code == 1
    assert f"{archive}: has other bytes than landed: delete it and materialize it again" in (
        answer.out
    )
    assert "1 differ." in answer.out


def test_verification_changes_nothing_of_a_landed_file_that_differs(home: Home) -> None:
    flip_a_bit(home.folder / "landing" / "drives" / archive_of(MONTHS[0]))

    assert verified(home) == verified(home)


@pytest.mark.parametrize("loss", [Path.unlink, lambda path: path.write_bytes(b"PK")])
def test_a_landed_file_that_is_gone_or_cut_short(
    home: Home, loss: Callable[[Path], object]
) -> None:
    archive = home.folder / "landing" / "drives" / archive_of(MONTHS[0])
    loss(archive)

    assert places(home) == [str(archive)]


@pytest.mark.parametrize("part", ["first", "middle", "last"])
@pytest.mark.parametrize("table", ["drives/silver/drive_days", "drives/gold/failure_rates"])
def test_a_flipped_bit_in_a_delta_data_file(home: Home, table: str, part: str) -> None:
    path = data_file(home, table)
    size = path.stat().st_size
    flip_a_bit(path, {"first": 0, "middle": size // 3, "last": size - 1}[part])

    found = verified(home)

    assert f"{path} has other bytes than were written" in found["differences"][0]["sentence"]
    assert found["differences"][0]["place"] == f"{table} 2018-01"


def test_a_data_file_that_is_gone(home: Home) -> None:
    data_file(home, "drives/silver/drive_days").unlink()

    found = verified(home)

    assert "is gone" in found["differences"][0]["sentence"]
    assert {d["place"] for d in found["differences"]} >= {"drives/silver/drive_days 2018-01"}
    assert not [d for d in found["differences"] if "2018-02" in d["place"]]


def test_a_data_file_that_another_program_wrote_is_decoded(home: Home) -> None:
    uri = Lake(home.settings).uri(tables.SILVER)
    before = {*Path(uri).rglob("*.parquet")}
    rows = Lake(home.settings).scan(tables.SILVER, "2018-02").collect()
    lake_rows = rows.with_columns(month=pl.lit("2018-01"))
    write_deltalake(uri, lake_rows.to_arrow(), mode="append", partition_by=["month"])
    (theirs,) = {*Path(uri).rglob("*.parquet")} - before
    assert {"drives/silver/drive_days 2018-01"} <= {*places(home)}

    theirs.write_bytes(theirs.read_bytes()[:-8] + b"\0" * 8)

    sentences = [difference["sentence"] for difference in verified(home)["differences"]]
    assert any(str(theirs) in sentence and "is damaged" in sentence for sentence in sentences)


def test_a_table_that_is_gone(home: Home) -> None:
    shutil.rmtree(home.folder / "lake" / "drives/gold/yearly_summary")

    assert "drives/gold/yearly_summary" in places(home)


def test_a_log_that_is_damaged(home: Home) -> None:
    log = home.folder / "lake" / "drives/gold/daily_summary" / "_delta_log"
    (log / f"{1:020}.json").write_text("{")

    assert "drives/gold/daily_summary" in [place.split()[0] for place in places(home)]


def test_a_partition_that_was_written_behind_dagsters_back(home: Home) -> None:
    lake = Lake(home.settings)
    rows = lake.scan(tables.SILVER, "2018-01").collect().drop("month")
    lake.replace(tables.SILVER, "2018-01", [rows.head(7)], Provenance("somebody", ""))

    found = verified(home)

    assert {difference["place"] for difference in found["differences"]} >= {
        "drives/silver/drive_days 2018-01",
        "drives/gold/daily_summary 2018-01",
        "drives/gold/failure_rates 2018-01",
    }


def test_files_that_no_version_names_are_a_note(home: Home) -> None:
    stray = data_file(home, "drives/silver/drive_days").with_name("killed.parquet")
    stray.write_bytes(b"PAR1")

    found = verified(home)

    assert found["ok"]
    (note,) = found["notes"]
    assert note.startswith("drives/silver/drive_days: no version names 1 files")


def test_rows_in_clickhouse_that_are_not_gold(made: Home) -> None:
    with ClickHouse(made.settings).client() as client:
        client.command("INSERT INTO drives.daily_summary VALUES ('2018-01-31', 1, 0)")
    assert places(made) == ["drives/clickhouse/daily_summary 2018-01"]

    made.backfill("2018-01", None, "--force")
    assert places(made) == []


def test_replaced_versions_are_no_differences(made: Home) -> None:
    made.backfill("2018-02", None, "--force")

    assert verified(made)["notes"] == []


def test_a_data_set_of_which_there_is_nothing(made: Home) -> None:
    assert verified(made, "taxi")["examined"] == {}
    assert verified(made, "retail")["differences"] == []


def test_the_way_of_a_month_of_trips(make_home: Callable[..., Home], tmp_path: Path) -> None:
    home = make_home()
    make_taxi_months(home.mirror, seed=1, months={"green": ("2020-01",)}, trips=1000)
    home.backfill("2020-01", None, "--service", "green", dataset="taxi")
    found = verified(home, "taxi")
    assert found["differences"] == []
    assert found["examined"]["objects"]["files"] == 1

    with Postgres(home.settings).connection() as connection:
        connection.execute("DELETE FROM taxi.green_trips WHERE _row = 1")
    stranger = tmp_path / "stranger.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(stranger)
    Objects(home.settings).put("data/green/green_tripdata_2020-01.parquet", stranger)

    found = {*places(home, "taxi")}
    assert {"taxi/objects/green_trips 2020-01", "taxi/postgres/green_trips 2020-01"} <= found


def test_the_way_of_a_month_of_retail(make_home: Callable[..., Home]) -> None:
    home = make_home()
    make_retail_workbook(home.mirror, seed=1)
    home.backfill("2010-12", None, dataset="retail")
    assert verified(home, "retail")["differences"] == []

    with ClickHouse(home.settings).client() as client:
        client.command(
            "INSERT INTO marts.Fact_Sales SELECT * FROM marts.Fact_Sales"
            " WHERE toYYYYMM(invoice_date) = 201012 LIMIT 1"
        )
    staged = next((home.folder / "landing" / "retail" / "staged").rglob("2010-12.lines.parquet"))
    flip_a_bit(staged)

    found = places(home, "retail")
    assert "retail/marts/Fact_Sales 2010-12" in found
    assert str(staged) in found
