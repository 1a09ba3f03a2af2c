"""Metrics, and how the data stands, of a lakehouse that was built; and the command that serves."""

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import httpx
import pytest
from homes import Home, free_port
from prometheus_client.parser import text_string_to_metric_families
from served import fill_retail, served

from lakehouse.automation.datasets import dataset
from lakehouse.definitions import build_definitions
from lakehouse.instance import open_instance
from lakehouse.samples.drives import make_drive_archives
from lakehouse.serving.health import Health
from lakehouse.serving.metrics import Metrics, push
from lakehouse.serving.readings import Readings

MONTHS = ("2018-01", "2018-02")
BRONZE = "drives/bronze/drive_days"
SALES = "retail/marts/Fact_Sales"
YEAR = "drives/clickhouse/yearly_summary"

TOLD: dict[str, dict[str, Any]] = {
    SALES: {"metadata": {"dagster/row_count": 1437, "dagster/partition_row_count": 249}},
    "retail/marts/Dim_Product": {"metadata": {"dagster/row_count": 15}},
    "taxi/raw/green_trips": {
        "metadata": {"dagster/partition_row_count": 3000, "size_bytes": 75817}
    },
}
"""What dbt and files tell of themselves, which is not all."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Two months of drive stats and what the retail gauges are from.

    January has so many bad lines for its few drives that a check stops what follows bronze.
    """
    home = Home(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("mirror"))
    make_drive_archives(home.mirror, months=MONTHS, drives=8)
    assert home.call("backfill", "drives", "--from", MONTHS[0], "--to", MONTHS[1]).code == 1
    fill_retail(home.settings)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.environment.items():
            patch.setenv(name, value)
        with open_instance(home.settings) as instance:
            for key, metadata in TOLD.items():
                made = dg.AssetMaterialization(key.split("/"), partition="2011-01", **metadata)
                instance.report_runless_asset_event(made)
    yield home
    home.down()


@pytest.fixture(scope="module")
def api(built: Home) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in built.environment.items():
            patch.setenv(name, value)
        with served(built.settings) as client:
            yield client


Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """The values, by name and labels in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def metrics(api: httpx.Client) -> Samples:
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return samples(answer.text)


def test_the_originals_gauges_have_its_names(metrics: Samples) -> None:
    assert {
        name: metrics[(name,)]
        for name in (
            *("anomaly_unit_price_count", "anomaly_quantity_count", "missing_customer_id_ratio"),
            *("latest_min_total_amount", "latest_max_total_amount", "latest_median_total_amount"),
            *("latest_avg_total_amount", "latest_sales_volume"),
        )
    } == {
        "anomaly_unit_price_count": 1,
        "anomaly_quantity_count": 2,
        "missing_customer_id_ratio": 0.25,
        "latest_min_total_amount": 20.25,
        "latest_max_total_amount": 300,
        "latest_median_total_amount": 160.125,
        "latest_avg_total_amount": 160.125,
        "latest_sales_volume": 320.25,
    }


def test_an_asset_tells_its_rows_duration_and_bytes(built: Home, metrics: Samples) -> None:
    written = built.query(
        "SELECT sum(drive_count) AS rows FROM drives.daily_summary WHERE toMonth(date) = 2"
    )[0]["rows"]
    silver = "drives/silver/drive_days"
    assert metrics[("lakehouse_asset_rows", silver, "drives", "written")] == written
    assert metrics[("lakehouse_asset_rows", BRONZE, "drives", "rejected")] == 0
    assert ("lakehouse_asset_rows", silver, "drives", "dropped") in metrics
    assert 0 < metrics[("lakehouse_asset_duration_seconds", silver, "drives")] < 60
    assert metrics[("lakehouse_asset_bytes", silver, "drives")] > 1000


def test_every_asset_that_was_made_tells_everything(api: httpx.Client, metrics: Samples) -> None:
    made = {row["asset"] for row in api.get("/api/datasets").json() if row["last_success"]}
    assert made > {BRONZE, YEAR, *TOLD}
    for asset in made:
        dataset = asset.partition("/")[0]
        for name in ("last_success_timestamp_seconds", "newest_data_timestamp_seconds", "bytes"):
            assert (f"lakehouse_asset_{name}", asset, dataset) in metrics
        for kind in ("written", "rejected", "dropped"):
            assert ("lakehouse_asset_rows", asset, dataset, kind) in metrics
        for status in ("passed", "warned", "failed"):
            assert ("lakehouse_checks", asset, dataset, status) in metrics


def test_what_dbt_and_files_do_not_tell_is_known_by_other_names(metrics: Samples) -> None:
    written = {
        asset: metrics[("lakehouse_asset_rows", asset, asset.partition("/")[0], "written")]
        for asset in TOLD
    }
    assert written == {SALES: 249, "retail/marts/Dim_Product": 15, "taxi/raw/green_trips": 3000}
    assert metrics[("lakehouse_asset_bytes", SALES, "retail")] > 100
    assert metrics[("lakehouse_asset_rows", SALES, "retail", "rejected")] == 0


def test_what_is_published_tells_the_bytes_of_its_partition(built: Home, metrics: Samples) -> None:
    [table] = built.query(
        "SELECT total_bytes FROM system.tables"
        " WHERE database = 'drives' AND name = 'yearly_summary'"
    )
    assert metrics[("lakehouse_asset_bytes", YEAR, "drives")] == table["total_bytes"] > 0


def test_the_data_of_a_year_ends_with_its_newest_month(metrics: Samples) -> None:
    march = 1_519_862_400  # the end of February 2018
    for asset in (YEAR, "drives/gold/yearly_summary"):
        assert metrics[("lakehouse_asset_newest_data_timestamp_seconds", asset, "drives")] == march


def test_an_asset_tells_when_it_was_made_and_how_old_its_data_is(metrics: Samples) -> None:
    made = metrics[("lakehouse_asset_last_success_timestamp_seconds", BRONZE, "drives")]
    assert time.time() - 600 < made < time.time()
    march = 1_519_862_400  # the end of February 2018
    assert metrics[("lakehouse_asset_newest_data_timestamp_seconds", BRONZE, "drives")] == march


def test_partitions_and_checks_are_counted_by_state(metrics: Samples) -> None:
    states = {
        state: metrics[("lakehouse_partitions", BRONZE, "drives", state)]
        for state in ("fresh", "stale", "failed")
    }
    assert states == {"fresh": 1, "stale": 0, "failed": 1}
    assert metrics[("lakehouse_partitions", BRONZE, "drives", "missing")] > 100
    checks = {
        status: metrics[("lakehouse_checks", BRONZE, "drives", status)]
        for status in ("passed", "warned", "failed")
    }
    # Of January: the bad lines; a new column and a missing day.
    assert (checks["failed"], checks["warned"]) == (1, 2)
    assert checks["passed"] > 5


def test_runs_and_rejects_are_counted(built: Home, metrics: Samples) -> None:
    assert metrics[("lakehouse_runs", "success")] == 2  # February and the year
    assert metrics[("lakehouse_runs", "failure")] == 1
    assert metrics[("lakehouse_failed_runs", "materialization", "drives")] == 1
    assert metrics[("lakehouse_clickhouse_up",)] == 1
    assert metrics[("lakehouse_queued_runs",)] == 0
    assert ("lakehouse_oldest_queued_run_timestamp_seconds",) not in metrics
    rejected = len(built.call("rejects", "drives", "--json").json)
    assert metrics[("lakehouse_rejected_rows", "drives")] == rejected > 0


def test_datasets_say_what_the_command_says(built: Home, api: httpx.Client) -> None:
    table = {row["asset"]: row for row in api.get("/api/datasets").json()}[BRONZE]
    (status,) = built.call("status", "drives", "--json").json
    told = next(row for row in status["assets"] if row["asset"] == BRONZE)
    for name in ("fresh", "stale", "failed", "missing", "newest"):
        assert table[name] == told[name]
    assert table["partitions"] == 2
    assert table["newest_data_until"] == "2018-03-01"
    assert table["source"].endswith("data_Q1_2018.zip")
    assert isinstance(table["delta_version"], int)
    failing = {c["sentence"] for c in status["failing_checks"] if c["asset"] == BRONZE}
    assert set(table["failing"]) == failing
    checks = api.get("/api/failing_checks?dataset=drives").json()
    assert {(check["sentence"], check["stops"]) for check in checks} == {
        (check["sentence"], check["stops"]) for check in status["failing_checks"]
    }


def test_months_stand_as_they_were_made(api: httpx.Client) -> None:
    found = api.get("/api/datasets/drives/months").json()
    bronze = {row["month"]: row["state"] for row in found if row["asset"] == BRONZE}
    assert bronze == {"2018-01": "failed", "2018-02": "fresh"}
    silver = {row["month"]: row["state"] for row in found if "silver" in row["asset"]}
    assert silver == {"2018-01": "failed", "2018-02": "fresh"}
    assert api.get("/api/rejects").json()[0]["month"] == "2018-01"


def test_a_clickhouse_that_is_away_is_seen(built: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in built.environment.items():
        monkeypatch.setenv(name, value)
    away = built.settings.model_copy(update={"clickhouse_url": f"http://127.0.0.1:{free_port()}"})
    found = samples(Metrics(Readings(away), Health(away)).text().decode())
    assert found[("lakehouse_clickhouse_up",)] == 0
    assert ("latest_sales_volume",) not in found
    assert found[("lakehouse_asset_rows", SALES, "retail", "written")] == 249


class Gateway:
    """Takes what is pushed."""

    def __init__(self) -> None:
        pushed: list[tuple[str, str]] = []
        self.pushed = pushed

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                pushed.append((self.path, body.decode()))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keeps the tests' output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_a_backfill_pushes_where_a_gateway_is_set(built: Home) -> None:
    gateway = Gateway()
    variables = {"LAKEHOUSE_PUSHGATEWAY_URL": gateway.address}
    assert built.call("backfill", "drives", "--from", "2018-02", **variables).code == 0
    gateway.server.shutdown()
    ((path, text),) = gateway.pushed
    assert path == "/metrics/job/lakehouse_push"
    assert samples(text)[("latest_sales_volume",)] == 320.25
    assert ("lakehouse_asset_last_success_timestamp_seconds", BRONZE, "drives") in samples(text)


def test_a_replay_pushes_too(built: Home) -> None:
    gateway = Gateway()
    assert built.call("replay", "drives", LAKEHOUSE_PUSHGATEWAY_URL=gateway.address).code == 1
    gateway.server.shutdown()
    [(path, _)] = gateway.pushed
    assert path == "/metrics/job/lakehouse_push"


def test_the_daemon_pushes_when_runs_are_over(built: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in built.environment.items():
        monkeypatch.setenv(name, value)
    drives = dataset(built.settings, "drives")
    gateway = Gateway()

    def tick(address: str, cursor: str | None) -> dg.SensorResult:
        settings = built.settings.model_copy(update={"pushgateway_url": address})
        sensor = build_definitions(settings, only=drives).resolve_sensor_def("pushed_metrics")
        return sensor.evaluate_tick(dg.build_sensor_context(instance, cursor=cursor))

    with open_instance(built.settings) as instance:
        missed = tick(f"http://127.0.0.1:{free_port()}", None)
        assert "tried again" in str(missed.skip_message)
        pushed = tick(gateway.address, missed.cursor)
        assert "were pushed" in str(pushed.skip_message)
        quiet = tick(gateway.address, pushed.cursor)
        assert quiet.skip_message == "No run has ended."
        built.backfill("2018-02")
        assert "No run" in str(tick(gateway.address, quiet.cursor).skip_message)  # up to date
        assert built.call("backfill", "drives", "--from", "2018-02", "--force").code == 0
        assert "were pushed" in str(tick(gateway.address, quiet.cursor).skip_message)
    gateway.server.shutdown()
    assert [path for path, _ in gateway.pushed] == ["/metrics/job/lakehouse_push"] * 2
    assert ("lakehouse_asset_bytes", BRONZE, "drives") in samples(gateway.pushed[1][1])


def test_without_a_gateway_nothing_pushes(built: Home) -> None:
    definitions = build_definitions(built.settings, only=dataset(built.settings, "drives"))
    assert "pushed_metrics" not in [sensor.name for sensor in definitions.sensors or ()]


def test_a_gateway_that_is_away_breaks_no_backfill(
    built: Home, caplog: pytest.LogCaptureFixture
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    push(built.settings.model_copy(update={"pushgateway_url": away}))
    assert f"could not be pushed to {away}" in caplog.text
    answer = built.call("backfill", "drives", "--from", "2018-02", LAKEHOUSE_PUSHGATEWAY_URL=away)
    assert answer.code == 0


def test_the_command_serves_until_it_is_interrupted(built: Home) -> None:
    port = str(free_port())
    with built.start("serve", "--port", port) as process:
        try:
            assert process.stdout
            said = process.stdout.readline()
            address = re.search(r"http://[\d.]+:\d+", said)
            assert address, said
            assert address[0].endswith(f":{port}")
            assert _answered(f"{address[0]}/readyz").json() == {"status": "ok"}
            taken = built.call("serve", "--port", port)
            assert taken.code == 1
            assert f"port {port} of 127.0.0.1 cannot be listened on" in taken.sentence
        finally:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0


def _answered(address: str) -> httpx.Response:
    end = time.monotonic() + 60
    while True:
        try:
            return httpx.get(address, timeout=30)
        except httpx.TransportError:
            assert time.monotonic() < end
            time.sleep(0.1)
