"""What people are told: real runs on a real instance, real sensors, a real webhook."""

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from pydantic import SecretStr

from lakehouse.automation.alerts import findings, memory, sensors
from lakehouse.automation.alerts.sensors import build_alerts
from lakehouse.automation.backfill import BACKFILL_TAG
from lakehouse.errors import SourceRefusedError
from lakehouse.instance import open_instance
from lakehouse.processes import process_tags
from lakehouse.resources.notifier import DeliveryError, Notifier
from lakehouse.settings import Settings

URL = "http://dagster.example:3000"
HOURS = 60 * 60
NOT_RETRIED = {"dagster/max_retries": "0"}
"""Our instance starts a run again whose process died; that one is told when it fails too."""
MONTHS = dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-07-01")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """One for all tests: a sensor's first tick passes over what the tests before have done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("DAGSTER_HOME", raising=False)
        with open_instance(Settings()) as instance:
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
def clock() -> list[float]:
    """Hours that have passed; tests set `clock[0]`."""
    return [0.0]


@pytest.fixture
def ticker(instance: dg.DagsterInstance, webhook, clock) -> Ticker:
    """The sensor `alerts`, after its first tick."""
    ticker = Ticker(instance, webhook.address, now=lambda: time.time() + clock[0] * HOURS)
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
        assets,
        instance=instance,
        partition_key=month,
        tags=tags,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
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


def test_failed_step_beside_a_failed_check_is_told_with_it(instance, ticker, webhook):
    run = materialize(instance, bronze, rows_readable, refused)

    ticker.tick()

    [message] = webhook.messages
    assert message["title"] == "2 failures: drives 1, refused 1, 2024-02-01"
    assert message["message"].splitlines() == [
        "Severity: ERROR",
        "drives/bronze/drive_days 2024-02-01: rows_readable: 3 rows cannot be read.",
        "refused 2024-02-01: SourceRefusedError: The archive is cut short; delete it.",
        f"Run: {URL}/runs/{run.run_id}",
    ]


def test_run_that_was_killed_is_told(instance, ticker, webhook):
    run = instance.create_run_for_job(
        dg.Definitions(assets=[bronze]).resolve_implicit_global_asset_job_def(), tags=NOT_RETRIED
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


def test_a_long_queue_is_read_over_several_ticks_and_told_together(
    instance, ticker, webhook, monkeypatch
):
    monkeypatch.setattr(sensors, "_EVENTS_A_TICK", 2)
    for month in ("2024-01-01", "2024-02-01", "2024-03-01"):
        materialize(instance, refused, month=month)

    assert ticker.tick() == "0 told, 0 to be tried again. 2 wait for others."
    ticker.tick()

    assert webhook.titles == ["3 failures: refused, 2024-01-01, 2024-02-01, 2024-03-01"]


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

    monkeypatch.setattr(findings, "check_sentence", broken)
    run = materialize(instance, bronze, rows_plausible)
    materialize(instance, refused)

    ticker.tick()
    ticker.tick()

    [message] = webhook.messages
    assert f"{run.run_id}: Its details cannot be told: see Dagster." in message["message"]
    assert "refused 2024-02-01: SourceRefusedError" in message["message"]


def test_failures_without_words_are_told_barely(instance, ticker, webhook, monkeypatch):
    def broken(*_: object) -> None:
        raise ValueError("no words")

    monkeypatch.setattr(sensors, "failures_message", broken)
    run = materialize(instance, refused)

    ticker.tick()
    ticker.tick()

    [message] = webhook.messages
    assert message["title"] == "Failed, see Dagster for details: 1 failure"
    assert f"{URL}/runs/{run.run_id}" in message["message"]


def test_a_failed_delivery_is_logged_without_the_address(instance, ticker, webhook, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    webhook.go_down()
    materialize(instance, refused)

    ticker.tick()
    webhook.come_back()

    logged = caplog.text + "".join(capfd.readouterr())
    assert "address 1 (JSON) did not take it" in logged
    assert "the-secret-token" not in logged + str(ticker.cursor)


MANY = dg.MonthlyPartitionsDefinition("2018-01", end_date="2021-01", fmt="%Y-%m")
SECONDS = 1 / HOURS


class World:
    """What the assets below meet with; tests change it."""

    refuses: str | None = None
    failing: dict[str, str] = {}  # noqa: RUF012 - by check, what it says


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> type[World]:
    monkeypatch.setattr(World, "refuses", None)
    monkeypatch.setattr(World, "failing", {})
    return World


@dg.asset(key=["drives", "raw", "archive"], partitions_def=MANY)
def archive(context: dg.AssetExecutionContext) -> None:
    if World.refuses:
        raise dg.Failure(World.refuses.format(month=context.partition_key))


@dg.asset(key=["taxi", "objects", "green_trips"], partitions_def=MANY)
def trips() -> None: ...


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(name, asset=trips, partitions_def=MANY)
        for name in ("trips_plausible", "zones_known")
    ]
)
def trip_checks(context: dg.AssetCheckExecutionContext):
    for name in ("trips_plausible", "zones_known"):
        said = World.failing.get(name, "")
        yield dg.AssetCheckResult(
            passed=not said,
            asset_key=trips.key,
            check_name=name,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{context.partition_key}: {said}",
        )


@dg.multi_asset(
    name="retail_dbt",
    specs=[dg.AssetSpec(["retail", "vault", "hub_invoice"], partitions_def=MANY)],
    check_specs=[dg.AssetCheckSpec("unique_hub_invoice", asset=["retail", "vault", "hub_invoice"])],
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def retail_dbt():
    """As dagster-dbt has it: a range of months in a run, tests that look at whole tables."""
    rows = int(World.failing.get("unique_hub_invoice", 0))
    yield dg.MaterializeResult(asset_key=["retail", "vault", "hub_invoice"])
    yield dg.AssetCheckResult(
        passed=not rows,
        asset_key=["retail", "vault", "hub_invoice"],
        check_name="unique_hub_invoice",
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"status": "fail", "dagster_dbt/failed_row_count": rows},
    )
    if World.refuses:
        raise dg.Failure(World.refuses)


def months_of(*years: int) -> list[str]:
    return [f"{year}-{month:02d}" for year in years for month in range(1, 13)]


def backfill(instance: dg.DagsterInstance, months: list[str], tag: str = "lakehouse/backfill"):
    for month in months:
        materialize(instance, archive, month=month, tags={tag: "the-backfill"})


def range_of(first: str, last: str) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


def test_a_backfill_of_36_failed_months_is_one_message(instance, ticker, webhook, clock, world):
    world.refuses = "{month} is not published."
    months = months_of(2018, 2019, 2020)
    backfill(instance, months[:20])
    ticker.tick()
    backfill(instance, months[20:])
    ticker.tick()
    assert webhook.messages == []

    clock[0] = 31 * SECONDS
    ticker.tick()
    ticker.tick()

    [message] = webhook.messages
    assert message["title"] == "36 failures: drives, 2018-01 to 2020-12"
    assert message["message"].splitlines() == [
        "Severity: ERROR",
        "36 times drives/raw/archive 2018-01 to 2020-12: 2018-01 is not published.",
        f"Runs: {URL}/runs?q[0]=tag%3Alakehouse/backfill%3Dthe-backfill",
    ]


def test_a_backfill_from_the_ui_is_told_when_it_is_over(instance, ticker, webhook, world):
    world.refuses = "It is gone."
    under_way = PartitionBackfill(
        backfill_id="the-backfill",
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=time.time(),
        asset_selection=[archive.key],
    )
    instance.add_backfill(under_way)
    backfill(instance, ["2018-01", "2018-02"], tag="dagster/backfill")
    ticker.tick()
    assert webhook.messages == []

    instance.update_backfill(under_way.with_status(BulkActionStatus.COMPLETED_FAILED))
    ticker.tick()

    [message] = webhook.messages
    assert message["title"] == "2 failures: drives, 2018-01 to 2018-02"
    assert f"Backfill: {URL}/runs/b/the-backfill" in message["message"]


def test_a_failure_does_not_wait_for_ever_for_others_of_its_job(instance, ticker, webhook, clock):
    run = instance.create_run_for_job(
        dg.Definitions(assets=[bronze]).resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
    )
    failed = instance.create_run_for_job(
        dg.Definitions(assets=[bronze]).resolve_implicit_global_asset_job_def(), tags=NOT_RETRIED
    )
    instance.report_run_failed(failed, "The process of the run is gone.")
    ticker.tick()
    assert webhook.messages == []

    clock[0] = 61 * SECONDS
    ticker.tick()

    assert webhook.titles == ["Run failed: materialization"]
    instance.report_run_failed(run, "It is not needed any more.")


def test_a_message_has_a_line_for_each_reason_and_no_more_than_ten(instance, ticker, webhook):
    @dg.asset(key=["drives", "raw", "many"], partitions_def=MANY)
    def many(context: dg.AssetExecutionContext) -> None:
        raise dg.Failure("abcdefghijkl"[int(context.partition_key[-2:]) - 1] * 1000)

    for month in months_of(2018):
        materialize(instance, many, month=month)
    ticker.tick()

    [message] = webhook.messages
    lines = message["message"].splitlines()
    assert message["title"] == "12 failures: drives, 2018-01 to 2018-12"
    assert (len(lines), lines[11]) == (13, "… and 2 more")
    assert max(map(len, lines)) == 300


def test_warnings_of_a_run_are_one_message(instance, ticker, webhook, world):
    world.failing = {"trips_plausible": "17 trips are doubtful.", "zones_known": "3 in no zone."}
    run = materialize(instance, trips, trip_checks, month="2018-02")

    ticker.tick()

    [message] = webhook.messages
    assert message["title"] == "2 warnings: taxi, 2018-02"
    assert message["type"] == "warning"
    assert message["message"].splitlines() == [
        "Severity: WARN",
        "taxi/objects/green_trips 2018-02: trips_plausible: 2018-02: 17 trips are doubtful.",
        "taxi/objects/green_trips 2018-02: zones_known: 2018-02: 3 in no zone.",
        f"Run: {URL}/runs/{run.run_id}",
    ]


def test_the_same_is_told_once_a_day_and_at_once_when_it_changes(
    instance, ticker, webhook, clock, world
):
    told = []
    for hours, says in zip((0, 5, 23, 24.1, 25, 26), "777799", strict=True):
        clock[0] = hours
        world.failing = {"trips_plausible": f"{says} trips are doubtful."}
        materialize(instance, trips, trip_checks, month="2018-03")
        ticker.tick()
        told.append(len(webhook.messages))

    assert told == [1, 1, 1, 2, 3, 3]


def test_a_check_that_passes_again_is_told(instance, ticker, webhook, world):
    world.failing = {"trips_plausible": "17 trips are doubtful."}
    materialize(instance, trips, trip_checks, month="2018-02")
    materialize(instance, trips, trip_checks, month="2018-03")
    ticker.tick()
    world.failing = {}
    mended = materialize(instance, trips, trip_checks, month="2018-03")
    ticker.tick()
    materialize(instance, trips, trip_checks, month="2018-03")
    ticker.tick()

    [_, message] = webhook.messages
    assert message["title"] == "Recovered: taxi/objects/green_trips 2018-03: trips_plausible"
    assert message["type"] == "success"
    assert message["message"].startswith("It passes now, and was told to have failed on 20")
    assert f"Run: {URL}/runs/{mended.run_id}" in message["message"]


def test_months_that_are_made_at_last_are_told_together(instance, ticker, webhook, clock, world):
    world.refuses = "It is gone."
    months = months_of(2018)[:4]
    backfill(instance, months[:3])
    ticker.tick()
    clock[0] = 31 * SECONDS
    ticker.tick()
    world.refuses = None
    backfill(instance, months)
    ticker.tick()
    clock[0] = 62 * SECONDS
    ticker.tick()
    ticker.tick()

    assert webhook.titles == [
        "3 failures: drives, 2018-01 to 2018-03",
        "3 recovered: drives, 2018-01 to 2018-03",
    ]
    assert "3 times drives/raw/archive 2018-01 to 2018-03" in webhook.messages[1]["message"]


def test_what_is_mended_before_anybody_was_told_is_not_told(instance, ticker, webhook, world):
    world.refuses = "It is gone."
    materialize(instance, archive, month="2018-01")
    world.refuses = None
    materialize(instance, archive, month="2018-01")

    ticker.tick()

    assert webhook.messages == []


def test_what_failed_again_after_it_was_mended_is_told_again(instance, ticker, webhook, world):
    for refuses in ("It is gone.", None, "It is gone."):
        world.refuses = refuses
        materialize(instance, archive, month="2018-01")
        ticker.tick()

    assert [title.split(":")[0] for title in webhook.titles] == [
        "Run failed",
        "Recovered",
        "Run failed",
    ]


def test_tests_of_whole_tables_and_ranges_of_months(instance, ticker, webhook, world):
    """dbt makes a range of months in a run; a range is mended by one that has all its months."""
    world.failing = {"unique_hub_invoice": "3"}
    world.refuses = "dbt broke off."
    materialize(instance, retail_dbt, month=None, tags=range_of("2018-02", "2018-04"))
    ticker.tick()
    [message] = webhook.messages
    assert message["title"] == "2 failures: retail 1, retail_dbt 1, 2018-02 to 2018-04"
    assert (
        "retail/vault/hub_invoice 2018-02 to 2018-04: unique_hub_invoice: 3 rows break it."
        in message["message"]
    )
    assert "retail_dbt 2018-02 to 2018-04: dbt broke off." in message["message"]

    world.failing, world.refuses = {}, None
    materialize(instance, retail_dbt, month=None, tags=range_of("2018-03", "2018-04"))
    ticker.tick()
    materialize(instance, retail_dbt, month=None, tags=range_of("2018-01", "2018-12"))
    ticker.tick()

    assert webhook.titles[1:] == [
        "Recovered: retail/vault/hub_invoice 2018-03 to 2018-04: unique_hub_invoice",
        "Recovered: retail_dbt 2018-02 to 2018-04",
    ]


def test_a_run_that_was_killed_is_mended_by_the_step_that_it_was_at(instance, ticker, webhook):
    job = dg.Definitions(assets=[retail_dbt]).resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(job, tags=NOT_RETRIED | {"dagster/partition": "2018-05"})
    began = dg.DagsterEvent("STEP_START", run.job_name, step_key="retail_dbt", message="")
    instance.report_dagster_event(began, run.run_id)
    instance.report_run_failed(run, "The process of this run was killed; run it again.")
    ticker.tick()
    materialize(instance, retail_dbt, month="2018-05")
    ticker.tick()

    assert webhook.titles == [
        "Run failed: materialization 2018-05",
        "Recovered: retail_dbt 2018-05",
    ]


def test_a_daemon_that_is_killed_loses_nothing_and_repeats_nothing(
    instance, ticker, webhook, world, monkeypatch
):
    started = ticker.cursor
    world.refuses = "It is gone."
    materialize(instance, archive, month="2018-01")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as before_sending:
        before_sending.setattr(Notifier, "send", killed)
        with pytest.raises(KeyboardInterrupt):
            ticker.tick()
    ticker.tick()
    world.refuses = None
    materialize(instance, archive, month="2018-01")
    ticker.tick()
    ticker.cursor = started  # killed after sending, before Dagster stored the cursor
    ticker.tick()
    ticker.tick()

    assert webhook.titles == [
        "Run failed: materialization 2018-01",
        "Recovered: drives/raw/archive 2018-01",
    ]


def test_what_is_remembered_stays_small(instance, ticker, webhook, world, monkeypatch):
    monkeypatch.setattr(memory, "_LETTERS", 3)
    monkeypatch.setattr(memory, "_TOLD", 4)
    webhook.go_down()
    world.refuses = "It is gone."
    for month in months_of(2018)[:6]:
        materialize(instance, archive, month=month)
        ticker.tick()
    assert ticker.tick() == "0 told, 3 to be tried again."
    webhook.come_back()
    ticker.tick()
    world.refuses = None
    for month in months_of(2018)[:6]:
        materialize(instance, archive, month=month)
    ticker.tick()

    assert sorted(webhook.titles) == [
        "4 older messages could not be delivered",
        "4 recovered: drives, 2018-03 to 2018-06",
        "Run failed: materialization 2018-05",
        "Run failed: materialization 2018-06",
    ]


@pytest.fixture
def under_way(instance) -> Iterator[dg.DagsterRun]:
    """A run of the backfill that is not over."""
    job = dg.Definitions(assets=[archive]).resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={BACKFILL_TAG: "the-backfill"} | NOT_RETRIED
    )
    yield run
    if not instance.get_run_by_id(run.run_id).is_finished:
        instance.report_run_canceled(run)


def test_a_long_backfill_is_told_when_it_begins_to_fail_and_when_it_is_over(
    instance, ticker, webhook, clock, world, under_way
):
    world.refuses = "{month} is not published."
    for place, month in enumerate(months_of(2018)[:6]):
        clock[0] = place / 4
        backfill(instance, [month])
        ticker.tick()
    assert webhook.titles == ["2 failures: drives, 2018-01 to 2018-02"]
    assert webhook.messages[0]["message"].endswith(
        "The backfill goes on; all that failed of it is told when it is over."
    )

    instance.report_run_canceled(under_way)
    clock[0] += 31 * SECONDS
    ticker.tick()
    ticker.tick()

    assert webhook.titles[1:] == ["6 failures: drives, 2018-01 to 2018-06"]
    assert "goes on" not in webhook.messages[1]["message"]


def test_what_was_all_told_is_not_told_again_at_the_end(
    instance, ticker, webhook, clock, world, under_way
):
    world.refuses = "It is gone."
    backfill(instance, ["2018-01"])
    ticker.tick()
    clock[0] = 1 / 4
    ticker.tick()
    world.refuses = None
    materialize(instance, archive, month="2018-01")
    ticker.tick()
    world.refuses = "It is gone."
    backfill(instance, ["2018-02"])
    ticker.tick()
    clock[0] = 2 / 4
    ticker.tick()
    instance.report_run_canceled(under_way)
    clock[0] += 31 * SECONDS
    ticker.tick()

    assert webhook.titles == [
        "Run failed: materialization 2018-01",
        "Recovered: drives/raw/archive 2018-01",
        "Run failed: materialization 2018-02",
    ]


def test_a_backfill_whose_end_is_never_seen_is_told_after_a_day(
    instance, ticker, webhook, clock, world, under_way
):
    world.refuses = "It is gone."
    for hours, month in ((0, "2018-01"), (1, "2018-02"), (23.9, "2018-03")):
        clock[0] = hours
        backfill(instance, [month])
        ticker.tick()
    assert webhook.titles == ["2 failures: drives, 2018-01 to 2018-02"]
    clock[0] = 24.1
    ticker.tick()

    assert webhook.titles[1:] == ["3 failures: drives, 2018-01 to 2018-03"]


def test_warnings_of_a_long_backfill_wait_for_its_end(
    instance, ticker, webhook, clock, world, under_way
):
    world.failing = {"trips_plausible": "17 trips are doubtful."}
    for hours, month in ((0, "2018-01"), (2, "2018-02"), (4, "2018-03")):
        clock[0] = hours
        materialize(instance, trips, trip_checks, month=month, tags={BACKFILL_TAG: "the-backfill"})
        ticker.tick()
    assert webhook.messages == []
    instance.report_run_canceled(under_way)
    clock[0] += 31 * SECONDS
    ticker.tick()

    assert webhook.titles == ["3 warnings: taxi, 2018-01 to 2018-03"]


def test_a_backfill_is_not_over_between_two_of_its_runs(instance, ticker, webhook, clock):
    run_id = str(uuid4())
    run = instance.create_run_for_job(
        dg.Definitions(assets=[archive]).resolve_implicit_global_asset_job_def(),
        run_id=run_id,
        tags={BACKFILL_TAG: "in-this-process"} | process_tags(run_id) | NOT_RETRIED,
    )
    instance.report_run_failed(run, "It is gone.")
    ticker.tick()
    clock[0] = 10 / 60
    ticker.tick()

    assert webhook.messages == []


def test_a_backfill_on_the_command_line_is_one_message(house, webhook):
    ticker = Ticker(house.instance, webhook.address)
    ticker.tick()
    house.publish("2018-03")
    command = [sys.executable, "-m", "lakehouse.cli", "backfill", "drives", "--from", "2018-01"]
    subprocess.run([*command, "--to", "2018-03"], capture_output=True, check=False)

    ticker.tick()

    [message] = webhook.messages
    assert message["title"] == "2 failures: drives, 2018-01 to 2018-02"
    assert (
        "2 times drives/raw/archive 2018-01 to 2018-02: drives 2018-01 is not"
        in (message["message"])
    )


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


def test_partitions_left_failed_are_one_message(instance, day_ticker, webhook, clock, world):
    world.refuses = "It is gone."
    backfill(instance, months_of(2018)[:3])

    clock[0] = 25
    day_ticker.tick()
    day_ticker.tick()

    [message] = webhook.messages
    assert message["title"] == "Left failed since yesterday: drives/raw/archive 2018-01 and 2 more"
    assert "drives/raw/archive 2018-01 to 2018-03" in message["message"]


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
