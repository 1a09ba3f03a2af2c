"""Online Retail in a lakehouse of its own: what is made of it, and the moments to disturb it."""

import io
import subprocess
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import xlsxwriter
from homes import Answer, Home, Tables, counted, digests, lines, wait_until

from lakehouse.instance import open_instance
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.samples.retail import (
    HEADER,
    RETAIL_FILE,
    WORKBOOK,
    RetailTruth,
    make_retail_workbook,
)
from lakehouse.tables.retail import REJECTS

MONTHS = ("2010-10", "2010-11", "2010-12", "2011-01", "2011-02")
DBT = 'key:"retail/vault/*" or key:"retail/marts/*" or key:"retail/quality/*"'
"""Selects what dbt makes."""

_DATABASES = ("raw", "vault", "marts", "quality")


def publish(mirror: Path, seed: int = 0) -> RetailTruth:
    """Have the publisher put up a workbook in place of the one before."""
    return make_retail_workbook(mirror, seed=seed)


AT = datetime(2010, 12, 1, 8, 26)
LINE = (536365, "85123A", "HEART", 6, AT, 2.55, 17850, "United Kingdom")
"""A line as it should be, under the header of the samples."""

BACKFILL = ("backfill", "retail", "--from", MONTHS[0], "--to", MONTHS[-1])


def publish_sheets(mirror: Path, sheets: Mapping[str, Sequence[Sequence[Any]]]) -> None:
    """Have the publisher put up a workbook with these rows; times are cells with a date format."""
    publish_bytes(mirror, workbook(sheets))


def publish_lines(mirror: Path, *lines: Sequence[Any], header: Sequence[str] = HEADER) -> None:
    """Have the publisher put up a workbook of one sheet with these lines."""
    publish_sheets(mirror, {"Year 2009-2010": [header, *lines]})


def publish_bytes(mirror: Path, content: bytes) -> None:
    """Have the publisher put up an archive with these bytes as the workbook."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(WORKBOOK, content)
    (mirror / RETAIL_FILE).parent.mkdir(parents=True, exist_ok=True)
    (mirror / RETAIL_FILE).write_bytes(packed.getvalue())


def workbook(sheets: Mapping[str, Sequence[Sequence[Any]]]) -> bytes:
    """The bytes of a workbook."""
    packed = io.BytesIO()
    with xlsxwriter.Workbook(packed) as book:
        times = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for row, cells in enumerate(rows):
                for column, cell in enumerate(cells):
                    sheet.write(row, column, cell, times if isinstance(cell, datetime) else None)
    return packed.getvalue()


def backfill(home: Home, *options: str, month: str | None = None) -> Answer:
    """Backfill a month, or all, which must succeed."""
    months = ("--from", month) if month else BACKFILL[2:]
    answer = home.call("backfill", "retail", *months, *options)
    assert answer.code == 0, answer.out + answer.err
    return answer


def tables(home: Home) -> dict[str, str]:
    """A digest of the rows of every table, but for when their file landed."""
    return digests(retail_tables(home))


def retail_tables(home: Home) -> Tables:
    """All that is made of Online Retail, but for when its file landed."""
    found: Tables = {}
    with ClickHouse(home.settings).client() as client:
        names = client.query(
            "SELECT database || '.' || name FROM system.tables"
            f" WHERE database IN {_DATABASES} ORDER BY 1"
        ).result_rows
        for (name,) in names:
            rows = client.query(f"SELECT * EXCEPT LOAD_DATETIME FROM {name}").result_rows
            found[name] = counted(rows)
    return found | {"rejects": lines(home.rows(REJECTS))}


@contextmanager
def history(home: Home) -> Iterator[dg.DagsterInstance]:
    """Dagster's history of a lakehouse, which is found by the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.environment.items():
            patch.setenv(name, value)
        with open_instance(home.settings) as instance:
            yield instance


def wait_until_dbt_makes(home: Home, process: subprocess.Popen[str], database: str) -> None:
    """Until dbt builds another table that is to take its place in this database."""
    building = (
        "SELECT name FROM system.tables"
        f" WHERE database = 'staging' AND startsWith(name, '{database}__')"
    )
    with ClickHouse(home.settings).client() as client:
        left_behind = client.query(building).result_rows
        wait_until(
            process,
            lambda: bool({*client.query(building).result_rows} - {*left_behind}),
            f"no table of {database} was made",
        )
