"""A webhook that can go down and come back, and a whole lakehouse; both real, both small."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import pytest

from lakehouse.automation.backfill import Backfill, Report
from lakehouse.automation.datasets import dataset
from lakehouse.automation.overview import overview
from lakehouse.definitions import build_definitions
from lakehouse.instance import open_instance
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.samples.drives import DRIVE_FOLDER, SampleTruth, make_drive_archives
from lakehouse.samples.taxi import TaxiTruth, make_taxi_months
from lakehouse.settings import Settings


class Webhook:
    """Collects the messages that apprise posts to `address`."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        self._server = self._listen(port=0)
        self._port = self._server.server_port

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self._port}/the-secret-token"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    def go_down(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def come_back(self) -> None:
        self._server = self._listen(self._port)

    def _listen(self, port: int) -> ThreadingHTTPServer:
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keeps the tests' output clean."""

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.go_down()


@pytest.fixture
def other_webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.go_down()


class House:
    """A lakehouse in a home of its own, with a mirror of the publisher and Dagster's history.

    It has the definitions of one data set, drive stats: those of all take a second.
    """

    name = "drives"

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.instance = instance
        self.dataset = dataset(settings, self.name)
        self.definitions = build_definitions(settings, only=self.dataset)
        self.root = Path(str(settings.source_mirror))
        self.mirror = self.root / DRIVE_FOLDER
        self.inbox = settings.state / "inbox" / self.name

    def publish(self, *months: str, seed: int = 0, drives: int = 8) -> SampleTruth:
        """Have the publisher put up the archives of these months, in place of older ones."""
        return make_drive_archives(self.root, seed=seed, months=months, drives=drives)

    def drop(self, name: str, content: bytes | str) -> Path:
        """Put a file into the inbox."""
        self.inbox.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        (self.inbox / name).write_bytes(data)
        return self.inbox / name

    def backfill(self, *months: str, **options: Any) -> dict[str, Report]:
        """What `lakehouse backfill` does; the reports by partition."""
        backfill = Backfill(self.settings, self.instance, self.definitions, self.dataset, **options)
        return {report.partition: report for report in backfill.run(months)}

    def restarted(self) -> "House":
        """The same house for a process that starts now, with the settings of now."""
        return type(self)(Settings(), self.instance)

    def sensor(self, name: str) -> "Ticker":
        """A sensor as the daemon starts it, without a cursor."""
        return Ticker(self, name)

    def land(self, *months: str) -> None:
        """Materialize the publisher's archives of these months, and nothing of what follows."""
        raw = dg.AssetKey(["drives", "raw", "archive"])
        assert all(report.ok for report in self.backfill(*months, selection={raw}).values())

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Carry out what a sensor or a schedule asked for."""
        job = request.job_name or "drives_month"
        return self.definitions.resolve_job_def(job).execute_in_process(
            partition_key=request.partition_key,
            instance=self.instance,
            tags=request.tags,
            raise_on_error=False,
        )

    def status(self, asset: str) -> dict[str, Any]:
        """What `lakehouse status` says of an asset."""
        assets = overview(self.instance, self.dataset, self.settings)["assets"]
        return next(row for row in assets if row["asset"] == asset)

    def query(self, sql: str) -> list[tuple]:
        """What readers of ClickHouse see."""
        return ClickHouse(self.settings).query(sql).rows


class TaxiHouse(House):
    """The same with taxi trips, whose objects are in a folder; without databases but ClickHouse."""

    name = "taxi"

    @property
    def objects(self) -> Path:
        """The folder that serves as the bucket."""
        return Path(str(self.settings.objects))

    def publish_trips(self, service: str, *months: str, seed: int = 0) -> TaxiTruth:
        """Have the publisher put up the files of these months, in place of older ones."""
        return make_taxi_months(self.root, seed=seed, months={service: months}, trips=1000)


class RetailHouse(House):
    """The same with Online Retail."""

    name = "retail"


class Ticker:
    """Evaluates a sensor as the daemon does: tick by tick, carrying the cursor."""

    def __init__(self, house: House, sensor: str) -> None:
        self.cursor: str | None = None
        self._house = house
        self._sensor = house.definitions.resolve_sensor_def(sensor)
        self._loaded = {
            "resources": house.definitions.resources,
            "repository_def": house.definitions.get_repository_def(),
        }

    def tick(self) -> dg.SensorResult:
        """What the tick came to; its observations are recorded, its cursor is kept."""
        context = dg.build_sensor_context(self._house.instance, cursor=self.cursor, **self._loaded)
        result = self._sensor.evaluate_tick(context)
        for event in result.asset_events:
            self._house.instance.report_runless_asset_event(event)
        self.cursor = result.cursor
        return result

    def requested(self) -> list[str]:
        """The partitions that the next tick asks for."""
        return [request.partition_key for request in self.tick().run_requests]


@pytest.fixture
def environment(
    settings: Settings, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a house is set up with, for processes of its own, too."""
    environment = {
        "HOME": settings.home,
        "SOURCE_MIRROR": tmp_path / "mirror",
        "CLICKHOUSE_URL": settings.clickhouse_url,
        "ALERT_URLS": webhook.address,
        "INBOX_SETTLE_SECONDS": 0,
        "OBJECTS": tmp_path / "objects",
        "WITHOUT": "bigquery postgres",
    }
    for name, value in environment.items():
        monkeypatch.setenv(f"LAKEHOUSE_{name}", str(value))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture
def house(environment: None) -> Iterator[House]:
    settings = Settings()
    with open_instance(settings) as instance:
        yield House(settings, instance)


@pytest.fixture
def taxi_house(environment: None) -> Iterator[TaxiHouse]:
    settings = Settings()
    with open_instance(settings) as instance:
        yield TaxiHouse(settings, instance)


@pytest.fixture
def retail_house(environment: None) -> Iterator[RetailHouse]:
    settings = Settings()
    with open_instance(settings) as instance:
        yield RetailHouse(settings, instance)
