"""How a comparison is measured: each side in a process of its own, one after the other."""

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

ROOT = Path(__file__).resolve().parent.parent
MIRROR = Path(os.environ.get("LAKEHOUSE_SOURCE_MIRROR", ROOT.parent / "shared" / "mirror"))

SERVICES = ("CLICKHOUSE", "GCS", "BIGQUERY", "POSTGRES")

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
    """An empty home with its own services, which run before the clock starts."""

    def __init__(self, mirror: Path, **variables: str):
        self.folder = Path(tempfile.mkdtemp(prefix="lakehouse-bench-"))
        self.environment = {
            "LAKEHOUSE_HOME": str(self.folder),
            "LAKEHOUSE_SOURCE_MIRROR": str(mirror),
            **{f"LAKEHOUSE_{service}_PORT": str(free_port()) for service in SERVICES},
            **variables,
        }
        self.lakehouse("up")

    def lakehouse(self, *arguments: str) -> Run:
        return run([sys.executable, "-m", "lakehouse.cli", *arguments], **self.environment)

    def python(self, *arguments: str) -> Run:
        return run([sys.executable, *arguments], **self.environment)

    def remove(self) -> None:
        self.lakehouse("down")
        shutil.rmtree(self.folder)


def baseline(script: str, *arguments: str | Path) -> dict[str, float]:
    """Run another way to the same tables, in the environment that has the originals' tools."""
    interpreter = ROOT / ".venv-bench" / "bin" / "python"
    python = str(interpreter) if interpreter.exists() else sys.executable
    return run([python, str(ROOT / "benchmarks" / script), *map(str, arguments)]).json


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def row(table: Table, what: str, left: float, right: float, aim: str) -> None:
    table.add_row(what, f"{left:,.2f}", f"{right:,.2f}", f"{left / right:.2f}", aim)
