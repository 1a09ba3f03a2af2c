"""Sample archives in the publishers' formats, for the demonstration and the tests.

The same seed makes the same bytes, and a month does not depend on which others are made. The first
month of every quarter holds what goes wrong in real files; the other months are clean.
"""

import zipfile
from calendar import monthrange
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

DRIVE_FOLDER = "f001.backblazeb2.com/file/Backblaze-Hard-Drive-Data"
"""Where the drive archives stand in a mirror."""

DEMO_MONTHS = (
    *("2013-04", "2013-05"),
    *("2018-01", "2018-02", "2018-03"),
    *("2020-10", "2020-11", "2020-12"),
    *("2023-10", "2023-11", "2023-12"),
    "2024-04",
)

_KEY_COLUMNS = ["date", "serial_number", "model", "capacity_bytes", "failure"]
_PLACE_COLUMNS = [
    *("datacenter", "cluster_id", "vault_id", "pod_id", "pod_slot_num", "is_legacy_format"),
]
_PLACES_FROM = "2023-07"

# SMART ids by the month from which the publisher has them.
_SMART_IDS_ADDED = {
    "2013-04": {
        *(1, 2, 3, 4, 5, *range(7, 14), 15, 183, 184, *range(187, 202), 223, 225),
        *(240, 241, 242, 250, 251, 252, 254, 255),
    },
    "2020-10": {
        *(16, 17, 18, 22, 23, 24, 168, 170, 173, 174, 175, 177, 179, 180, 181, 182),
        *(202, 206, 210, 218, 220, 222, 224, 226, *range(231, 236), 245, 247, 248),
    },
    "2021-10": {160, 161, *range(163, 168), 169, 171, 172, 176, 178, 230, 244, 246},
    "2023-07": {27, 71, 82, 90},
    "2024-04": {211, 212},
}


class _Model(NamedTuple):
    name: str
    capacity: int
    years: range
    failures_a_year: float
    """Far above real rates, so that a small fleet has failures to show."""
    kind: str


_MODELS = [
    _Model("ST31500541AS", 1_500_301_910_016, range(2013, 2016), 0.5, "disk"),
    _Model("Hitachi HDS5C3030ALA630", 3_000_592_982_016, range(2013, 2018), 0.15, "disk"),
    _Model("WDC WD30EFRX", 3_000_592_982_016, range(2013, 2021), 0.3, "disk"),
    _Model("ST4000DM000", 4_000_787_030_016, range(2013, 2025), 0.35, "disk"),
    _Model("ST500LM012 HN", 500_107_862_016, range(2014, 2025), 0.6, "disk"),
    _Model("HGST HMS5C4040BLE640", 4_000_787_030_016, range(2015, 2025), 0.1, "disk"),
    _Model("TOSHIBA MG07ACA14TA", 14_000_519_643_136, range(2018, 2025), 0.2, "disk"),
    _Model("ST16000NM001G", 16_000_900_661_248, range(2020, 2025), 0.2, "disk"),
    _Model("WUH721816ALE6L4", 16_000_900_661_248, range(2021, 2025), 0.1, "disk"),
    _Model("CT250MX500SSD1", 250_059_350_016, range(2020, 2025), 0.2, "flash"),
    _Model("Seagate BarraCuda SSD ZA250CM10002", 250_059_350_016, range(2020, 2025), 0.2, "flash"),
    _Model("DELLBOSS VD", 480_036_847_616, range(2020, 2025), 0.1, "virtual"),
    _Model("Micron 5300 MTFDDAK480TDS", 480_103_981_056, range(2021, 2025), 0.1, "flash"),
    _Model("SSDSCKKB240GZR", 240_057_409_536, range(2021, 2025), 0.1, "flash"),
    _Model("WD Blue SA510 2.5 250GB", 250_059_350_016, range(2022, 2025), 0.3, "flash"),
]

_SMART_IDS_REPORTED = {
    "disk": {1, 4, 5, 7, 9, 12, 187, 190, 192, 193, 194, 197, 198, 240, 241, 242},
    "flash": {5, 9, 12, 174, 187, 194, 241, 242},
    "virtual": set[int](),
}

_MISSING_DAY = 8
_TIMESTAMP = (2020, 1, 1, 0, 0, 0)

_Rows = list[list[str]]


@dataclass(frozen=True)
class MonthTruth:
    """What is true of one month of drive days."""

    days: int
    """Daily files."""
    rows: int
    """Data lines: `rejected` + `duplicates` + the sum of `drive_days`."""
    rejected: int
    """Lines that are cut short or have no serial number."""
    duplicates: int
    """Lines with a drive and day that an earlier line has."""
    unreadable_cells: int
    """Cells in the other lines that are no number where one belongs."""
    last_day_drives: int
    """Drives on the month's last day."""
    drive_days: dict[str, int]
    """Drive days by model."""
    failures: dict[str, int]
    """Failures by model; models without any are left out."""


@dataclass(frozen=True)
class SampleTruth:
    """What is true of the archives that were made."""

    archives: tuple[Path, ...]
    months: dict[str, MonthTruth]


def header(month: str) -> list[str]:
    """The columns of a drive file, as far as they are known.

    Months between two known layouts take the earlier one, 2018 that of 2013.

    Args:
        month: `2013-04` or later.

    Returns:
        The names in the publisher's order.
    """
    added = [ids for first, ids in _SMART_IDS_ADDED.items() if first <= month]
    places = _PLACE_COLUMNS if month >= _PLACES_FROM else []
    smart = [
        f"smart_{smart_id}_{value}"
        for smart_id in sorted(set().union(*added))
        for value in ("normalized", "raw")
    ]
    return [*_KEY_COLUMNS, *places, *smart]


def make_drive_archives(
    root: Path, *, seed: int = 0, months: Iterable[str] = DEMO_MONTHS, drives: int = 310
) -> SampleTruth:
    """Writes drive archives as a mirror of the publisher has them.

    Every archive has a fleet of its own.

    Args:
        root: The mirror's folder; made when absent.
        seed: The same seed makes the same bytes.
        months: `YYYY-MM`; an archive holds those of its months that are asked for.
        drives: The size of a fleet.

    Returns:
        What the archives hold, counted before anything was written.
    """
    folder = root / DRIVE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    archives = []
    truths = {}
    for first_day, group in groupby(sorted(months), _first_day_of_archive):
        fleet = _make_fleet(seed, first_day, drives)
        archive, inside = _archive_and_folder(first_day)
        files: dict[str, bytes] = {}
        for month in group:
            drive_days = _drive_days(fleet, month, seed)
            files |= _daily_files(drive_days, month)
            truths[month] = _truth(drive_days, month)
        members = {f"{inside}{name}": content for name, content in files.items()}
        if _is_yearly(first_day):
            members[f"__MACOSX/{inside}._{next(iter(files))}"] = b"\0\5\x16\7"
            members[f"{inside}.DS_Store"] = b"\0\0\0\1Bud1"
        _write_zip(folder / archive, members)
        archives.append(folder / archive)
    return SampleTruth(tuple(archives), truths)


def _is_yearly(day: date) -> bool:
    return day.year < 2016


def _first_day_of_archive(month: str) -> date:
    day = date.fromisoformat(f"{month}-01")
    return day.replace(month=1 if _is_yearly(day) else (day.month - 1) // 3 * 3 + 1)


def _archive_and_folder(first_day: date) -> tuple[str, str]:
    """The name of the archive, and of the folder inside, which some archives do not have."""
    year, quarter = first_day.year, (first_day.month + 2) // 3
    if _is_yearly(first_day):
        return f"data_{year}.zip", f"{year}/"
    stem = f"data_Q{quarter}_{year}"
    return f"{stem}.zip", "" if quarter == 4 else f"{stem}/"


def _has_oddities(month: str) -> bool:
    return month[-2:] in ("01", "04", "07", "10")


def _make_fleet(seed: int, first_day: date, drives: int) -> pl.DataFrame:
    """The drives of an archive: when each joins and fails, and what stays the same."""
    rng = np.random.default_rng([seed, first_day.year, first_day.month])
    models = [model for model in _MODELS if first_day.year in model.years]
    picked = [models[index] for index in rng.integers(len(models), size=drives)]
    days = 365 if _is_yearly(first_day) else 91
    joins = np.where(rng.random(drives) < 0.1, rng.integers(1, days, drives), 0)
    lifetimes = rng.exponential([365 / model.failures_a_year for model in picked])
    start = np.datetime64(first_day)
    pods = rng.integers(20, size=drives)
    fleet = pl.DataFrame(
        {
            "serial_number": [f"Z{first_day:%y%m}{number:05d}" for number in range(drives)],
            "model": [model.name for model in picked],
            "capacity_bytes": [model.capacity for model in picked],
            "kind": [model.kind for model in picked],
            "joins": start + joins,
            "fails": start + joins + lifetimes.astype(int),
            "hours_on_joining": rng.integers(1, 40_000, drives),
            "datacenter": rng.choice(["sac0", "sac2", "phx1", "ams5", "iad1"], drives),
            "cluster_id": rng.integers(3, size=drives),
            "vault_id": 1000 + rng.integers(200, size=drives),
            "pod_id": pods,
            "pod_slot_num": rng.integers(60, size=drives),
        }
    )
    # Boot drives stand in no slot.
    return fleet.with_columns(
        pl.when(pl.col("kind") == "disk").then("pod_slot_num").alias("pod_slot_num"),
        pl.lit("False").alias("is_legacy_format"),
    )


def _drive_days(fleet: pl.DataFrame, month: str, seed: int) -> pl.DataFrame:
    """The rows of a month, day by day, in the month's columns."""
    first = date.fromisoformat(f"{month}-01")
    last = first.replace(day=monthrange(first.year, first.month)[1])
    days = pl.DataFrame({"date": pl.date_range(first, last, eager=True)})
    if _has_oddities(month):
        days = days.filter(pl.col("date").dt.day() != _MISSING_DAY)
    rows = days.join(fleet, how="cross", maintain_order="left_right").filter(
        pl.col("date").is_between("joins", "fails")
    )
    rng = np.random.default_rng([seed, first.year, first.month])
    rows = rows.with_columns(
        (pl.col("date") == pl.col("fails")).cast(int).alias("failure"),
        (pl.col("hours_on_joining") + (pl.col("date") - pl.col("joins")).dt.total_hours()).alias(
            "hours"
        ),
        pl.Series("temperature", rng.integers(20, 40, rows.height)),
        pl.Series("noise", rng.integers(2**28, size=rows.height)),
    )
    rows = rows.with_columns(
        expr for smart_id, value in _readings().items() for expr in _smart(smart_id, value, first)
    )
    return rows.select(
        name if name in rows.columns else pl.lit(None).alias(name) for name in header(month)
    )


def _readings() -> dict[int, pl.Expr]:
    """Raw SMART values by id."""
    hours, noise, temperature = pl.col("hours"), pl.col("noise"), pl.col("temperature")
    days_left = (pl.col("fails") - pl.col("date")).dt.total_days()
    errors = pl.when(days_left < 20).then((20 - days_left) * 8).otherwise(0)
    starts = hours // 2000 + 1
    transferred = hours * 2**21 + noise
    return (
        dict.fromkeys([1, 7], noise)
        | dict.fromkeys([4, 12, 174, 192], starts)
        | dict.fromkeys([5, 187, 197, 198], errors)
        | dict.fromkeys([9, 240], hours)
        | dict.fromkeys([190, 194], temperature)
        | dict.fromkeys([241, 242], transferred)
        | {193: hours // 3}
    )


def _smart(smart_id: int, reading: pl.Expr, day: date) -> Iterable[pl.Expr]:
    """The raw and the normalized column of an id; there are no normalized values in 2013."""
    kinds = [kind for kind, ids in _SMART_IDS_REPORTED.items() if smart_id in ids]
    reported = pl.col("kind").is_in(kinds)
    yield pl.when(reported).then(reading).alias(f"smart_{smart_id}_raw")
    if day.year > 2013:
        yield pl.when(reported).then(100).alias(f"smart_{smart_id}_normalized")


def _daily_files(drive_days: pl.DataFrame, month: str) -> dict[str, bytes]:
    """The CSV files of a month by name."""
    line_end = "\r\n" if month < "2014" else "\n"
    lines = drive_days.write_csv(include_header=False).splitlines()
    files = {}
    for day, of_day in groupby(lines, lambda line: line.partition(",")[0]):
        rows = [header(month), *(line.split(",") for line in of_day)]
        spoil = _SPOILED_DAYS.get(int(day[-2:]))
        if spoil and _has_oddities(month):
            spoil(rows)
        files[f"{day}.csv"] = "".join(",".join(row) + line_end for row in rows).encode()
    return files


def _truth(drive_days: pl.DataFrame, month: str) -> MonthTruth:
    # One repeated line, two that are refused and one unreadable cell: see _SPOILED_DAYS.
    odd = int(_has_oddities(month))
    by_model = drive_days.group_by("model").agg(pl.len(), pl.sum("failure")).sort("model")
    last_day = drive_days["date"].max()
    return MonthTruth(
        days=drive_days["date"].n_unique(),
        rows=drive_days.height + 3 * odd,
        rejected=2 * odd,
        duplicates=odd,
        unreadable_cells=odd,
        last_day_drives=drive_days.filter(pl.col("date") == last_day).height,
        drive_days=dict(by_model.select("model", "len").iter_rows()),
        failures=dict(
            by_model.filter(pl.col("failure") > 0).select("model", "failure").iter_rows()
        ),
    )


def _write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), content, zipfile.ZIP_DEFLATED)


def _write_dates_with_slashes(rows: _Rows) -> None:
    for row in rows[1:]:
        year, month, day = row[0].split("-")
        row[0] = f"{year}/{int(month)}/{int(day)}"


def _write_whole_numbers_as_decimals(rows: _Rows) -> None:
    smart = [index for index, name in enumerate(rows[0]) if name.startswith("smart_")]
    for row in rows[1:]:
        for index in smart:
            row[index] = row[index] and f"{row[index]}.0"


def _add_an_unknown_column(rows: _Rows) -> None:
    rows[0].append("rack_id")
    for row in rows[1:]:
        row.append("7")


def _write_absurd_cells(rows: _Rows) -> None:
    rows[1][rows[0].index("capacity_bytes")] = "-1"
    rows[2][rows[0].index("smart_1_raw")] = str(2**64 - 1)
    rows[3][rows[0].index("smart_5_raw")] = "abc"


def _add_bad_lines(rows: _Rows) -> None:
    """The first drive of the day once more with another temperature, cut short, and nameless."""
    repeated, cut, nameless = rows[1].copy(), rows[1][:3], rows[1].copy()
    repeated[rows[0].index("smart_194_raw")] = "99"
    nameless[rows[0].index("serial_number")] = ""
    rows[4:4] = [repeated, cut, nameless]


_SPOILED_DAYS: dict[int, Callable[[_Rows], None]] = {
    3: _write_dates_with_slashes,
    4: _write_whole_numbers_as_decimals,
    5: _add_an_unknown_column,
    6: _write_absurd_cells,
    7: _add_bad_lines,
}
