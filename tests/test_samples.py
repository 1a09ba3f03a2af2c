"""The sample archives: what they hold is counted here with the csv module alone."""

import csv
import hashlib
import os
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from lakehouse.samples.drives import DRIVE_FOLDER, SampleTruth, header, make_drive_archives

MIRROR = Path(
    os.environ.get("LAKEHOUSE_TEST_MIRROR")
    or Path(__file__).resolve().parents[2] / "shared" / "mirror"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleTruth]:
    root = tmp_path_factory.mktemp("mirror")
    return root, make_drive_archives(root, drives=60)


def daily_files(archive: Path, month: str) -> dict[str, list[list[str]]]:
    """The lines of each daily file of a month, the header first."""
    with zipfile.ZipFile(archive) as opened:
        return {
            name: list(csv.reader(opened.read(name).decode().splitlines()))
            for name in opened.namelist()
            if Path(name).name.startswith(month)
        }


def archive_of(month: str, truth: SampleTruth) -> Path:
    """The one archive that has daily files of the month."""
    (found,) = [path for path in truth.archives if daily_files(path, month)]
    return found


def digests(root: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.zip")
    }


def test_the_same_seed_makes_the_same_bytes(made, tmp_path):
    root, _ = made
    make_drive_archives(tmp_path, drives=60)
    assert digests(tmp_path) == digests(root)


def test_another_seed_makes_other_bytes(tmp_path):
    for seed in (0, 1):
        make_drive_archives(tmp_path / str(seed), seed=seed, months=["2018-02"], drives=60)
    assert digests(tmp_path / "0") != digests(tmp_path / "1")


def test_a_month_does_not_depend_on_the_others(made, tmp_path):
    _, truth = made
    alone = make_drive_archives(tmp_path, months=["2023-11"], drives=60)
    assert alone.months["2023-11"] == truth.months["2023-11"]
    assert daily_files(alone.archives[0], "2023-11") == daily_files(
        archive_of("2023-11", truth), "2023-11"
    )


def test_archives_stand_where_the_publisher_has_them_and_are_whole(made):
    root, truth = made
    assert [path.relative_to(root).as_posix() for path in truth.archives] == [
        f"{DRIVE_FOLDER}/data_{period}.zip"
        for period in ("2013", "Q1_2018", "Q4_2020", "Q4_2023", "Q2_2024")
    ]
    assert [zipfile.ZipFile(path).testzip() for path in truth.archives] == [None] * 5


def test_2013_has_windows_line_ends_and_junk(made):
    _, truth = made
    with zipfile.ZipFile(truth.archives[0]) as archive:
        assert archive.read("2013/2013-05-01.csv").count(b"\r\n") > 1
        junk = [name for name in archive.namelist() if not name.startswith("2013/2013-")]
    assert junk == ["__MACOSX/2013/._2013-04-01.csv", "2013/.DS_Store"]


def test_the_truth_is_what_an_independent_count_finds(made):
    _, truth = made
    for month, expected in truth.months.items():
        files = daily_files(archive_of(month, truth), month)
        rows = rejected = duplicates = unreadable = 0
        drive_days: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        last_day_drives = 0
        for _, (names, *lines) in sorted(files.items()):
            seen = set()
            for line in lines:
                rows += 1
                row = dict(zip(names, line, strict=False))
                if len(line) < len(names) or not row["serial_number"]:
                    rejected += 1
                elif row["serial_number"] in seen:
                    duplicates += 1
                else:
                    seen.add(row["serial_number"])
                    unreadable += sum(
                        not cell.removesuffix(".0").isdigit()
                        for name, cell in row.items()
                        if cell and name.startswith("smart_")
                    )
                    drive_days[row["model"]] += 1
                    if row["failure"] == "1":
                        failures[row["model"]] += 1
            last_day_drives = len(seen)
        assert rows == rejected + duplicates + drive_days.total()
        assert (len(files), rows, rejected, duplicates, unreadable, last_day_drives) == (
            expected.days,
            expected.rows,
            expected.rejected,
            expected.duplicates,
            expected.unreadable_cells,
            expected.last_day_drives,
        )
        assert (drive_days, failures) == (expected.drive_days, expected.failures)


def test_the_first_month_of_a_quarter_has_every_oddity_and_the_others_none(made):
    _, truth = made
    archive = archive_of("2023-10", truth)
    odd = {
        name: [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]
        for name, lines in daily_files(archive, "2023-10").items()
    }
    assert odd["2023-10-03.csv"][0]["date"] == "2023/10/3"
    assert odd["2023-10-04.csv"][0]["capacity_bytes"].isdigit()
    assert any(row["smart_9_raw"].endswith(".0") for row in odd["2023-10-04.csv"])
    assert "rack_id" in odd["2023-10-05.csv"][0]
    assert odd["2023-10-06.csv"][0]["capacity_bytes"] == "-1"
    assert int(odd["2023-10-06.csv"][1]["smart_1_raw"]) > 2**63
    assert odd["2023-10-06.csv"][2]["smart_5_raw"] == "abc"
    assert "2023-10-08.csv" not in odd

    for lines in daily_files(archive, "2023-11").values():
        assert lines[0] == header("2023-11")
        assert {len(line) for line in lines} == {len(lines[0])}


def test_a_drive_fails_once_and_on_its_last_day(made):
    _, truth = made
    days_of: dict[str, list[tuple[str, str]]] = {}
    for month in ("2023-10", "2023-11", "2023-12"):
        for name, lines in sorted(daily_files(archive_of(month, truth), month).items()):
            for line in lines[1:]:
                if len(line) == len(lines[0]) and line[1]:
                    days_of.setdefault(line[1], []).append((name, line[4]))
    failed = [days for days in days_of.values() if any(failure == "1" for _, failure in days)]
    assert failed
    for days in failed:
        assert [failure for _, failure in days] == ["0"] * (len(days) - 1) + ["1"]


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("archive", "month", "width"),
    [
        ("data_2013.zip", "2013-04", 85),
        ("data_Q4_2020.zip", "2020-10", 149),
        ("data_Q4_2021.zip", "2021-10", 179),
        ("data_Q4_2023.zip", "2023-10", 193),
        ("data_Q1_2024.zip", "2024-01", 193),
        ("data_Q2_2024.zip", "2024-04", 197),
    ],
)
def test_headers_are_the_publishers(archive, month, width):
    path = MIRROR / DRIVE_FOLDER / archive
    if not path.exists():
        pytest.skip("the mirror of the publisher's files is not here")
    with zipfile.ZipFile(path) as opened:
        name = next(name for name in opened.namelist() if Path(name).name.startswith(month))
        (real,) = csv.reader([opened.read(name).decode().splitlines()[0]])
    assert header(month) == real
    assert len(real) == width
