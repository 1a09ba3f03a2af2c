"""A lakehouse of its own for a test: home, mirror and ClickHouse, and the command in it."""

import hashlib
import io
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pytest

from lakehouse.cli import main
from lakehouse.resources.bigquery import BigQuery
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.lake import Lake
from lakehouse.resources.objects import Objects
from lakehouse.resources.postgres import Postgres
from lakehouse.services import bigquery
from lakehouse.services.local import local_services
from lakehouse.settings import Settings
from lakehouse.tables import drives as tables
from lakehouse.tables import taxi

COMMAND = Path(sys.executable).with_name("lakehouse")

LAKE_TABLES = (
    *(tables.BRONZE, tables.REJECTS, tables.SILVER, tables.DAILY_SUMMARY),
    *(tables.DAILY_BRAND_SUMMARY, tables.FAILURE_RATES),
    *(tables.PERIOD_FAILURE_RATES, tables.YEARLY_SUMMARY),
)
SERVICES = ("clickhouse", "gcs", "bigquery", "postgres")
PUBLISHED = ("daily_summary", "daily_brand_summary", "failure_rates", "yearly_summary")


WITHOUT = "bigquery" if bigquery.available(Settings()) else ""
"""What cannot run on this machine: the BigQuery emulator needs a Python 3.13."""

Tables: TypeAlias = dict[str, Counter[str]]
"""The rows of each table, and how often it has each of them."""


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


def _ports_of_this_worker() -> Iterator[int]:
    """Ports that neither the kernel gives to connections nor another worker to its services.

    A service starts when it is first needed, by when somebody else might have the port.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + worker % 4 * _PORTS_OF_A_WORKER
    start = random.randrange(_PORTS_OF_A_WORKER)  # another session may run beside this one
    for number in count(start):
        yield first + number % _PORTS_OF_A_WORKER


_PORTS_OF_A_WORKER = 3_000
_ports = _ports_of_this_worker()


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on."""
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the ports never end")


@dataclass
class Home:
    """A lakehouse in a folder, with settings and services of its own."""

    folder: Path
    mirror: Path
    variables: dict[str, str] = field(default_factory=lambda: {"LAKEHOUSE_WITHOUT": WITHOUT})
    ports: dict[str, int] = field(
        default_factory=lambda: {f"{service}_port": free_port() for service in SERVICES}
    )

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "LAKEHOUSE_HOME": str(self.folder),
            "LAKEHOUSE_SOURCE_MIRROR": str(self.mirror),
            **{f"LAKEHOUSE_{name.upper()}": str(port) for name, port in self.ports.items()},
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LAKEHOUSE_", "DAGSTER_"))}
        return kept | ours | self.variables

    @cached_property
    def settings(self) -> Settings:
        more = {
            name.removeprefix("LAKEHOUSE_").lower(): value for name, value in self.variables.items()
        }
        return Settings(home=self.folder, source_mirror=str(self.mirror), **self.ports, **more)

    @property
    def has_bigquery(self) -> bool:
        return "bigquery" not in self.settings.without.split()

    def start(
        self, *arguments: str, variables: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """The command as a process of its own."""
        return subprocess.Popen(
            [COMMAND, *arguments],
            env=self.environment | dict(variables or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments: str, variables: Mapping[str, str] | None = None) -> Answer:
        """The command as a process of its own, to its end."""
        return ended(self.start(*arguments, variables=variables))

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

    def backfill(
        self, first: str, last: str | None = None, *options: str, dataset: str = "drives"
    ) -> dict[str, Any]:
        """Backfill in this process; the reports."""
        answer = self.call("backfill", dataset, "--from", first, "--to", last or first, *options)
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
        return digests(self.drive_tables())

    def drive_tables(self) -> Tables:
        """All that is made of drive stats, in the lake and as published."""
        found = {table.name: lines(self.rows(table)) for table in LAKE_TABLES}
        with ClickHouse(self.settings).client() as client:
            for name in PUBLISHED:
                rows = client.query(f"SELECT * FROM drives.{name}").result_rows
                found[f"clickhouse {name}"] = counted(rows)
        return found

    def taxi_tables(self, service: str = "green") -> Tables:
        """All that is made of a taxi service, of objects their bytes as well as their rows."""
        found: Tables = {}
        objects = Objects(self.settings)
        for name, _ in objects.list(f"data/{service}/"):
            with objects.local(name) as local:
                digest = hashlib.sha256(local.path.read_bytes()).hexdigest()
                found[name] = lines(pl.read_parquet(local.path)) + Counter([digest])
        table = f"{service}_trips"
        found["postgres"] = counted(Postgres(self.settings).query(f"SELECT * FROM taxi.{table}")[1])
        if self.has_bigquery:
            found["bigquery"] = counted(BigQuery(self.settings).query(f"SELECT * FROM {table}")[1])
        lake_tables = [gold.publication.gold for gold in taxi.gold_tables(service).values()]
        for lake_table in (*lake_tables, taxi.REJECTS[service]):
            found[lake_table.name] = lines(self.rows(lake_table))
        with ClickHouse(self.settings).client() as client:
            for name in taxi.gold_tables(service):
                sql = f"SELECT * FROM taxi.{name} WHERE service = %(service)s"
                found[f"clickhouse {name}"] = counted(
                    client.query(sql, {"service": service}).result_rows
                )
        return found

    def begun(self, step: str) -> int:
        """How often a step began, as Dagster's history says."""
        database = self.folder / "dagster" / "storage" / "event_log.db"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as history:
            sql = (
                "SELECT count(*) FROM event_logs"
                " WHERE dagster_event_type = 'STEP_START' AND step_key = ?"
            )
            return int(history.execute(sql, (step,)).fetchone()[0])

    def wait_until_it_begins(self, process: subprocess.Popen[str], step: str) -> None:
        """Until a process begins a step."""
        before = self.begun(step)
        wait_until(process, lambda: self.begun(step) > before, f"{step} never began")

    def down(self) -> None:
        for service in local_services(self.settings):
            service.stop()


def ended(process: subprocess.Popen[str], seconds: float = 300) -> Answer:
    """What a process said, once it has ended, for which it has so many seconds."""
    with process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Answer(process.returncode, out, err)


def lines(frame: pl.DataFrame) -> Counter[str]:
    """The rows of a frame, and its header, without columns that have nothing in them."""
    filled = [column.name for column in frame if column.null_count() < frame.height]
    return Counter(frame.select(sorted(filled)).write_csv().splitlines())


def counted(rows: Iterable[Any]) -> Counter[str]:
    """The rows of a database."""
    return Counter(map(repr, rows))


def digests(tables: Tables) -> dict[str, str]:
    """The same for the same rows, in any order."""
    return {
        name: hashlib.sha256(repr(sorted(rows.items())).encode()).hexdigest()
        for name, rows in tables.items()
    }


def wait_until(process: subprocess.Popen[str], holds: Callable[[], bool], otherwise: str) -> None:
    """Until something holds, which must be before the process ends."""
    while not holds():
        assert process.poll() is None, f"{otherwise}: {process.communicate()}"
        time.sleep(0.005)
