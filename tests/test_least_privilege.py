"""The grants that SECURITY.md names suffice, and readers' accounts cannot write."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from homes import Home, free_port

from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.samples.drives import make_drive_archives
from lakehouse.samples.retail import make_retail_workbook
from lakehouse.samples.taxi import make_taxi_months
from lakehouse.services import clickhouse
from lakehouse.services.clickhouse import PUBLISHED_DATABASES, ClickHouseService
from lakehouse.services.postgres import PostgresService
from lakehouse.settings import Settings

PAGE = (Path(__file__).resolve().parent.parent / "SECURITY.md").read_text()
POSTGRES, CLICKHOUSE = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
WRITERS_GRANT, READERS_GRANT = re.findall(r"^GRANT (.*) ON database\.\*", CLICKHOUSE, re.MULTILINE)


def granted(rights: str, databases: tuple[str, ...]) -> str:
    return "".join(f"<query>GRANT {rights} ON {name}.*</query>" for name in databases)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseService]:
    """A server with a writer that has these grants and no others."""
    general = re.findall(r"^(GRANT .* ON (?:MergeTree|system\.parts)) TO", CLICKHOUSE, re.MULTILINE)
    assert len(general) == 2
    grants = "".join(f"<query>{grant}</query>" for grant in general)
    writer = f"""
    <writer>
      <password>open sesame</password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile><quota>default</quota>
      <grants>{grants}{granted(WRITERS_GRANT, (*PUBLISHED_DATABASES, "staging"))}</grants>
    </writer>
  </users>"""
    home = tmp_path_factory.mktemp("server")
    service = ClickHouseService(Settings(home=home, clickhouse_port=free_port()))
    with pytest.MonkeyPatch.context() as patch:
        users = clickhouse._USERS.replace("</users>", writer)
        patch.setattr(clickhouse, "_USERS", users)
        service.start()
    yield service
    service.stop()


def test_clickhouse_takes_no_more_than_is_granted(
    tmp_path: Path, make_home: Callable[..., Home], server: ClickHouseService
) -> None:
    make_drive_archives(tmp_path / "mirror", months=["2018-02"], drives=20)
    make_retail_workbook(tmp_path / "mirror")
    home = make_home(
        variables={
            "LAKEHOUSE_CLICKHOUSE_URL": server.status().address,
            "LAKEHOUSE_CLICKHOUSE_USER": "writer",
            "LAKEHOUSE_CLICKHOUSE_PASSWORD": "open sesame",
            "LAKEHOUSE_WITHOUT": "bigquery postgres",
        }
    )
    home.backfill("2018-02")
    home.backfill("2018-02", None, "--force")
    home.backfill("2010-12", dataset="retail")
    home.backfill("2010-12", None, "--force", dataset="retail")
    assert home.call("verify").code == 0
    with ClickHouse(home.settings).client() as client:
        refused = ("CREATE DATABASE other", "CREATE USER me", "SELECT * FROM system.users")
        for sql in refused:
            with pytest.raises(DatabaseError, match="Not enough privileges"):
                client.command(sql)


def test_clickhouses_reader_has_the_grant_that_is_written_down() -> None:
    users = clickhouse._users_xml(Settings())
    assert f"<grants>{granted(READERS_GRANT, PUBLISHED_DATABASES)}</grants>" in users


def test_postgresql_takes_no_more_than_is_granted(
    tmp_path: Path, make_home: Callable[..., Home]
) -> None:
    make_taxi_months(tmp_path / "mirror", months={"green": ("2020-01",)}, trips=1000)
    service = PostgresService(Settings(home=tmp_path / "server", postgres_port=free_port()))
    service.start()
    owner = service.owner_url().get_secret_value()
    trips = owner.replace("/lakehouse", "/trips", 2).replace("//trips:", "//lakehouse:")
    writer = f"postgresql://writer:open@127.0.0.1:{service.port}/trips"
    reader = writer.replace("writer:open", "analyst:read")
    try:
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute("CREATE DATABASE trips")
            connection.execute("CREATE ROLE writer LOGIN PASSWORD 'open'")
            connection.execute("CREATE ROLE analyst LOGIN PASSWORD 'read'")
            access = service.data / "pg_hba.conf"
            access.write_text(
                access.read_text() + "host trips writer,analyst 127.0.0.1/32 scram-sha-256\n"
            )
            connection.execute("SELECT pg_reload_conf()")
        grants = POSTGRES.replace("reader", "analyst").replace(
            "DATABASE lakehouse", "DATABASE trips"
        )
        with psycopg.connect(trips, autocommit=True) as connection:
            connection.execute(grants.encode())
        home = make_home(
            variables={
                "LAKEHOUSE_POSTGRES_URL": writer,
                "LAKEHOUSE_WITHOUT": "bigquery",
                "LAKEHOUSE_OBJECTS": str(tmp_path / "objects"),
            }
        )
        chosen = ("--service", "green", "--select", '+key:"taxi/postgres/green_trips"')
        home.backfill("2020-01", None, *chosen, dataset="taxi")
        home.backfill("2020-01", None, *chosen, "--force", dataset="taxi")
        with psycopg.connect(reader, autocommit=True) as connection:
            found = connection.execute("SELECT count(*) FROM taxi.green_trips").fetchone()
            assert found == (999,)
            for sql in ("DELETE FROM taxi.green_trips", "CREATE TABLE taxi.mine ()"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(sql)
        with psycopg.connect(writer, autocommit=True) as connection:
            for sql in ("CREATE SCHEMA other", "CREATE ROLE other", "COPY taxi.x TO '/tmp/x'"):
                with pytest.raises(psycopg.Error):
                    connection.execute(sql)
    finally:
        service.stop()
