"""How things are measured: each side in a process of its own, one after the other."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from socket import socket

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
MIRROR = Path(os.environ.get("LAKEHOUSE_SOURCE_MIRROR", ROOT.parent / "shared" / "mirror"))

SERVICES = ("CLICKHOUSE", "GCS", "BIGQUERY", "POSTGRES")

err = Console(stderr=True)


@dataclass(frozen=True)
class Aim:
    """What the left side, or its ratio to the right one, should come to."""

    limit: float
    at_least: bool = False
    of_left: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:,g}{' (left)' if self.of_left else ''}"


@dataclass(frozen=True)
class Comparison:
    """Two things measured in one go, and what their ratio should be."""

    what: str
    left: float
    right: float
    aim: Aim | None = None

    @property
    def ratio(self) -> float:
        """How many times the right side the left one is; 0 where both are nothing."""
        return self.left / self.right if self.right else 0.0

    @property
    def missed(self) -> bool:
        """Whether there is an aim and it is not met."""
        if self.aim is None:
            return False
        found = self.left if self.aim.of_left else self.ratio
        return found < self.aim.limit if self.aim.at_least else found > self.aim.limit


def at_most(limit: float) -> Aim:
    return Aim(limit)


def at_least(limit: float) -> Aim:
    return Aim(limit, at_least=True)


def left_at_most(limit: float) -> Aim:
    return Aim(limit, of_left=True)


@dataclass(frozen=True)
class Run:
    """A program that was run: its time, largest memory, what it wrote to disk, and what it printed.

    Of the services that it uses, nothing is counted but its waiting for them.
    """

    seconds: float
    peak_mb: float
    written_mb: float
    output: str

    @property
    def json(self) -> dict[str, float]:
        return dict(json.loads(self.output.strip().splitlines()[-1]))


def run(command: list[str], **environment: str) -> Run:
    """Run a program to its end; a failure shows what it said and ends the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measured.json"
        measure = [sys.executable, "-S", str(ROOT / "benchmarks" / "measured.py"), str(file)]
        result = subprocess.run(
            [*measure, *command],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        measured = json.loads(file.read_text())
    if measured.pop("code"):
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr}")
    return Run(**measured, output=result.stdout)


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
