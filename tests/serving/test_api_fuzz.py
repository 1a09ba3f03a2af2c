"""Requests of all kinds to what `lakehouse serve` serves, the API in front of the dashboard."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browsing import served
from homes import Home
from served import fill_drives, fill_retail, fill_taxi

from lakehouse.services.clickhouse import ClickHouseService

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("fuzz")
    home = Home(root / "home", root / "mirror")
    try:
        ClickHouseService(home.settings).start()
        for fill in (fill_drives, fill_taxi, fill_retail):
            fill(home.settings)
        with served(home) as address:
            yield address
    finally:
        home.down()


def test_no_request_breaks_the_server_and_all_answers_are_as_described(
    address: str, tmp_path: Path
) -> None:
    httpx.get(f"{address}/api/rejects", timeout=60)  # which waits for all data sets' imports
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"{address}/api/openapi.json"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "40", "--seed", "1"),
            # `from` behind `to` is refused, which no schema can say.
            *("--exclude-checks", "positive_data_acceptance"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/api/daily_summary", "/api", "/healthz", "/readyz", "/metrics"])
def test_programs_can_only_read(address: str, method: str, path: str) -> None:
    answer = httpx.request(method, address + path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json()["detail"].startswith(f"{method} cannot be answered")


@pytest.mark.parametrize("path", ["/api/daily_summary", "/api/rejects", "/healthz", "/metrics"])
def test_who_asks_for_the_head_gets_the_head_alone(address: str, path: str) -> None:
    whole, head = httpx.get(address + path), httpx.head(address + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert head.headers.get("etag") == whole.headers.get("etag")


def test_what_is_not_in_the_api_is_no_page_either(address: str) -> None:
    for path in ("/api", "/api/", "/api/nothing"):
        answer = httpx.get(address + path)
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith(f"There is no {path};")
