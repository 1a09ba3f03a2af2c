"""Makes an archive of modern drive days, as large as wanted, from real rows where there are some.

    python benchmarks/modern_month.py FOLDER --rows 3000000 --days 30

FOLDER becomes a mirror that holds `data_Q2_2024.zip`: 197 columns, daily files from 1 April 2024.
For memory against the number of days, keep the rows a day: `--rows 700000 --days 7` and
`--rows 2800000 --days 28`.
"""

import argparse
import json
import os
import tempfile
import time
import zipfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from lakehouse.samples.drives import DRIVE_FOLDER, header, make_drive_archives

MONTH = "2024-04"
FIRST_DAY = date(2024, 4, 1)
REAL_MIRROR = Path(
    os.environ.get("LAKEHOUSE_TEST_MIRROR")
    or Path(__file__).resolve().parents[2] / "shared" / "mirror"
)


def read_templates() -> pl.DataFrame:
    """Rows of the first half of 2024 with a modern month's columns."""
    real = sorted((REAL_MIRROR / DRIVE_FOLDER).glob("data_Q[12]_2024.zip"))
    if real:
        rows = pl.concat(map(_read_archive, real), how="diagonal")
    else:
        with tempfile.TemporaryDirectory() as folder:
            # May, since a sample month that begins a quarter has bad lines.
            truth = make_drive_archives(Path(folder), months=["2024-05"])
            rows = _read_archive(truth.archives[0])
    return rows.select(header(MONTH))


def _read_archive(archive: Path) -> pl.DataFrame:
    with zipfile.ZipFile(archive) as opened:
        days = [
            pl.read_csv(opened.read(name), infer_schema=False)
            for name in opened.namelist()
            if name.endswith(".csv")
        ]
    numbers = pl.selectors.starts_with("smart_")
    return pl.concat(days).with_columns(numbers.cast(pl.Int64))


def make_modern_month(mirror: Path, rows: int, days: int) -> Path:
    """Writes the archive; each day has `rows / days` drives, the same ones every day."""
    archive = mirror / DRIVE_FOLDER / "data_Q2_2024.zip"
    archive.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    drives = rows // days
    fleet = (
        read_templates()
        .sample(drives, with_replacement=True, seed=0)
        .with_columns(serial_number=pl.format("B{}", pl.int_range(drives)))
    )
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as opened:
        for number in range(days):
            day = FIRST_DAY + timedelta(days=number)
            content = _make_day(fleet, day, rng).write_csv().encode()
            opened.writestr(f"data_Q2_2024/{day}.csv", content)
    return archive


def _make_day(fleet: pl.DataFrame, day: date, rng: np.random.Generator) -> pl.DataFrame:
    """The fleet on a day: counters have grown since the first, so that no two rows are alike."""
    hours = 24 * (day - FIRST_DAY).days
    grown = pl.Series(rng.integers(2**24, size=fleet.height)) + hours * 2**20
    fails = rng.random(fleet.height) < 0.014 / 365
    return fleet.with_columns(
        pl.lit(str(day)).alias("date"),
        pl.Series("failure", fails.astype(int)),
        pl.col("smart_9_raw", "smart_240_raw") + hours,
        pl.col("smart_1_raw", "smart_7_raw", "smart_241_raw", "smart_242_raw") + grown,
    ).select(header(MONTH))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--days", type=int, default=30, choices=range(1, 92), metavar="1..91")
    arguments = parser.parse_args()
    started = time.perf_counter()
    archive = make_modern_month(arguments.folder, arguments.rows, arguments.days)
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({"archive": str(archive), "seconds": seconds}))


if __name__ == "__main__":
    main()
