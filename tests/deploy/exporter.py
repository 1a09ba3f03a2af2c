"""A `/metrics` with every metric of the lakehouse, in which everything that can be wrong is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from homes import free_port
from prometheus_client import CollectorRegistry, Gauge, start_http_server

DAY = 86400
ASSET = {"dataset": "drives", "asset": "drives/bronze/drive_days"}

RETAIL_GAUGES = (
    *("anomaly_unit_price_count", "anomaly_quantity_count", "missing_customer_id_ratio"),
    *("latest_min_total_amount", "latest_max_total_amount", "latest_median_total_amount"),
    *("latest_avg_total_amount", "latest_sales_volume"),
)


class Sick:
    """What the exporter says."""

    def __init__(self, address: str, registry: CollectorRegistry) -> None:
        self.address = address
        self._gauges: dict[str, Gauge] = {}
        self._registry = registry
        now = time.time()
        for name in RETAIL_GAUGES:
            self.set(name, 0.5 if name.endswith("_ratio") else 1000)
        self.set("lakehouse_asset_last_success_timestamp_seconds", now - DAY, **ASSET)
        self.set("lakehouse_asset_newest_data_timestamp_seconds", now - 200 * DAY, **ASSET)
        self.set("lakehouse_asset_duration_seconds", 2.5, **ASSET)
        self.set("lakehouse_asset_bytes", 1e6, **ASSET)
        for kind in ("written", "rejected", "dropped"):
            self.set("lakehouse_asset_rows", 100, **ASSET, kind=kind)
        for status in ("passed", "warned", "failed"):
            self.set("lakehouse_checks", 2, **ASSET, status=status)
        for state in ("fresh", "stale", "failed", "missing"):
            self.set("lakehouse_partitions", 3, **ASSET, state=state)
        self.set("lakehouse_queued_runs", 1)
        self.set("lakehouse_oldest_queued_run_timestamp_seconds", now - 3600)
        self.set("lakehouse_sensor_last_tick_timestamp_seconds", now - DAY, sensor="alerts")
        self.set("lakehouse_sensor_last_tick_failed", 1, sensor="alerts")
        self.set("lakehouse_runs", 7, status="success")
        self.set("lakehouse_runs", 0, status="failure")
        self.set("lakehouse_failed_runs", 0, dataset="drives", dagster_job="drives_month")
        self.set("lakehouse_clickhouse_up", 0)
        self.set("lakehouse_rejected_rows", 0, dataset="drives")

    def set(self, name: str, value: float, **labels: str) -> None:
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, name, labels, registry=self._registry)
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def stop_clickhouse(self) -> None:
        """ClickHouse does not answer; what is known from it alone is not there."""
        self.set("lakehouse_clickhouse_up", 0)
        for name in RETAIL_GAUGES:
            self._registry.unregister(self._gauges.pop(name))

    def worsen(self) -> None:
        """More runs have failed and more rows are rejected than at first."""
        self.set("lakehouse_runs", 2, status="failure")
        self.set("lakehouse_failed_runs", 2, dataset="drives", dagster_job="drives_month")
        self.set("lakehouse_rejected_rows", 1234, dataset="drives")


@contextmanager
def exporter() -> Iterator[Sick]:
    registry, port = CollectorRegistry(), free_port()
    server, thread = start_http_server(port, "127.0.0.1", registry)
    try:
        yield Sick(f"127.0.0.1:{port}", registry)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
