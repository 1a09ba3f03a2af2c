"""What people are told: real runs on a real instance, real sensors, a real webhook."""

import logging
import socket
import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest
from pydantic import SecretStr

from lakehouse.automation import alerts
from lakehouse.automation.alerts import build_alerts
from lakehouse.errors import SourceRefusedError
from lakehouse.resources.notifier import DeliveryError, Notifier

URL = "http://dagster.example:3000"
HOURS = 60 * 60
MONTHS = dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-07-01")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """One for all tests: a sensor's first tick passes over what the tests before have done."""
    home = str(tmp_path_factory.mktemp("dagster"))
    with dg.DagsterInstance.local_temp(home, {"telemetry": {"enabled": False}}) as instance:
        yield instance


class Ticker:
    """Evaluates a sensor as the daemon does: tick by tick, carrying the cursor."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        addresses: str,
        sensor: str = "alerts",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.instance = instance
        self.cursor: str | None = None
        self._resources = {"notifier": Notifier(SecretStr(addresses))}
        definitions = dg.Definitions(sensors=build_alerts(URL, now), resources=self._resources)
        self._sensor = definitions.resolve_sensor_def(sensor)

    def tick(self) -> str:
        """Returns what the tick says of itself."""
        context = dg.build_sensor_context(
            self.instance, cursor=self.cursor, resources=self._resources
        )
        result = self._sensor.evaluate_tick(context)
        self.cursor = result.cursor
        return result.skip_message or ""


@pytest.fixture
def ticker(instance: dg.DagsterInstance, webhook) -> Ticker:
    """The sensor `alerts`, after its first tick."""
    ticker = Ticker(instance, webhook.address)
    ticker.tick()
    return ticker


@dg.asset(key=["drives", "bronze", "drive_days"], partitions_def=MONTHS)
def bronze() -> None: ...


@dg.asset(key=["drives", "silver", "drive_days"], partitions_def=MONTHS, deps=[bronze])
def silver() -> None: ...


@dg.asset_check(asset=bronze, partitions_def=MONTHS)
def rows_plausible() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description="Fewer rows than the month before.",
        metadata={"rows": 12, "file": "2024-02.csv", "sample": [{"model": "ST4000"}]},
    )


@dg.asset_check(asset=bronze, partitions_def=MONTHS, blocking=True)
def rows_readable() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description="3 rows cannot be read.")


@dg.asset(partitions_def=MONTHS)
def refused() -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise SourceRefusedError("The archive is cut short; delete it.") from error


def materialize(
    instance: dg.DagsterInstance,
    *assets: dg.AssetsDefinition,
    month: str | None = "2024-02-01",
    tags: dict[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        assets, instance=instance, partition_key=month, tags=tags, raise_on_error=False
    )


def test_failed_check_of_a_successful_run_is_told(instance, ticker, webhook):
    run = materialize(instance, bronze, rows_plausible)

    ticker.tick()

    assert run.success
    [message] = webhook.messages
    assert message["title"] == "Check failed: drives/bronze/drive_days 2024-02-01: rows_plausible"
    assert message["message"].splitlines() == [
        "Severity: WARN",
        "Fewer rows than the month before.",
        "file: 2024-02.csv",
        "rows: 12",
        f"Check: {URL}/assets/drives/bronze/drive_days?view=checks&checkDetail=rows_plausible",
        f"Run: {URL}/runs/{run.run_id}",
    ]


def test_failed_blocking_check_stops_the_run_and_is_told_once(instance, ticker, webhook):
    run = materialize(instance, bronze, rows_readable, silver)

    ticker.tick()
    ticker.tick()

    assert not run.success
    made = {event.asset_key for event in run.get_asset_materialization_events()}
    assert made == {bronze.key}
    [message] = webhook.messages
    assert message["title"] == "Check failed: drives/bronze/drive_days 2024-02-01: rows_readable"
    assert "Severity: ERROR, blocking\n3 rows cannot be read." in message["message"]


def test_failed_run_is_told_with_its_sentence(instance, ticker, webhook):
    run = materialize(instance, refused)

    ticker.tick()

    [message] = webhook.messages
    assert message["title"] == "Run failed: materialization 2024-02-01"
    assert message["message"].splitlines() == [
        "Severity: ERROR",
        "refused: SourceRefusedError: The archive is cut short; delete it.",
        f"Run: {URL}/runs/{run.run_id}",
    ]


def test_failed_job_is_told_by_its_name(instance, ticker, webhook):
    @dg.op
    def publish() -> None:
        raise dg.Failure("ClickHouse is full; free some space.")

    @dg.job
    def nightly() -> None:
        publish()

    nightly.execute_in_process(instance=instance, raise_on_error=False)

    ticker.tick()

    assert webhook.titles == ["Run failed: nightly"]
    assert "publish: ClickHouse is full; free some space." in webhook.messages[0]["message"]


def test_failed_step_beside_a_failed_check_is_told_too(instance, ticker, webhook):
    materialize(instance, bronze, rows_readable, refused)

    ticker.tick()

    assert webhook.titles == [
        "Check failed: drives/bronze/drive_days 2024-02-01: rows_readable",
        "Run failed: materialization 2024-02-01",
    ]
    assert "rows_readable" not in webhook.messages[1]["message"]


def test_run_that_was_killed_is_told(instance, ticker, webhook):
    run = instance.create_run_for_job(
        dg.Definitions(assets=[bronze]).resolve_implicit_global_asset_job_def()
    )
    instance.report_run_failed(run, "The process of the run is gone.")

    ticker.tick()

    [message] = webhook.messages
    assert "The process of the run is gone." in message["message"]


def test_of_a_retried_run_only_the_last_attempt_is_told(instance, ticker, webhook):
    materialize(instance, refused, tags={"dagster/will_retry": "true"})
    last = materialize(instance, refused, tags={"dagster/will_retry": "false"})

    ticker.tick()

    [message] = webhook.messages
    assert last.run_id in message["message"]


def test_several_months_in_one_run_are_named(instance, ticker, webhook):
    months = {
        "dagster/asset_partition_range_start": "2024-02-01",
        "dagster/asset_partition_range_end": "2024-04-01",
    }

    @dg.asset(partitions_def=MONTHS, backfill_policy=dg.BackfillPolicy.single_run())
    def zones() -> dg.MaterializeResult:
        return dg.MaterializeResult()

    @dg.asset_check(asset=zones, partitions_def=MONTHS)
    def known() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    materialize(instance, zones, known, month=None, tags=months)

    ticker.tick()

    assert webhook.titles == ["Check failed: zones 2024-02-01 to 2024-04-01: known"]


def test_first_tick_does_not_tell_of_the_past(instance, webhook):
    materialize(instance, refused)
    ticker = Ticker(instance, webhook.address)

    assert ticker.tick() == "Started: tells of what happens from now on."
    ticker.tick()

    assert webhook.messages == []


def test_nothing_is_told_twice_over_many_ticks(instance, ticker, webhook):
    materialize(instance, refused, month="2024-01-01")
    reasons = [ticker.tick(), ticker.tick()]
    materialize(instance, refused, month="2024-02-01")
    reasons += [ticker.tick(), ticker.tick()]

    assert webhook.titles == [
        "Run failed: materialization 2024-01-01",
        "Run failed: materialization 2024-02-01",
    ]
    assert [reason[:6] for reason in reasons] == ["1 told", "0 told", "1 told", "0 told"]


def test_a_long_queue_is_told_over_several_ticks(instance, ticker, webhook, monkeypatch):
    monkeypatch.setattr(alerts, "_EVENTS_A_TICK", 2)
    months = ["2024-01-01", "2024-02-01", "2024-03-01"]
    for month in months:
        materialize(instance, refused, month=month)

    ticker.tick()
    assert len(webhook.messages) == 2
    ticker.tick()

    assert webhook.titles == [f"Run failed: materialization {month}" for month in months]


def test_a_webhook_that_is_down_gets_each_message_once_when_it_is_back(instance, ticker, webhook):
    webhook.go_down()
    materialize(instance, refused, month="2024-01-01")
    assert ticker.tick() == "0 told, 1 to be tried again."
    materialize(instance, bronze, rows_readable, month="2024-02-01")
    assert ticker.tick() == "0 told, 2 to be tried again."

    webhook.come_back()
    restarted = Ticker(instance, webhook.address)
    restarted.cursor = ticker.cursor
    restarted.tick()
    restarted.tick()

    assert sorted(webhook.titles) == [
        "Check failed: drives/bronze/drive_days 2024-02-01: rows_readable",
        "Run failed: materialization 2024-01-01",
    ]


def test_an_address_that_is_down_makes_no_repetition_elsewhere(instance, webhook, other_webhook):
    ticker = Ticker(instance, f"{webhook.address}\n{other_webhook.address}")
    ticker.tick()
    other_webhook.go_down()
    materialize(instance, refused)
    ticker.tick()
    ticker.tick()
    other_webhook.come_back()
    ticker.tick()

    assert webhook.titles == other_webhook.titles == ["Run failed: materialization 2024-02-01"]


def test_an_event_that_cannot_be_described_is_told_barely_and_holds_up_nothing(
    instance, ticker, webhook, monkeypatch
):
    def broken(*_: object) -> None:
        raise ValueError("no words")

    monkeypatch.setattr(alerts, "failed_check_message", broken)
    run = materialize(instance, bronze, rows_plausible)
    materialize(instance, refused)

    ticker.tick()
    ticker.tick()

    [bare, other] = webhook.messages
    assert bare["title"].startswith("Failed, see Dagster for details")
    assert f"{URL}/runs/{run.run_id}" in bare["message"]
    assert other["title"] == "Run failed: materialization 2024-02-01"


def test_a_failed_delivery_is_logged_without_the_address(instance, ticker, webhook, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    webhook.go_down()
    materialize(instance, refused)

    ticker.tick()
    webhook.come_back()

    logged = caplog.text + "".join(capfd.readouterr())
    assert "address 1 (JSON) did not take it" in logged
    assert "the-secret-token" not in logged + str(ticker.cursor)


@pytest.fixture
def clock() -> list[float]:
    """Hours that have passed; tests set `clock[0]`."""
    return [0.0]


@pytest.fixture
def day_ticker(instance, webhook, clock) -> Ticker:
    """The sensor `left_failed`, after its first tick."""
    ticker = Ticker(
        instance, webhook.address, "left_failed", now=lambda: time.time() + clock[0] * HOURS
    )
    ticker.tick()
    return ticker


def test_partition_left_failed_is_told_once_after_a_day(instance, day_ticker, webhook, clock):
    run = materialize(instance, refused)

    clock[0] = 23
    day_ticker.tick()
    assert webhook.messages == []
    clock[0] = 25
    day_ticker.tick()
    day_ticker.tick()

    [message] = webhook.messages
    assert message["title"] == "Left failed since yesterday: refused 2024-02-01"
    assert f"Run: {URL}/runs/{run.run_id}" in message["message"]


def test_what_a_blocking_check_stopped_is_left_failed(instance, day_ticker, webhook, clock):
    @dg.asset(partitions_def=MONTHS)
    def well() -> None: ...

    materialize(instance, bronze, rows_readable, silver, well)

    clock[0] = 25
    day_ticker.tick()

    [message] = webhook.messages
    assert message["title"].endswith("drives/bronze/drive_days 2024-02-01 and 1 more")
    assert "drives/silver/drive_days 2024-02-01" in message["message"]
    assert "well" not in message["message"]


def test_recovered_partition_is_not_told(instance, day_ticker, webhook, clock):
    materialize(instance, bronze, rows_readable)
    materialize(instance, bronze)

    clock[0] = 25
    day_ticker.tick()

    assert webhook.messages == []


def test_partition_that_failed_again_is_told_for_the_last_run(instance, day_ticker, webhook, clock):
    materialize(instance, refused)
    last = materialize(instance, refused)

    clock[0] = 25
    day_ticker.tick()

    [message] = webhook.messages
    assert last.run_id in message["message"]


def test_without_addresses_messages_are_logged(caplog):
    Notifier(SecretStr("")).send("Run failed: nightly", "publish: no space")

    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "Run failed: nightly\npublish: no space" in caplog.text


@pytest.mark.parametrize(
    ("address", "shown"),
    [("slakc://T1/the-secret-token", "slakc://"), ("the-secret-token.example/x", "no scheme")],
)
def test_an_address_that_is_not_understood_is_not_revealed(address, shown, webhook, caplog):
    caplog.set_level(logging.DEBUG)

    with pytest.raises(DeliveryError, match=shown) as raised:
        Notifier(SecretStr(f"{webhook.address} {address}")).send("Title", "Body")

    assert raised.value.undelivered == (2,)
    assert webhook.titles == ["Title"]
    assert "the-secret-token" not in str(raised.value) + caplog.text


def test_an_address_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr("lakehouse.resources.notifier._TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"json://127.0.0.1:{silent.getsockname()[1]}/x"
        started = time.monotonic()

        with pytest.raises(DeliveryError, match="JSON"):
            Notifier(SecretStr(address)).send("Title", "Body")

    assert time.monotonic() - started < 3
