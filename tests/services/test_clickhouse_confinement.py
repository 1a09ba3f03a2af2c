"""What the accounts of the local ClickHouse do not get at: files, connections, system tables."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from homes import free_port

from lakehouse.services import landlock
from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.services.process import LocalService
from lakehouse.settings import Settings

needs_landlock = pytest.mark.skipif(
    not landlock.available(), reason="this kernel has no Landlock, or an old one"
)

TO_READ = {
    "what ClickHouse can do": {
        *("aggregate_function_combinators", "collations", "contributors", "data_type_families"),
        *("database_engines", "dictionary_layouts", "disk_types", "formats", "functions"),
        *("licenses", "one", "privileges", "table_engines", "table_functions", "time_zones"),
    },
    "the tables that the account may read": {"columns", "completions", "databases", "tables"},
    "the account itself": {"current_roles", "enabled_roles", "quota_usage", "settings"},
}


@pytest.fixture
def service(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[ClickHouseService]:
    service = ClickHouseService(Settings(home=tmp_path / "home", clickhouse_port=free_port()))
    yield service
    service.stop()


@pytest.fixture(scope="module")
def by_landlock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseService]:
    """A server that Landlock alone confines: it has the folder that it works in."""
    home = tmp_path_factory.mktemp("landlock")
    service = ClickHouseService(Settings(home=home, clickhouse_port=free_port()))
    LocalService.start(service)
    yield service
    service.stop()


def connect(service: ClickHouseService, user: str) -> Any:
    return clickhouse_connect.get_client(dsn=service.status().address, username=user)


def refusal(service: ClickHouseService, user: str, sql: str) -> str:
    with pytest.raises(DatabaseError) as error:
        connect(service, user).command(sql)
    return str(error.value)


@pytest.fixture
def planted(by_landlock: ClickHouseService) -> Iterator[dict[str, Path]]:
    """Files of the lakehouse, and a link in the server's own folder that leads to one."""
    home, data = by_landlock.settings.state, by_landlock.data
    landed, link = home / "lake" / "table.parquet", data / "way_out"
    landed.parent.mkdir(exist_ok=True)
    landed.write_text("ours")
    link.symlink_to(landed)
    library = next(by_landlock.settings.cache.rglob("libchdb.so"))
    yield {"home": home, "data": data, "library": library}
    link.unlink()


@needs_landlock
@pytest.mark.parametrize("user", ["reader", "default"])
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/proc/self/root/etc/passwd",
        "/proc/self/environ",
        "/proc/self/cmdline",
        "/proc/self/fd/1",
        "{home}/lake/table.parquet",
        "{data}/../config.xml",
        "{data}/../users.xml",
        "{data}/../server.log",
        "{data}/way_out",
        "{library}",
    ],
)
def test_landlock_lets_no_file_be_read(
    by_landlock: ClickHouseService, planted: dict[str, Path], path: str, user: str
) -> None:
    said = refusal(by_landlock, user, f"SELECT file('{path.format(**planted)}')")
    assert "Cannot open file" in said
    assert "Permission denied" in said


@needs_landlock
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO FUNCTION file('{path}', 'CSV') SELECT 1",
        "SELECT 1 AS a FORMAT Protobuf SETTINGS output_format_schema = '{path}.proto'",
        "CREATE DATABASE outside ENGINE = SQLite('{path}')",
    ],
)
def test_landlock_lets_no_file_be_made(
    by_landlock: ClickHouseService, tmp_path: Path, sql: str
) -> None:
    refusal(by_landlock, "default", sql.format(path=tmp_path / "made"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("user", ["reader", "default"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT file('{data}/mine')",
        "SELECT file('{data}/mine', 'nothing')",
        "SELECT file('mine')",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM sqlite('{data}/made', 't')",
        "SELECT * FROM sqlite('{elsewhere}/made', 't')",
    ],
)
def test_no_path_is_found_even_below_its_own_data(
    clickhouse_service: ClickHouseService, tmp_path: Path, sql: str, user: str
) -> None:
    data = clickhouse_service.data
    (data / "mine").write_text("a table's rows")
    said = refusal(clickhouse_service, user, sql.format(data=data, elsewhere=tmp_path))
    assert "getcwd failed" in said
    assert not (data / "made").exists()
    assert list(tmp_path.iterdir()) == []


def test_the_same_after_it_is_found_running(service: ClickHouseService) -> None:
    LocalService.start(service)  # and its starter was killed
    assert service.working_folder.exists()
    ClickHouseService(service.settings).start()
    assert "getcwd failed" in refusal(service, "reader", f"SELECT file('{service.data}/status')")
    service.stop()
    service.start()
    assert "getcwd failed" in refusal(service, "reader", f"SELECT file('{service.data}/status')")


@pytest.mark.parametrize(
    "setting",
    [
        "format_schema",
        "format_template_resultset",
        "format_template_row",
        "input_format_record_errors_file_path",
        "output_format_schema",
    ],
)
def test_a_reader_cannot_name_files_in_settings(
    clickhouse_service: ClickHouseService, tmp_path: Path, setting: str
) -> None:
    path = tmp_path / "file"
    said = refusal(clickhouse_service, "reader", f"SELECT 1 AS a SETTINGS {setting} = '{path}'")
    assert f"{setting} should not be changed" in said


@pytest.mark.skipif(landlock._version() < 4, reason="Landlock of this kernel knows no connections")
def test_no_connection_can_be_made(clickhouse_service: ClickHouseService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(1)
        address = f"http://127.0.0.1:{other.getsockname()[1]}/"
        sql = f"SELECT * FROM url('{address}', 'LineAsString') SETTINGS http_max_tries = 1"
        assert "Permission denied" in refusal(clickhouse_service, "default", sql)
        with pytest.raises(TimeoutError):
            other.accept()


def test_a_reader_reads_no_more_system_tables_than_it_needs(
    clickhouse_service: ClickHouseService,
) -> None:
    reader = connect(clickhouse_service, "reader")

    def is_readable(name: str) -> bool:
        try:
            reader.command(f"SELECT * FROM system.{name} LIMIT 0")
        except DatabaseError as error:
            return error.name != "ACCESS_DENIED"
        return True

    sql = "SELECT name FROM system.tables WHERE database = 'system'"
    names = [name for (name,) in connect(clickhouse_service, "default").query(sql).result_rows]
    assert len(names) > 100
    assert set(filter(is_readable, names)) == set.union(*TO_READ.values())


def test_tables_are_made_changed_and_kept(service: ClickHouseService) -> None:
    service.start()
    client = connect(service, "default")
    for sql in (
        "CREATE DATABASE drives",
        "CREATE TABLE drives.t (n UInt8) ENGINE = MergeTree ORDER BY n PARTITION BY n % 2",
        "INSERT INTO drives.t SELECT number FROM numbers(10)",
        "CREATE TABLE drives.aside AS drives.t",
        "INSERT INTO drives.aside SELECT number FROM numbers(100)",
        "ALTER TABLE drives.t REPLACE PARTITION ID '1' FROM drives.aside",
        "EXCHANGE TABLES drives.t AND drives.aside",
        "ALTER TABLE drives.aside ADD COLUMN kind String DEFAULT 'old'",
        "ALTER TABLE drives.aside DELETE WHERE n = 0 SETTINGS mutations_sync = 2",
        "OPTIMIZE TABLE drives.aside FINAL",
        "CREATE VIEW drives.seen AS SELECT n, kind FROM drives.aside",
        "RENAME TABLE drives.t TO drives.other",
        "DROP TABLE drives.other SYNC",
        "SELECT number FROM numbers(1000000) ORDER BY rand() LIMIT 999990, 1"
        " SETTINGS max_bytes_before_external_sort = 100000",
    ):
        client.command(sql)
    service.stop()
    service.start()
    found = connect(service, "reader").query("SELECT count(), max(n), any(kind) FROM drives.seen")
    assert found.result_rows == [(54, 99, "old")]


def test_its_log_does_not_speak_of_what_it_must_do_without(service: ClickHouseService) -> None:
    service.start()
    connect(service, "reader").command("SELECT sum(number) FROM numbers_mt(1000000)")
    said = service.log.read_text()
    assert "Permission denied" not in said
    assert ("Landlock" in said) is not landlock.available()


def test_without_landlock_it_starts_and_says_what_that_means(
    service: ClickHouseService, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_an_old_kernel = (
        "import runpy; from lakehouse.services import landlock; landlock._version = lambda: 1; "
        "runpy.run_module('lakehouse.services.chdb_server', run_name='__main__')"
    )
    service.data.mkdir(parents=True)
    command = service.command()
    place = command.index("-m")
    command[place : place + 2] = ["-c", as_on_an_old_kernel]
    monkeypatch.setattr(service, "command", lambda: command)

    LocalService.start(service)
    assert connect(service, "reader").command(f"SELECT file('{os.devnull}')") == ""
    said = [line for line in service.log.read_text().splitlines() if "Landlock" in line]
    assert len(said) == 1
    assert "only that ClickHouse finds no paths" in said[0]
