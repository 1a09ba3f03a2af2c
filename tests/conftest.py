"""What all tests share: free ports, and one real ClickHouse server for the session."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from homes import Home

from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.services.clickhouse import PUBLISHED_DATABASES, ClickHouseService
from lakehouse.settings import Settings


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Finds a port on 127.0.0.1 that nothing listens on."""
    return _free_port


@pytest.fixture(scope="session")
def clickhouse_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseService]:
    """One running server for the session (of each xdist worker)."""
    home = tmp_path_factory.mktemp("session-home")
    service = ClickHouseService(Settings(home=home, clickhouse_port=_free_port()))
    service.start()
    yield service
    service.stop()


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
    tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[Callable[[Path | None], Home]]:
    """Makes lakehouses, each with a home and a ClickHouse of its own; all are down afterwards."""
    homes: list[Home] = []

    def make(mirror: Path | None = None) -> Home:
        folder = tmp_path / f"home-{len(homes)}"
        homes.append(Home(folder, mirror or tmp_path / "mirror", free_port()))
        return homes[-1]

    yield make
    for home in homes:
        home.down()
