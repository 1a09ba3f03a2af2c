"""Online Retail for tests: lines staged in a real ClickHouse, and the tables dbt makes of them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import clickhouse_connect
import polars as pl
import pytest
from clickhouse_connect.driver import Client
from dbt.cli.main import dbtRunner, dbtRunnerResult
from dbt.contracts.graph.manifest import Manifest

PROJECT = Path(__file__).resolve().parents[2] / "dbt"
_DATABASES = ("raw", "vault", "marts", "quality", "quality_failures")

_KEYS = {
    "hub_invoice": "line",
    "hub_product": "StockCode",
    "hub_customer": "toString(CustomerID)",
    "hub_time": "toString(InvoiceDate)",
    "hub_country": "Country",
    "link_invoice_product": "line",
    "link_invoice_customer": "concat(line, '||', toString(CustomerID))",
    "link_invoice_time": "concat(line, '||time')",
    "link_invoice_country": "concat(line, '||', Country)",
    "link_customer_country": "concat(toString(CustomerID), '||', Country)",
}

_CREATE_PSA = f"""
CREATE TABLE IF NOT EXISTS raw.psa_online_retails (
    {", ".join(f"{key}_hash_key UUID" for key in _KEYS)},
    InvoiceNo String, StockCode String, Description Nullable(String), Quantity Int32,
    InvoiceDate DateTime64(0, 'UTC'), UnitPrice Decimal(10, 4), TotalAmount Decimal(18, 4),
    CustomerID UInt64, Country String, ReturnStatus LowCardinality(String),
    LOAD_DATETIME DateTime64(0, 'UTC'), RECORD_SOURCE String,
    Invoice String, LineNumber UInt32, Sheet String, Row UInt32
) ENGINE = MergeTree PARTITION BY toYYYYMM(InvoiceDate) ORDER BY (hub_invoice_hash_key, LineNumber)
"""

_STAGE = f"""
INSERT INTO raw.psa_online_retails
WITH replaceAll(Invoice, 'C', '') AS InvoiceNo,
    concat(InvoiceNo, '||', StockCode, '||', toString(InvoiceDate)) AS line
SELECT
    {", ".join(f"reinterpretAsUUID(substring(SHA256({t}), 1, 16))" for t in _KEYS.values())},
    InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, Quantity * UnitPrice,
    CustomerID, Country, if(startsWith(Invoice, 'C') OR Quantity < 0, 'Return', 'Normal'),
    '2026-11-01 00:00:00', 'book.xlsx', Invoice,
    row_number() OVER (PARTITION BY InvoiceNo, StockCode, InvoiceDate ORDER BY Sheet, Row),
    Sheet, Row
FROM raw.lines
"""

_SILENT = ("--log-level", "none")

_CREATE_LINES = """
CREATE OR REPLACE TABLE raw.lines (
    Invoice String, StockCode String, Description Nullable(String), Quantity Int32,
    InvoiceDate DateTime64(0, 'UTC'), UnitPrice Decimal(10, 4), CustomerID UInt64, Country String,
    Sheet String, Row UInt32
) ENGINE = MergeTree ORDER BY tuple()
"""


class Line(NamedTuple):
    """A line of an invoice, as it stands in the workbook."""

    Invoice: str
    StockCode: str
    InvoiceDate: str
    Quantity: int = 1
    UnitPrice: str = "1"
    Description: str | None = None
    CustomerID: int = 12346
    Country: str = "United Kingdom"
    Sheet: str = "Year 2009-2010"


NOVEMBER = [
    Line("536300", "CUP", "2010-11-02 08:00:00", 10, "2.55", "WHITE CUP"),
    Line("536300", "MUG", "2010-11-02 08:00:00", 4, "0.5", "MUG"),
    # The same product twice on one invoice, and a whole line twice.
    Line("536300", "CUP", "2010-11-02 08:00:00", 3, "2.35", "WHITE CUP"),
    Line("536300", "MUG", "2010-11-02 08:00:00", 4, "0.5", "MUG"),
    Line("536301", "MUG", "2010-11-03 09:30:00", 1, "0.5", "MUG", CustomerID=0),
    Line("C536302", "CUP", "2010-11-04 10:00:00", -2, "2.55", "WHITE CUP", 12350, "EIRE"),
]
DECEMBER = [
    Line("536400", "MUG", "2010-12-01 08:00:00", 2, "0.55", "RED MUG", 12350, "Italy"),
    Line("536401", "CUP", "2010-12-02 08:00:00", 1001, "2.1", "WHITE CUP"),
    Line("536401", "POST", "2010-12-02 08:00:00", 1, "0", None),
    Line("C536402", "MUG", "2010-12-03 08:00:00", -1, "0.5", "damaged?", CustomerID=0),
]
JANUARY = [
    Line("536500", "MUG", "2011-01-04 08:00:00", 6, "0.55", "RED MUG", Sheet="Year 2010-2011"),
    Line("536501", "CUP", "2011-01-05 08:00:00", 6, "2.1", "WHITE CUP", 12350, "EIRE"),
]
MONTHS = (NOVEMBER, DECEMBER, JANUARY)


class Retail:
    """The staging table and what dbt makes of it, in one ClickHouse."""

    def __init__(self, address: str, folder: Path) -> None:
        url = urlsplit(address)
        self._host, self._port = str(url.hostname), int(url.port or 0)
        self._folder = folder
        self.client: Client = clickhouse_connect.get_client(
            host=self._host, port=self._port, autogenerate_session_id=False
        )

    @property
    def environment(self) -> dict[str, str]:
        """Where dbt finds ClickHouse, and where it keeps its own files."""
        return {
            "DBT_CLICKHOUSE_HOST": self._host,
            "DBT_CLICKHOUSE_PORT": str(self._port),
            "DBT_TARGET_PATH": str(self._folder / "target"),
            "DBT_LOG_PATH": str(self._folder / "logs"),
            "NO_PROXY": "127.0.0.1",
        }

    @cached_property
    def manifest(self) -> Manifest:
        """The parsed project; parsing needs no database."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (self.environment | {"DBT_CLICKHOUSE_PORT": "1"}).items():
                patch.setenv(name, value)
            parsed = dbtRunner().invoke(["parse", *_arguments(None), *_SILENT])
        assert parsed.success, parsed.exception
        return parsed.result

    def drop(self) -> None:
        """Removes all tables; the database staging stays, which dbt remembers to be there."""
        for database in _DATABASES:
            self.client.command(f"DROP DATABASE IF EXISTS {database} SYNC")

    def empty(self) -> None:
        """Leaves nothing but an empty staging table."""
        self.drop()
        for database in ("raw", "staging"):
            self.client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        self.client.command(_CREATE_PSA)

    def stage(self, *months: Sequence[Line]) -> None:
        """Makes the lines of each month its content."""
        for lines in months:
            self.unstage(lines[0].InvoiceDate[:7])
            rows = pl.DataFrame([line._asdict() for line in lines], infer_schema_length=None)
            self.stage_frame(
                rows.with_columns(
                    pl.col("InvoiceDate").str.to_datetime(time_zone="UTC"),
                    pl.col("UnitPrice").cast(pl.Decimal(10, 4)),
                    Row=pl.int_range(2, pl.len() + 2, dtype=pl.UInt32),
                )
            )

    def stage_frame(self, rows: pl.DataFrame) -> None:
        """Adds rows, which have the columns of raw.lines."""
        self.client.command(_CREATE_LINES)
        self.client.insert_arrow("lines", rows.to_arrow(), database="raw")
        self.client.command(_STAGE)
        self.client.command("DROP TABLE raw.lines SYNC")

    def unstage(self, month: str) -> None:
        """Leaves the month without lines."""
        self.client.command(
            f"ALTER TABLE raw.psa_online_retails DROP PARTITION ID '{month.replace('-', '')}'"
        )

    def dbt(self, *command: str, months: Sequence[str] | None = None) -> dbtRunnerResult:
        """Runs dbt in this process; the project is parsed once, which takes longer than a run."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            runner = dbtRunner(manifest=self.manifest)
            return runner.invoke([*command, *_arguments(months), *_SILENT])

    def start_dbt(self, *command: str, months: Sequence[str] | None = None) -> subprocess.Popen:
        """Starts dbt in a process of its own, which keeps its files apart from others'."""
        folder = tempfile.mkdtemp(dir=self._folder)
        own = {"DBT_TARGET_PATH": folder, "DBT_LOG_PATH": folder}
        program = [sys.executable, "-c", "from dbt.cli.main import cli; cli()"]
        return subprocess.Popen(
            [*program, *command, *_arguments(months)],
            env={**os.environ, **self.environment, **own},
            stdout=subprocess.DEVNULL,
        )

    def make(self, months: Sequence[str] | None = None) -> None:
        """Makes the tables, all of them or the months, without the tests."""
        result = self.dbt("run", months=months)
        assert result.success, failures(result) or result.exception

    def rows(self, query: str) -> list[tuple]:
        return [tuple(row) for row in self.client.query(query).result_rows]

    def tables(self) -> dict[str, list[tuple]]:
        """All rows of all tables that dbt makes."""
        names = self.rows(
            "SELECT database || '.' || name FROM system.tables "
            "WHERE database IN ('vault', 'marts', 'quality') ORDER BY 1"
        )
        return {name: self.rows(f"SELECT * FROM {name} ORDER BY ALL") for (name,) in names}


def _arguments(months: Sequence[str] | None) -> list[str]:
    folder = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
    return folder if months is None else [*folder, "--vars", json.dumps({"months": list(months)})]


def failures(result: dbtRunnerResult) -> dict[str, Any]:
    """What did not succeed, by name, with dbt's message."""
    return {
        r.node.name: r.message
        for r in (result.result or [])
        if r.status not in ("success", "pass", "skipped")
    }


def skipped(result: dbtRunnerResult) -> set[str]:
    """The models that were not made since something before them failed."""
    return {
        r.node.name
        for r in result.result
        if r.status == "skipped" and r.node.resource_type == "model"
    }
