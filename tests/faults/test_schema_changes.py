"""Columns that come and go in the middle of a backfill, and types that change and change back."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest
from faults.choice import choose
from faults.rehearsal import Rehearsal
from retail_homes import publish_sheets

from lakehouse.samples.drives import DRIVE_FOLDER
from lakehouse.samples.retail import RETAIL_FILE, WORKBOOK
from lakehouse.samples.taxi import TRIP_FOLDER

Line = list[str]


def in_days(change: Callable[[Line, Line], Line]) -> Callable[[Path, str], None]:
    """Change each line, of which the header is told too, of the daily files of a month."""

    def spoil(mirror: Path, month: str) -> None:
        (path,) = (mirror / DRIVE_FOLDER).glob("*.zip")
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name).decode() for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                if month in name:
                    rows = [line.split(",") for line in text.splitlines()]
                    changed = [change(rows[0].copy(), row) for row in rows]
                    text = "".join(",".join(row) + "\n" for row in changed)
                archive.writestr(name, text)

    return spoil


def in_trips(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path, str], None]:
    def spoil(mirror: Path, month: str) -> None:
        path = mirror / TRIP_FOLDER / f"green_tripdata_{month}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)

    return spoil


def in_sheets(change: Callable[[int, list[str | None]], list[str | None]]) -> Callable[..., None]:
    """Change each row, whose number is told too, of both sheets; every cell becomes text."""

    def spoil(mirror: Path, month: str) -> None:
        from fastexcel import read_excel

        with zipfile.ZipFile(mirror / RETAIL_FILE) as archive:
            book = read_excel(archive.read(WORKBOOK))
        sheets: dict[str, Sequence[Sequence[str | None]]] = {}
        for name in book.sheet_names:
            cells = pl.DataFrame(book.load_sheet(name, header_row=None, dtypes="string"))
            sheets[name] = [change(row, list(cells.row(row))) for row in range(cells.height)]
        publish_sheets(mirror, sheets)

    return spoil


def _as_decimals(header: Line, row: Line) -> Line:
    return [
        f"{cell}.0" if cell.isdigit() and name.startswith("smart_") else cell
        for name, cell in zip(header, row, strict=False)
    ] + row[len(header) :]


def _without(name: str) -> Callable[[Line, Line], Line]:
    return lambda header, row: [c for n, c in zip(header, row, strict=False) if n != name]


def _cast(name: str, dtype: type[pl.DataType]) -> Callable[[Path, str], None]:
    return in_trips(lambda trips: trips.with_columns(pl.col(name).cast(dtype)))


CHANGES = {
    "drives": {
        "a new column": in_days(lambda h, row: [*row, "rack" if row == h else "7"]),
        "a column goes": in_days(_without("smart_9_raw")),
        "whole numbers become decimals": in_days(_as_decimals),
        "another order": in_days(lambda _, row: [*row[:5], *reversed(row[5:])]),
    },
    "taxi": {
        "a new column": in_trips(lambda trips: trips.with_columns(pl.lit("x").alias("mood"))),
        "a column goes": in_trips(lambda trips: trips.drop("congestion_surcharge")),
        "dollars become text": _cast("total_amount", pl.String),
        "whole numbers become decimals": _cast("VendorID", pl.Float64),
        "another order": in_trips(lambda trips: trips.select(reversed(trips.columns))),
    },
    "retail": {
        "a new column": in_sheets(lambda row, cells: [*cells, "x" if row else "Note"]),
        "all becomes text": in_sheets(lambda _, cells: cells),
        "another order": in_sheets(lambda _, cells: cells[::-1]),
    },
}
KEEPS_ROWS = ("whole numbers become decimals", "dollars become text", "all becomes text")
"""What changes no row but the rejects, which have the text that was published."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    few = {"drives": ["a new column"], "taxi": ["dollars become text"]}
    choose(metafunc, "change", few, CHANGES)


def test_in_the_middle_of_a_backfill_and_back(rehearsal: Rehearsal, change: str) -> None:
    subject, home = rehearsal.subject, rehearsal.home
    first, second = subject.months
    rehearsal.publish_another()
    with rehearsal.disturbed("schema changes and changes back"):
        assert home.call(*subject.backfill(first)).code == 0
        CHANGES[subject.name][change](home.mirror, second)
        answer = home.call(*subject.backfill(second))
        assert answer.code == 0, answer.out + answer.err
        if change in KEEPS_ROWS:
            rehearsal.run()
            found, expected = subject.tables(home), rehearsal.in_peace()
            differing = {name for name in found if found[name] != expected[name]}
            assert not [name for name in differing if "rejects" not in name]
        rehearsal.publish(rehearsal.edition)
