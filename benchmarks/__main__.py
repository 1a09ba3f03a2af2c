"""Us beside the original's way and beside the bare bound, in one go: `make bench`.

Prints seconds, peak memory and the ratio of each comparison, beside the ratio aimed at. Needs the
publisher's files in ../shared/mirror or LAKEHOUSE_SOURCE_MIRROR for the comparisons of 2018 Q1.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from socket import socket

from rich.console import Console
from rich.table import Table

from benchmarks.modern_month import make_modern_month
from lakehouse.samples.drives import DRIVE_FOLDER

ROOT = Path(__file__).resolve().parent.parent
MIRROR = Path(os.environ.get("LAKEHOUSE_SOURCE_MIRROR", ROOT.parent / "shared" / "mirror"))
QUARTER = ["--from", "2018-01", "--to", "2018-03"]
BRONZE = 'key:"drives/raw/archive" or key:"drives/bronze/drive_days"'

err = Console(stderr=True)


@dataclass(frozen=True)
class Run:
    """A program that was run: its time, its own largest memory, and what it printed."""

    seconds: float
    peak_mb: float
    output: str

    @property
    def json(self) -> dict[str, float]:
        return dict(json.loads(self.output.strip().splitlines()[-1]))


def run(command: list[str], **environment: str) -> Run:
    """Run a program to its end; a failure shows what it said and ends the benchmark."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        output.seek(0)
        errors.seek(0)
        if os.waitstatus_to_exitcode(status):
            sys.exit(f"{' '.join(command)} failed:\n{errors.read().decode()}")
        return Run(seconds, usage.ru_maxrss / 1024, output.read().decode())


class Home:
    """An empty home with its own ClickHouse server, which runs before the clock starts."""

    def __init__(self, mirror: Path):
        self._folder = Path(tempfile.mkdtemp(prefix="lakehouse-bench-"))
        with socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._environment = {
            "LAKEHOUSE_HOME": str(self._folder),
            "LAKEHOUSE_SOURCE_MIRROR": str(mirror),
            "LAKEHOUSE_CLICKHOUSE_PORT": str(port),
        }
        self.lakehouse("up")

    def lakehouse(self, *arguments: str) -> Run:
        return run([sys.executable, "-m", "lakehouse.cli", *arguments], **self._environment)

    def python(self, *arguments: str) -> Run:
        return run([sys.executable, *arguments], **self._environment)

    def remove(self) -> None:
        self.lakehouse("down")
        shutil.rmtree(self._folder)


def baseline(name: str, archive: Path) -> dict[str, float]:
    interpreter = ROOT / ".venv-bench" / "bin" / "python"
    python = str(interpreter) if interpreter.exists() else sys.executable
    return run([python, str(ROOT / "benchmarks" / "baselines.py"), name, str(archive)]).json


def quarter(table: Table) -> None:
    """2018 Q1: against pandas and Spark, against a plain loop, and a second time."""
    archive = MIRROR / DRIVE_FOLDER / "data_Q1_2018.zip"
    if not archive.exists():
        err.print(f"The comparisons of 2018 Q1 need {archive}.")
        return
    home = Home(MIRROR)
    first = home.lakehouse("backfill", "drives", *QUARTER)
    second = home.lakehouse("backfill", "drives", *QUARTER)
    home.remove()
    spark = baseline("spark", archive)
    home = Home(MIRROR)
    loop = home.python("-m", "benchmarks.plain_loop", "2018-01", "2018-02", "2018-03")
    home.remove()
    row(
        table, "2018 Q1, the command: pandas and Spark / us", spark["seconds"], first.seconds, "≥ 3"
    )
    row(table, "2018 Q1, the command: us / a plain loop", first.seconds, loop.seconds, "≤ 1.5")
    row(table, "2018 Q1 again, unchanged: second / first", second.seconds, first.seconds, "≤ 0.3")


def modern_quarter(table: Table) -> None:
    """Three modern months, 3 million rows of 197 columns: against a plain loop, and again."""
    months = ["2024-04", "2024-05", "2024-06"]
    with tempfile.TemporaryDirectory() as folder:
        make_modern_month(Path(folder), rows=3_000_000, days=91)
        home = Home(Path(folder))
        first = home.lakehouse("backfill", "drives", "--from", months[0], "--to", months[-1])
        second = home.lakehouse("backfill", "drives", "--from", months[0], "--to", months[-1])
        home.remove()
        home = Home(Path(folder))
        loop = home.python("-m", "benchmarks.plain_loop", *months)
        home.remove()
    row(table, "2024 Q2, 3 M x 197: us / a plain loop", first.seconds, loop.seconds, "≤ 1.5")
    row(table, "2024 Q2 again, unchanged: second / first", second.seconds, first.seconds, "≤ 0.3")


def modern_month(table: Table) -> None:
    """3 million rows of 197 columns to bronze, and memory over 7 and 28 days."""
    with tempfile.TemporaryDirectory() as folder:
        archive = make_modern_month(Path(folder), rows=3_000_000, days=30)
        bare = baseline("polars", archive)
        home = Home(Path(folder))
        ours = home.lakehouse(
            "backfill", "drives", "--from", "2024-04", "--select", BRONZE, "--json"
        )
        home.remove()
    seconds = json.loads(ours.output)[0]["seconds"]
    row(table, "3 M x 197, archive to bronze: us / bare Polars", seconds, bare["seconds"], "≤ 1.5")
    row(
        table, "its peak memory, MB: us / bare Polars", ours.peak_mb, bare["peak_rss_mb"], "4096 MB"
    )
    peaks = []
    for days in (7, 28):
        with tempfile.TemporaryDirectory() as folder:
            make_modern_month(Path(folder), rows=days * 100_000, days=days)
            home = Home(Path(folder))
            peaks.append(
                home.lakehouse(
                    "backfill", "drives", "--from", "2024-04", "--select", BRONZE
                ).peak_mb
            )
            home.remove()
    row(table, "peak memory, MB: 28 days / 7 days", peaks[1], peaks[0], "≤ 1.3")


def row(table: Table, what: str, left: float, right: float, aim: str) -> None:
    table.add_row(what, f"{left:,.2f}", f"{right:,.2f}", f"{left / right:.2f}", aim)


def main() -> None:
    table = Table("comparison", "left", "right", "ratio", "aim", title="Seconds, if not said")
    for benchmark in (quarter, modern_quarter, modern_month):
        with err.status(f"{benchmark.__doc__}"):
            benchmark(table)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
