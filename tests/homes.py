"""A lakehouse of its own for a test: home, mirror and ClickHouse, and the command in it."""

import hashlib
import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse.cli import main
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.lake import Lake
from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.settings import Settings
from lakehouse.tables import drives as tables

COMMAND = Path(sys.executable).with_name("lakehouse")

LAKE_TABLES = (
    *(tables.BRONZE, tables.REJECTS, tables.SILVER, tables.DAILY_SUMMARY),
    *(tables.FAILURE_RATES, tables.PERIOD_FAILURE_RATES, tables.YEARLY_SUMMARY),
)
PUBLISHED = ("daily_summary", "failure_rates", "yearly_summary")


@dataclass(frozen=True)
class Answer:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be JSON and nothing else."""
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one line of a mistake, which is all that is said."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert self.out == ""
        assert len(lines) == 1, self.err
        return lines[0]


@dataclass
class Home:
    """A lakehouse in a folder, with settings of its own."""

    folder: Path
    mirror: Path
    port: int
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "LAKEHOUSE_HOME": str(self.folder),
            "LAKEHOUSE_SOURCE_MIRROR": str(self.mirror),
            "LAKEHOUSE_CLICKHOUSE_PORT": str(self.port),
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LAKEHOUSE_", "DAGSTER_"))}
        return kept | ours | self.variables

    @cached_property
    def settings(self) -> Settings:
        return Settings(home=self.folder, clickhouse_port=self.port, source_mirror=str(self.mirror))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command as a process of its own."""
        return subprocess.Popen(
            [COMMAND, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> Answer:
        """The command as a process of its own, to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return Answer(process.returncode, out, err)

    def call(self, *arguments: str, **variables: str) -> Answer:
        """The same in this process, which saves the two seconds that importing Dagster takes."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            for name in [n for n in os.environ if n.startswith(("LAKEHOUSE_", "DAGSTER_"))]:
                patch.delenv(name)
            for name, value in (self.environment | variables).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["lakehouse", *arguments])
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Answer(code, out.getvalue(), err.getvalue())

    def backfill(self, first: str, last: str | None = None, *options: str) -> dict[str, Any]:
        """Backfill in this process; the reports by partition."""
        answer = self.call("backfill", "drives", "--from", first, "--to", last or first, *options)
        assert answer.code == 0, answer.out + answer.err
        return answer.json if "--json" in options else {}

    def query(self, sql: str) -> list[dict[str, Any]]:
        answer = self.call("query", sql, "--format", "json")
        assert answer.code == 0, answer.err
        return answer.json

    def rows(self, table: Any) -> pl.DataFrame:
        """A table of the lake without what differs between two runs of the same work."""
        frame = Lake(self.settings).scan(table).collect()
        return frame.drop("run_id", "_extracted_at", strict=False)

    def tables(self) -> dict[str, str]:
        """A digest of the rows of every table, of the lake and as published."""
        found = {table.name: _digest(self.rows(table)) for table in LAKE_TABLES}
        with ClickHouse(self.settings).client() as client:
            for name in PUBLISHED:
                rows = client.query(f"SELECT * FROM drives.{name} ORDER BY ALL").result_rows
                found[f"clickhouse {name}"] = _hash(repr(rows))
        return found

    def down(self) -> None:
        ClickHouseService(self.settings).stop()


def _digest(frame: pl.DataFrame) -> str:
    frame = frame.select(sorted(frame.columns))
    return _hash(frame.sort(pl.all()).write_csv())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
