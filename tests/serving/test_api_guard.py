"""Who may ask: the token, pages of other origins, and what the reader's account may do."""

import base64
from collections.abc import Iterator

import httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from pydantic import SecretStr
from served import fill_drives, served

from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.settings import Settings

TOKEN = "not-to-be-guessed-ü"
OTHER = "https://charts.example.org"


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    more = {"api_token": SecretStr(TOKEN), "cors_origins": f"{OTHER} https://other.example.org"}
    with served(settings.model_copy(update=more)) as client:
        yield client


def basic(password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"anybody:{password}".encode())


def test_without_the_token_nothing_is_told(api: httpx.Client) -> None:
    for path in ("/api/daily_summary", "/api/openapi.json", "/api/nothing", "/metrics", "/"):
        for header in (None, b"Bearer wrong", b"Bearer", b"Basic !", basic("wrong"), b"x"):
            headers = {b"Authorization": header} if header else {}
            answer = api.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["detail"].startswith("A token is needed")
            assert TOKEN not in answer.text


def test_programs_show_the_token_and_people_type_it(api: httpx.Client) -> None:
    for header in (f"Bearer {TOKEN}".encode(), f"bearer {TOKEN}".encode(), basic(TOKEN)):
        answer = api.get("/api/daily_summary", headers={b"Authorization": header})
        assert (answer.status_code, answer.json()) == (200, [])
    assert api.get("/api/daily_summary").status_code == 401  # what is kept is not for all
    assert api.get("/api/rejects").headers["www-authenticate"] == "Bearer"
    assert api.get("/").headers["www-authenticate"].startswith("Basic")


def test_whether_the_server_runs_everybody_may_ask(api: httpx.Client) -> None:
    assert api.get("/healthz").status_code == 200
    assert api.get("/readyz").status_code == 200


def test_only_pages_of_the_origins_in_the_settings_may_read(api: httpx.Client) -> None:
    headers = {"Origin": OTHER, "Authorization": f"Bearer {TOKEN}".encode()}
    answer = api.get("/api/daily_summary", headers=headers)
    assert answer.headers["access-control-allow-origin"] == OTHER
    asked = {"Origin": OTHER, "Access-Control-Request-Method": "GET"}
    asked["Access-Control-Request-Headers"] = "authorization, if-none-match"
    preflight = api.options("/api/daily_summary", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["x-content-type-options"] == "nosniff"
    stranger = api.get("/api/daily_summary", headers=headers | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO drives.daily_summary VALUES ('2018-01-01', 1, 1)",
        "ALTER TABLE drives.daily_summary DROP PARTITION 201801",
        "TRUNCATE TABLE drives.daily_summary",
        "DROP TABLE drives.daily_summary",
        "CREATE TABLE drives.mine (x UInt8) ENGINE = Memory",
        "SELECT * FROM system.users",
        "SELECT * FROM system.processes",
        "SELECT * FROM system.parts",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1/', 'LineAsString')",
        "SET max_execution_time = 0",
        "SET readonly = 0",
    ],
)
def test_the_account_that_is_read_through_can_only_read(settings: Settings, sql: str) -> None:
    fill_drives(settings)
    with (
        ClickHouse(settings).reader() as client,
        pytest.raises(DatabaseError, match=r"privileges|readonly|should not be changed|Cannot"),
    ):
        client.command(sql)
    assert len(ClickHouse(settings).query("SELECT * FROM drives.daily_summary").rows) == 4
