"""The local BigQuery service: its environment is built whole or not at all, then started once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.bigquery import Client

from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.services.bigquery import (
    PROJECT,
    BigQueryService,
    available,
    emulator_environment,
    python_313,
)
from lakehouse.services.process import ServiceStatus
from lakehouse.settings import Settings

if reason := available(Settings()):
    pytest.skip(reason, allow_module_level=True)

BUILD = """
import sys
from pathlib import Path
from lakehouse.services.bigquery import emulator_environment
emulator_environment(Path(sys.argv[1]))
"""


@pytest.fixture
def service(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[BigQueryService]:
    service = BigQueryService(
        Settings(home=tmp_path / "home", bigquery_port=free_port(), gcs_port=free_port())
    )
    yield service
    service.stop()


def connect(status: ServiceStatus) -> Client:
    return Client(
        project=PROJECT,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": status.address},
    )


def answer(client: Client, sql: str) -> list[tuple]:
    return [row.values() for row in client.query_and_wait(sql)]


def test_it_is_started_once_found_again_and_stopped(service: BigQueryService) -> None:
    assert not service.status().running

    started = service.start()
    assert answer(connect(started), "SELECT 1 + 1") == [(2,)]
    assert service.start() == started

    assert service.stop()
    assert not service.status().running


def test_after_a_kill_it_has_its_data_and_no_job_that_never_ends(service: BigQueryService) -> None:
    killed = service.start()
    client = connect(killed)
    answer(client, "CREATE SCHEMA kept")
    answer(client, "CREATE TABLE kept.numbers AS SELECT 7 AS n")
    endless = "LOOP SELECT 1; END LOOP;"
    job = client.query(endless, job_id="endless", job_retry=None)
    assert job.state == "RUNNING"
    os.kill(killed.pid, signal.SIGKILL)
    psutil.Process(killed.pid).wait(10)

    client = connect(service.start())
    assert answer(client, "SELECT n FROM kept.numbers") == [(7,)]
    job = client.get_job("endless")
    assert (job.state, job.error_result["reason"]) == ("DONE", "stopped")


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[BigQueryService]:
    """Started by somebody whose own Python has a module of a name that the emulator needs."""
    home = tmp_path_factory.mktemp("bigquery")
    (home / "duckdb.py").write_text("raise SystemExit('the wrong duckdb')")
    service = BigQueryService(Settings(home=home, bigquery_port=free_port(), gcs_port=free_port()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(service.settings.cache.parent))
        patch.setenv("PYTHONPATH", str(home))
        patch.setenv("HOME", str(home))
        service.start()
    yield service
    service.stop()


def test_it_listens_on_loopback_only(running: BigQueryService) -> None:
    connections = psutil.Process(running.status().pid).net_connections(kind="inet")
    listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert running.port in [address.port for address in listening]


def test_it_puts_nothing_into_the_users_home(running: BigQueryService) -> None:
    assert answer(connect(running.status()), "SELECT 1") == [(1,)]
    assert not (running.settings.home / ".duckdb").exists()


def test_a_taken_port_is_named_with_the_setting(running: BigQueryService, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other", bigquery_port=running.port)
    with pytest.raises(LakehouseError, match="LAKEHOUSE_BIGQUERY_PORT"):
        BigQueryService(other).start()


def test_a_build_that_is_killed_leaves_nothing_half(tmp_path: Path) -> None:
    build = subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path)])
    while not list(tmp_path.glob("*.draft/lib")):
        assert build.poll() is None
        time.sleep(0.01)
    build.kill()
    build.wait()
    assert [
        path.name for path in tmp_path.iterdir() if path.suffix not in (".draft", ".lock")
    ] == []

    environment = emulator_environment(tmp_path)
    python = [environment / "bin" / "python", "-I", "-c", "import local_bigquery, duckdb"]
    assert subprocess.run(python, check=False).returncode == 0
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [environment]
    assert emulator_environment(tmp_path) == environment
    shutil.rmtree(environment)  # half a gigabyte


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has never run anything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return tmp_path / "lakehouse"


@pytest.fixture
def no_python_313(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where pyenv would keep its Pythons, and none elsewhere."""
    if sys.version_info[:2] == (3, 13):
        pytest.skip("the tests themselves run on Python 3.13")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "none"))
    return tmp_path / "pyenv"


def test_without_python_313_it_is_said_what_to_do(no_cache: Path, no_python_313: Path) -> None:
    with pytest.raises(LakehouseError) as error:
        emulator_environment(no_cache)
    assert str(error.value) == (
        "The local BigQuery service needs Python 3.13 beside the one that runs the lakehouse: "
        "install Python 3.13, set LAKEHOUSE_BIGQUERY_PROJECT to a Google Cloud project, "
        "or switch it off with LAKEHOUSE_WITHOUT=bigquery."
    )
    assert available(Settings()) == str(error.value)


def test_a_shim_that_does_not_run_is_passed_over_for_pyenvs_own_python(
    tmp_path: Path, no_cache: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    found = python_313()
    pyenv = request.getfixturevalue("no_python_313")
    shim, own = tmp_path / "bin" / "python3.13", pyenv / "versions" / "3.13.9" / "bin" / "python"
    for path in (shim, own):
        path.parent.mkdir(parents=True)
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    own.symlink_to(found)
    assert python_313() == own
    assert available(Settings()) is None


def test_without_uv_it_is_said_what_to_install(
    no_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "pip install 'lakehouse[local]'" in str(available(Settings()))


def test_without_a_network_it_is_said_in_one_sentence(
    no_cache: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{free_port()}/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(UnavailableError, match="connect to a network") as error:
        emulator_environment(no_cache)
    assert "\n" not in str(error.value)
    assert not list(no_cache.glob("*.draft"))


def test_a_package_that_is_not_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "other.lock"
    lock.write_text(f"annotated-doc==0.0.7 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr("lakehouse.services.bigquery._LOCK", lock)
    with pytest.raises(LakehouseError, match="is not the published one"):
        emulator_environment(tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
