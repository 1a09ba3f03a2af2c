"""The metrics, as Prometheus reads them: the original's gauges, and how every asset stands."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from datetime import time as day_time
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus
from prometheus_client import CollectorRegistry, generate_latest, push_to_gateway
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, basic_auth_handler
from prometheus_client.registry import Collector

from lakehouse.automation.alerts.messages import job_in_words
from lakehouse.automation.datasets import NAMES
from lakehouse.automation.freshness import State
from lakehouse.errors import LakehouseError
from lakehouse.history import Materialization
from lakehouse.resources.landing import shown
from lakehouse.serving.health import DatasetHealth, Health
from lakehouse.serving.readings import Readings
from lakehouse.settings import Settings

CONTENT_TYPE = CONTENT_TYPE_LATEST

_KEEP_SECONDS = 5.0
_PUSH_SECONDS = 10.0
_FAILED_SECONDS = 3600.0
_DURATION = "Execution Duration"
"""Under this name dbt says how long a model took, in seconds; all its models are one step."""

_QUALITY = {
    "anomaly_unit_price_count": "Sold lines with a price of zero or less.",
    "anomaly_quantity_count": "Sold lines of more than 1000 pieces.",
    "missing_customer_id_ratio": "Lines without a customer over lines with one.",
    "latest_min_total_amount": "The smallest amount of the latest day, in pounds sterling.",
    "latest_max_total_amount": "Its largest.",
    "latest_median_total_amount": "Its median.",
    "latest_avg_total_amount": "Its mean.",
    "latest_sales_volume": "Its sum.",
}
# By the names under which assets, Dagster and dbt tell of them; the first that is there counts.
_ROWS = {
    "written": ("rows_written", "dagster/partition_row_count", "dagster/row_count"),
    "rejected": ("rows_rejected",),
    "dropped": ("rows_dropped_as_duplicates",),
}
_BYTES = ("bytes", "size_bytes")


class Metrics:
    """All metrics of a server; kept for a few seconds, since several may scrape it."""

    def __init__(self, readings: Readings, health: Health) -> None:
        self._registry = CollectorRegistry()
        durations = _Durations(health)
        self._registry.register(_ClickHouseCollector(readings))
        self._registry.register(_QualityCollector(readings))
        self._registry.register(_AssetCollector(health, readings, durations))
        self._registry.register(_RunCollector(health))
        self._text = b""
        self._made = float("-inf")

    def text(self) -> bytes:
        """The metrics in Prometheus' text format.

        Raises:
            LakehouseError: Dagster's history cannot be read.
        """
        if time.monotonic() - self._made > _KEEP_SECONDS:
            self._text = generate_latest(self._registry)
            self._made = time.monotonic()
        return self._text


def push(settings: Settings) -> bool:
    """Give the metrics of tables and assets to the Pushgateway of the settings, if there is one.

    What goes wrong is logged and never raised: no run fails for its metrics.

    Returns:
        Whether the Pushgateway has them.
    """
    if settings.pushgateway_url is None:
        return False
    account = urlsplit(settings.pushgateway_url)
    address = shown(settings.pushgateway_url)
    authorized = partial(
        basic_auth_handler,
        username=unquote(account.username) if account.username else None,
        password=unquote(account.password or ""),
    )
    try:
        health = Health(settings)
        registry = CollectorRegistry()
        readings = Readings(settings)
        with health.instance:
            registry.register(_QualityCollector(readings))
            registry.register(_AssetCollector(health, readings, _Durations(health)))
            push_to_gateway(
                *(address, "lakehouse_push", registry), timeout=_PUSH_SECONDS, handler=authorized
            )
    except Exception as error:
        logging.getLogger(__name__).warning(
            "The metrics could not be pushed to %s (%s): check LAKEHOUSE_PUSHGATEWAY_URL.",
            address,
            error,
        )
        return False
    return True


class _ClickHouseCollector(Collector):
    """Whether ClickHouse answers: while it does not, what is known from it alone is left out."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        try:
            self._readings.ready()
            answers = True
        except LakehouseError:
            answers = False
        yield GaugeMetricFamily(
            "lakehouse_clickhouse_up", "1 where ClickHouse answers the reader, else 0.", answers
        )


class _QualityCollector(Collector):
    """The original's eight gauges, by its rules where its figures are there, else by ours.

    They are left out while ClickHouse is away, and without sales.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        try:
            figures = self._readings.quality(original=True) or self._readings.quality()
        except LakehouseError:
            return
        for name, about in _QUALITY.items():
            if figures and figures[name] is not None:
                yield GaugeMetricFamily(name, about, value=figures[name])


class _AssetCollector(Collector):
    """How each asset stands, by data set and asset."""

    def __init__(self, health: Health, readings: Readings, durations: "_Durations") -> None:
        self._health = health
        self._readings = readings
        self._durations = durations

    def collect(self) -> Iterator[Metric]:
        found, tables = self._health.current().values(), self._table_bytes()
        success = _gauge("asset_last_success_timestamp_seconds", "When it was last made.")
        newest = _gauge("asset_newest_data_timestamp_seconds", "The end of its newest data.")
        rows = _gauge("asset_rows", "Rows of its latest run, by what became of them.", "kind")
        duration = _gauge("asset_duration_seconds", "How long its latest run took.")
        size = _gauge("asset_bytes", "Bytes that its latest run wrote.")
        checks = _gauge("checks", "Checks of partitions, by their latest result.", "status")
        partitions = _gauge("partitions", "Partitions by how they stand.", "state")
        for health in found:
            for spec in health.specs:
                key, latest = spec.key, health.latest(spec.key)
                labels = [health.dataset.name, key.to_user_string()]
                states = health.partitions(key)
                for state in State:
                    partitions.add_metric([*labels, state.value], states[state])
                for status in ("passed", "warned", "failed"):
                    checks.add_metric([*labels, status], health.evaluations[key][status])
                if latest is None:
                    continue
                success.add_metric(labels, latest.timestamp)
                if end := _newest_data(health, key):
                    newest.add_metric(labels, end)
                for kind, names in _ROWS.items():
                    # What has no such step rejects nothing, and a file or a view has no rows.
                    rows.add_metric([*labels, kind], _first(latest.metadata, names) or 0)
                written = _first(latest.metadata, _BYTES)
                if written is None:  # dbt does not say
                    table = latest.metadata.get("dagster/table_name") or ".".join(key.path[-2:])
                    written = tables.get(table)
                if written is not None:
                    size.add_metric(labels, written)
                seconds = self._durations.of(key, latest)
                if seconds is not None:
                    duration.add_metric(labels, seconds)
        yield from (success, newest, rows, duration, size, checks, partitions)
        yield self._rejected()

    def _table_bytes(self) -> Mapping[str, int]:
        """Bytes of the tables in ClickHouse; none while it is away: others tell them themselves."""
        try:
            return self._readings.table_bytes()
        except LakehouseError:
            return {}

    def _rejected(self) -> Metric:
        rejected = GaugeMetricFamily(
            "lakehouse_rejected_rows", "Rows that could not be used.", labels=["dataset"]
        )
        for row in self._health.overview():
            rejected.add_metric([row["dataset"]], row["rows_rejected"])
        return rejected


class _RunCollector(Collector):
    """Dagster's runs, its queue, and its sensors' last ticks."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        instance = self._health.instance
        runs = GaugeMetricFamily("lakehouse_runs", "Runs by status.", labels=["status"])
        for status in dg.DagsterRunStatus:
            count = instance.get_runs_count(dg.RunsFilter(statuses=[status]))
            runs.add_metric([status.value.lower()], count)
        yield runs
        yield _failed_runs(instance)
        queued = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
        yield GaugeMetricFamily(
            "lakehouse_queued_runs",
            "Runs that wait for their turn.",
            value=instance.get_runs_count(queued),
        )
        for record in instance.get_run_records(queued, limit=1, ascending=True):
            yield GaugeMetricFamily(
                "lakehouse_oldest_queued_run_timestamp_seconds",
                "Since when the first of them waits.",
                value=record.create_timestamp.timestamp(),
            )
        yield from _ticks(instance)


def _failed_runs(instance: dg.DagsterInstance) -> Metric:
    """Of runs that Dagster tries again, only the last one counts."""
    failed = GaugeMetricFamily(
        "lakehouse_failed_runs",
        "Runs that failed within the last hour.",
        labels=["dataset", "dagster_job"],
    )
    since = time.time() - _FAILED_SECONDS
    records = instance.get_run_records(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE], updated_after=datetime.fromtimestamp(since, UTC)
        )
    )
    runs = Counter(
        (_dataset_of(record.dagster_run), job_in_words(record.dagster_run.job_name))
        for record in records
        if (record.end_time or 0) >= since
        and record.dagster_run.tags.get("dagster/will_retry") != "true"
    )
    for labels, count in runs.items():
        failed.add_metric(labels, count)
    return failed


def _dataset_of(run: dg.DagsterRun) -> str:
    """The data set that a run was about; empty where it was about none, or all."""
    selected = next(iter(run.asset_selection or ()), None)
    name = selected.path[0] if selected else run.job_name.partition("_")[0]
    return name if name in NAMES else ""


def _ticks(instance: dg.DagsterInstance) -> Sequence[Metric]:
    last = GaugeMetricFamily(
        "lakehouse_sensor_last_tick_timestamp_seconds",
        "When the sensor was last asked.",
        labels=["sensor"],
    )
    failed = GaugeMetricFamily(
        "lakehouse_sensor_last_tick_failed", "1 where that failed, else 0.", labels=["sensor"]
    )
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        # A sensor that was switched off is not asked.
        if not state.is_running:
            continue
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1):
            last.add_metric([state.instigator_name], tick.timestamp)
            failed.add_metric([state.instigator_name], tick.status is TickStatus.FAILURE)
    return last, failed


class _Durations:
    """How long the steps of runs took; what is over does not change, so it is read once."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._known: dict[dg.AssetKey, tuple[int, float | None]] = {}

    def of(self, key: dg.AssetKey, made: Materialization) -> float | None:
        """The seconds that making the asset took; None where nobody wrote it down."""
        event, seconds = self._known.get(key, (None, None))
        if event != made.event:
            seconds = self._read(key, made)
            self._known[key] = made.event, seconds
        return seconds

    def _read(self, key: dg.AssetKey, made: Materialization) -> float | None:
        if _DURATION in made.metadata:
            return float(made.metadata[_DURATION])
        step = "__".join(key.path)
        for found in self._health.instance.get_run_step_stats(made.run_id, [step]):
            if found.start_time and found.end_time:
                return found.end_time - found.start_time
        return None


def _gauge(name: str, about: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"lakehouse_{name}", about, labels=["dataset", "asset", *more])


def _newest_data(health: DatasetHealth, key: dg.AssetKey) -> float | None:
    """The end of the newest data; of a month that is not over, now."""
    end = health.data_end(key)
    if end is None:
        return None
    return min(datetime.combine(end, day_time(), UTC).timestamp(), time.time())


def _first(metadata: Mapping[str, Any], names: Sequence[str]) -> float | None:
    return next((metadata[name] for name in names if metadata.get(name) is not None), None)
