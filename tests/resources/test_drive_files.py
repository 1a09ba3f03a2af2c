"""The file that serves a day: the publisher's, unless somebody dropped a later one."""

import gzip
import io
import multiprocessing
import shutil
import zipfile
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import pytest
from misbehaving import MisbehavingServer, Page

from lakehouse.errors import NotPublishedError, SourceRefusedError
from lakehouse.resources.drive_files import DriveFiles, archive_name, archive_url, days_of
from lakehouse.resources.inbox import Taken
from lakehouse.samples.drives import DRIVE_FOLDER, make_drive_archives
from lakehouse.settings import Settings

MONTHS = ["2018-01", "2018-02", "2018-03"]
HEADER = b"date,serial_number,model,capacity_bytes,failure\n"
CORRECTED = HEADER + b"2018-02-05,CORRECTED,ST4000DM000,4000787030016,0\n"
CORRECTED_AGAIN = HEADER + b"2018-02-05,AGAIN,ST4000DM000,4000787030016,0\n"
FEBRUARY_5 = date(2018, 2, 5)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror with the first quarter of 2018."""
    root = tmp_path_factory.mktemp("mirror")
    make_drive_archives(root, months=MONTHS, drives=5)
    return root


@pytest.fixture
def mirror(published: Path, tmp_path: Path) -> Path:
    """The same, to be changed by the test."""
    return shutil.copytree(published, tmp_path / "mirror")


@pytest.fixture
def files(mirror: Path, tmp_path: Path) -> DriveFiles:
    (tmp_path / "inbox" / "drives").mkdir(parents=True)
    return DriveFiles(
        Settings(home=tmp_path / "home", source_mirror=str(mirror), inbox=str(tmp_path / "inbox"))
    )


@pytest.fixture
def drop(files: DriveFiles, tmp_path: Path):
    """Drops a file into the inbox, which is looked into and taken from there."""

    def dropped(name: str, content: bytes) -> Taken:
        (tmp_path / "inbox" / "drives" / name).write_bytes(content)
        (seen,) = files.inbox.look()
        copy = files.inbox.fetch(seen)
        days = days_of(files.inbox.preview(seen, copy))
        return files.inbox.take(seen, copy, sorted({f"{day:%Y-%m}" for day in days}))

    return dropped


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def read(files: DriveFiles, month: str) -> dict[date, bytes]:
    """What serves each day of a landed month."""
    return {file.day: data for file, data in files.read(files.landed(month).days)}


def archived(mirror: Path, name: str) -> bytes:
    with zipfile.ZipFile(mirror / DRIVE_FOLDER / "data_Q1_2018.zip") as archive:
        return archive.read(f"data_Q1_2018/{name}")


@pytest.mark.parametrize(
    ("month", "name"),
    [
        ("2013-04", "data_2013.zip"),
        ("2015-12", "data_2015.zip"),
        ("2016-01", "data_Q1_2016.zip"),
        ("2018-03", "data_Q1_2018.zip"),
        ("2018-04", "data_Q2_2018.zip"),
        ("2024-12", "data_Q4_2024.zip"),
    ],
)
def test_the_archive_that_holds_a_month(month, name):
    assert archive_name(month) == name
    assert archive_url(month).endswith(f"/Backblaze-Hard-Drive-Data/{name}")


# From the publisher


def test_a_month_is_served_by_the_daily_files_of_its_archive(files, mirror):
    landed = files.land("2018-02")
    assert [file.day for file in landed.days] == [date(2018, 2, day) for day in range(1, 29)]
    assert landed.days[0].name == "data_Q1_2018.zip/data_Q1_2018/2018-02-01.csv"
    assert landed.dropped == 0
    assert landed.archive.downloaded
    contents = read(files, "2018-02")
    assert list(contents) == [file.day for file in landed.days]
    assert contents[FEBRUARY_5] == archived(mirror, "2018-02-05.csv")


def test_an_archive_is_landed_once_for_all_its_months(files):
    assert [files.land(month).archive.downloaded for month in MONTHS] == [True, False, False]
    assert {files.landed(month).archive.sha256 for month in MONTHS} == {
        files.land("2018-01").archive.sha256
    }


def test_the_version_is_that_of_the_bytes(files, mirror):
    first = files.land("2018-02").version
    assert files.land("2018-02").version == files.landed("2018-02").version == first
    assert files.is_current("2018-02", first)
    make_drive_archives(mirror, months=MONTHS, drives=5, seed=1)
    assert not files.is_current("2018-02", first)
    again = files.land("2018-02")
    assert again.archive.downloaded
    assert again.version != first


def test_a_month_that_is_not_published_says_so(files):
    with pytest.raises(NotPublishedError) as raised:
        files.land("2018-04")
    assert str(raised.value) == (
        "drives 2018-04 is not published: there is no data_Q2_2018.zip;"
        " Backblaze publishes a quarter some weeks after it ends"
    )


def test_an_archive_without_a_day_of_the_month_says_what_it_has(files, mirror):
    (mirror / DRIVE_FOLDER / "data_Q2_2018.zip").write_bytes(
        zipped({"2018-04-01.csv": HEADER, "2018-05-31.csv": HEADER, "read me.csv": b""})
    )
    with pytest.raises(NotPublishedError, match=r"no day of it \(it has 2018-04-01 to 2018-05-31"):
        files.land("2018-06")
    (mirror / DRIVE_FOLDER / "data_Q3_2018.zip").write_bytes(zipped({"read me.csv": b""}))
    with pytest.raises(NotPublishedError, match="it has no daily file at all"):
        files.land("2018-07")


def test_what_is_no_archive_is_refused_and_does_not_land(files, mirror):
    (mirror / DRIVE_FOLDER / "data_Q2_2018.zip").write_bytes(b"<!DOCTYPE html>Sorry")
    with pytest.raises(SourceRefusedError, match=r"data_Q2_2018\.zip is not a zip archive"):
        files.land("2018-04")
    with pytest.raises(NotPublishedError, match="materialize drives/raw/archive first"):
        files.landed("2018-04")


def test_nothing_is_landed_before_it_was_asked_for(files):
    with pytest.raises(NotPublishedError) as raised:
        files.landed("2018-01")
    assert str(raised.value) == (
        "nothing of drives 2018-01 was landed: materialize drives/raw/archive first"
    )
    assert not files.is_current("2018-01", "")


def test_bytes_that_were_altered_after_landing_are_noticed(files):
    landed = files.land("2018-02")
    files.verify(landed)
    content = bytearray(landed.archive.path.read_bytes())
    content[len(content) // 2] ^= 1
    landed.archive.path.write_bytes(content)
    with pytest.raises(SourceRefusedError) as raised:
        files.verify(files.landed("2018-02"))
    assert "data_Q1_2018.zip is not what was landed, its bytes have changed" in str(raised.value)
    landed.archive.path.unlink()
    files.verify(files.land("2018-02"))


def land(settings: Settings, month: str) -> tuple[str, int]:
    landed = DriveFiles(settings).land(month)
    return landed.archive.sha256, len(landed.days)


def test_three_months_of_an_archive_at_once_download_it_once(published, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    body = (published / DRIVE_FOLDER / "data_Q1_2018.zip").read_bytes()
    spawned = multiprocessing.get_context("spawn")
    with MisbehavingServer() as server, ProcessPoolExecutor(3, spawned) as pool:
        server.pages[f"/{DRIVE_FOLDER}/data_Q1_2018.zip"] = Page(body, seconds=0.5)
        settings = Settings(home=tmp_path, source_mirror=server.address)
        landed = list(pool.map(land, [settings] * 3, MONTHS))
        assert server.bytes_sent == len(body)
    assert len({sha256 for sha256, _ in landed}) == 1
    assert [days for _, days in landed] == [30, 28, 31]  # the samples have no 8th of January


# From the inbox


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("2018-02-05.csv", CORRECTED),
        ("drives 2018-02-05.CSV", CORRECTED),
        ("2018-02-05.csv.gz", gzip.compress(CORRECTED)),
        ("correction.zip", zipped({"any folder/2018-02-05.csv": CORRECTED})),
    ],
)
def test_a_dropped_day_takes_the_place_of_the_archives(files, drop, mirror, name, content):
    version = files.land("2018-02").version
    drop(name, content)
    landed = files.land("2018-02")
    assert landed.dropped == 1
    assert landed.version != version
    assert len(landed.days) == 28
    assert landed.days[4].name.startswith(name)
    contents = read(files, "2018-02")
    assert contents[FEBRUARY_5] == CORRECTED
    assert contents[date(2018, 2, 6)] == archived(mirror, "2018-02-06.csv")
    assert files.land("2018-01").dropped == 0


def test_of_several_dropped_files_of_a_day_the_latest_serves(files, drop):
    files.land("2018-02")
    drop("2018-02-05.csv", CORRECTED)
    drop("correction.zip", zipped({"2018-02-05.csv": CORRECTED_AGAIN}))
    assert read(files, "2018-02")[FEBRUARY_5] == CORRECTED_AGAIN
    drop("2018-02-05.csv", CORRECTED)
    assert read(files, "2018-02")[FEBRUARY_5] == CORRECTED


def test_the_same_bytes_dropped_again_are_the_same_version(files, drop):
    drop("2018-02-05.csv", CORRECTED)
    version = files.land("2018-02").version
    drop("2018-02-05.csv", CORRECTED)
    assert files.land("2018-02").version == version


def test_an_archive_published_again_does_not_undo_what_was_dropped(files, drop, mirror):
    drop("2018-02-05.csv", CORRECTED)
    files.land("2018-02")
    make_drive_archives(mirror, months=MONTHS, drives=5, seed=1)
    files.land("2018-02")
    assert read(files, "2018-02")[FEBRUARY_5] == CORRECTED


def test_a_month_that_is_not_published_can_be_dropped(files, drop):
    drop("april.zip", zipped({"2018-04-01.csv": HEADER, "2018-05-01.csv": HEADER}))
    landed = files.land("2018-04")
    assert landed.archive is None
    assert [file.name for file in landed.days] == ["april.zip/2018-04-01.csv"]
    assert read(files, "2018-05") == {date(2018, 5, 1): HEADER}


def test_dropped_days_do_not_pass_for_the_whole_month_when_the_archive_is_gone(files, drop):
    drop("2018-02-05.csv", CORRECTED)
    files.land("2018-02").archive.path.unlink()
    with pytest.raises(NotPublishedError, match=r"data_Q1_2018\.zip was landed and is gone"):
        files.landed("2018-02")
    assert len(files.land("2018-02").days) == 28
    assert len(files.landed("2018-02").days) == 28


def test_a_dropped_file_that_was_altered_is_noticed(files, drop):
    taken = drop("2018-02-05.csv", CORRECTED)
    taken.path.write_bytes(CORRECTED_AGAIN)
    with pytest.raises(SourceRefusedError, match="its bytes have changed"):
        files.verify(files.land("2018-02"))
    files.verify(files.land("2018-01"))


def test_a_dropped_file_that_was_damaged_stops_its_own_month_alone(files, drop):
    taken = drop("2018-02-05.csv.gz", gzip.compress(CORRECTED))
    taken.path.write_bytes(b"\x1f\x8b damaged")
    files.verify(files.land("2018-01"))
    with pytest.raises(SourceRefusedError, match="is no whole gzip file"):
        list(files.read(files.land("2018-02").days))


def test_a_dropped_archive_that_was_damaged_stops_its_own_month_alone(files, drop):
    taken = drop("february.zip", zipped({"2018-02-05.csv": CORRECTED}))
    taken.path.write_bytes(b"damaged")
    files.verify(files.land("2018-01"))
    with pytest.raises(SourceRefusedError, match=r"february\.zip is not a zip archive"):
        files.land("2018-02")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.txt", b"hello", "notes.txt is neither a daily file nor an archive: name it"),
        ("drives.csv", CORRECTED, "drives.csv is neither a daily file nor an archive"),
        ("2018-02-05.csv.bak", CORRECTED, "is neither a daily file nor an archive"),
        ("2018-02-05.csv.xz", CORRECTED, "is neither a daily file nor an archive"),
        ("12018-02-05.csv", CORRECTED, "is neither a daily file nor an archive"),
        ("2018-02-30.csv", CORRECTED, "is named after 2018-02-30, which is no day"),
        ("2018-02-05.csv", b"", "2018-02-05.csv is empty: drop it again as a CSV"),
        ("2018-02-05.csv", zipped({"a": b""}), "2018-02-05.csv is no text: drop it again as a CSV"),
        ("2018-02-05.csv.gz", gzip.compress(b""), "2018-02-05.csv.gz is empty"),
        ("2018-02-05.csv.gz", CORRECTED, "2018-02-05.csv.gz is no whole gzip file"),
        ("2018-02-05.csv.gz", gzip.compress(CORRECTED)[:-9], "2018-02-05.csv.gz is no whole gzip"),
        ("days.zip", CORRECTED, "days.zip is not a zip archive"),
        ("days.zip", zipped({"2018-02-05.csv": CORRECTED})[:-9], "days.zip is a zip archive whose"),
        ("days.zip", zipped({"read me.txt": b""}), "days.zip holds no daily file: name them"),
        ("days.zip", zipped({"2018-02-30.csv": b""}), "2018-02-30.csv is named after 2018-02-30"),
    ],
    # Archives differ by when they are made.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_serve_a_day_is_refused_in_a_sentence(files, drop, name, content, says):
    with pytest.raises(SourceRefusedError) as raised:
        drop(name, content)
    assert says in str(raised.value)
    assert files.inbox.taken() == []
    assert len(files.land("2018-02").days) == 28
