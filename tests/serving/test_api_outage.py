"""ClickHouse stops and comes back; a lake without any table."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
from served import fill_drives, served

from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.settings import Settings

PATHS = [
    *("daily_summary", "yearly_summary", "failure_rates", "taxi/days", "taxi/hours"),
    *("taxi/zones", "taxi/payments", "retail/daily_sales", "retail/monthly_sales"),
    *("retail/countries", "retail/products", "retail/quality", "retail/quality?rules=original"),
]


def wait_for(api: httpx.Client, path: str, status: int) -> httpx.Response:
    end = time.monotonic() + 20
    while (answer := api.get(path)).status_code != status:
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)
    return answer


def test_clickhouse_away_is_a_sentence_until_it_is_back(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    settings = Settings(home=tmp_path / "home", clickhouse_port=free_port())
    service = ClickHouseService(settings)
    service.start()
    try:
        fill_drives(settings)
        # It is found where it runs, whatever port it would have if it were started now.
        elsewhere = settings.model_copy(update={"clickhouse_port": free_port()})
        with served(elsewhere) as api:
            there = wait_for(api, "/api/daily_summary", 200)
            assert api.get("/readyz").status_code == 200
            service.stop()
            for path in ("/api/daily_summary", "/api/yearly_summary", "/api/taxi/days", "/readyz"):
                away = wait_for(api, path, 503)
                assert int(away.headers["retry-after"]) > 0
                assert "does not answer" in away.json()["detail"]
                assert "Traceback" not in away.text
            assert api.get("/healthz").status_code == 200
            assert not service.status().running, "reading must not start what somebody stopped"
            service.start()
            back = wait_for(api, "/api/daily_summary", 200)
            assert back.json() == there.json()
            assert api.get("/readyz").status_code == 200
    finally:
        service.stop()


def test_an_empty_lake_has_no_rows(settings: Settings) -> None:
    with served(settings) as api:
        for path in PATHS:
            answer = api.get(f"/api/{path}")
            assert (answer.status_code, answer.json()) == (200, []), path
