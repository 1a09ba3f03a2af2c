"""What all tests share: free ports, and one real ClickHouse server for the session."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clean_environment  # noqa: F401  # before anything reads settings
import homes
import pytest
from faults.table import fault_table
from homes import Home

from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.services.clickhouse import PUBLISHED_DATABASES, ClickHouseService
from lakehouse.settings import Settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="rehearse faults in full, not just a few")
    parser.addoption("--fault-seed", default="1", help="what the moments of faults follow from")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for each in terminalreporter.stats.values() for report in each]
    if table := fault_table(reports):
        terminalreporter.write(f"\n{table}")


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Finds a port on 127.0.0.1 that nothing listens on."""
    return homes.free_port


@pytest.fixture(scope="session")
def clickhouse_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseService]:
    """One running server for the session (of each xdist worker)."""
    home = tmp_path_factory.mktemp("session-home")
    service = ClickHouseService(Settings(home=home, clickhouse_port=homes.free_port()))
    service.start()
    yield service
    service.stop()


@pytest.fixture
def new_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of a size, such as `200k`; skips the test where nothing can be mounted."""
    disk = tmp_path / "disk"

    def mount(size: str) -> Path:
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", str(disk)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk takes root")
        return disk

    yield mount
    if os.path.ismount(disk):
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def settings(
    clickhouse_service: ClickHouseService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """A home of its own for each test, and the session's ClickHouse, empty again afterwards."""
    for variable in [name for name in os.environ if name.startswith("LAKEHOUSE_")]:
        monkeypatch.delenv(variable)
    settings = Settings(home=tmp_path / "home", clickhouse_url=clickhouse_service.status().address)
    yield settings
    with ClickHouse(settings).client() as client:
        for database in (*PUBLISHED_DATABASES, "staging"):
            client.command(f"DROP DATABASE IF EXISTS {database} SYNC")


@pytest.fixture
def make_home(
    tmp_path: Path,
) -> Iterator[Callable[..., Home]]:
    """Makes lakehouses, each with a home and services of its own; all are down afterwards."""
    made: list[Home] = []

    def make(mirror: Path | None = None, **options: Any) -> Home:
        folder = tmp_path / f"home-{len(made)}"
        made.append(Home(folder, mirror or tmp_path / "mirror", **options))
        return made[-1]

    yield make
    for home in made:
        home.down()
