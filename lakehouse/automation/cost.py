"""What the lakehouse takes: bytes by layer, growth by month, run time, and an estimate in money."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg

from lakehouse.automation.dataset import Dataset
from lakehouse.automation.verification import lake_tables
from lakehouse.errors import LakehouseError
from lakehouse.history import latest_materialization, latest_materializations
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.lake import Lake
from lakehouse.resources.maintenance import Size, clickhouse_parts, data_files, stored
from lakehouse.settings import Settings

PRICES = {
    "storage_gb_month": 0.023,
    "database_gb_month": 0.10,
    "bigquery_gb_month": 0.02,
    "bigquery_slot_hour": 0.06,
    "run_hour": 0.10,
}
"""Dollars, about what clouds ask in 2026: of a bucket, a database's disk, BigQuery, a machine."""

_GB = 1e9
_RUNS_DAYS = 30
_PRICED_AS = {"bigquery": "bigquery_gb_month", "clickhouse": "database_gb_month"}
_RECORDED = ("objects", "bigquery")
"""Layers whose bytes are those that Dagster recorded, so that no bucket has to be asked."""


@dataclass
class Layer:
    """What a data set has in a layer; `former` are versions that were replaced, kept for 30 days.

    `dollars_a_month` is what the bytes of both cost.
    """

    dataset: str
    layer: str
    files: int = 0
    bytes: int = 0
    former_bytes: int = 0
    dollars_a_month: float = 0.0


@dataclass
class Cost:
    """What the lakehouse takes.

    Attributes:
        layers: Of each data set, what lies where.
        growth: Bytes that the lake and the objects have of each month, or year.
        run_hours: Hours that runs took in the last 30 days, by data set.
        bigquery_slot_hours: Slot hours of the latest loads of all months.
        dollars_a_month: Storage of a month, and runs of the last 30 days.
        saved: What maintenance and partitions save, as sentences.
        unknown: What could not be asked.
    """

    layers: list[Layer] = field(default_factory=list)
    growth: dict[str, int] = field(default_factory=dict)
    run_hours: dict[str, float] = field(default_factory=dict)
    bigquery_slot_hours: float = 0.0
    dollars_a_month: float = 0.0
    saved: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def cost(
    settings: Settings,
    instance: dg.DagsterInstance,
    datasets: Sequence[Dataset],
) -> Cost:
    """Measure what is stored and what runs took, and estimate what that costs.

    Bytes of landed files, of the lake and of ClickHouse are measured, those of objects and of
    BigQuery are what the runs recorded. PostgreSQL is not counted.

    Args:
        settings: Where everything is.
        instance: What Dagster remembers.
        datasets: The data sets.
    """
    prices = PRICES | settings.prices
    found = Cost()
    growth: Counter[str] = Counter()
    lake = Lake(settings)
    for dataset in datasets:
        found.layers.append(_landing(settings, dataset))
        found.layers += _lake_layers(lake, dataset, growth, found)
        found.layers += _recorded_layers(instance, dataset, growth, found)
    try:
        found.layers += _clickhouse_layers(ClickHouse(settings))
    except LakehouseError as error:
        found.unknown.append(f"ClickHouse: {error}")
    found.layers = [layer for layer in found.layers if layer.files]
    for layer in found.layers:
        price = prices[_PRICED_AS.get(layer.layer, "storage_gb_month")]
        layer.dollars_a_month = (layer.bytes + layer.former_bytes) / _GB * price
    found.growth = dict(sorted(growth.items()))
    found.run_hours = _run_hours(instance)
    found.dollars_a_month = (
        sum(layer.dollars_a_month for layer in found.layers)
        + sum(found.run_hours.values()) * prices["run_hour"]
        + found.bigquery_slot_hours * prices["bigquery_slot_hour"]
    )
    found.saved += _maintenance_saved(instance)
    return found


def _landing(settings: Settings, dataset: Dataset) -> Layer:
    layer = Layer(dataset.name, "landing")
    for path in (settings.state / "landing" / dataset.name).rglob("*"):
        if path.is_file() and path.stat().st_size:
            layer.files += 1
            layer.bytes += path.stat().st_size
    return layer


def _lake_layers(lake: Lake, dataset: Dataset, growth: Counter[str], found: Cost) -> list[Layer]:
    layers: dict[str, Layer] = {}
    for name in lake_tables(dataset):
        table = lake.find(name)
        if table is None:
            continue
        of = name.split("/")[1]
        layer = layers.setdefault(of, Layer(dataset.name, of))
        by_partition: dict[str, Size] = defaultdict(Size)
        for file in data_files(lake.snapshot(table), table):
            by_partition[file.partition].add(file.bytes)
            growth[file.partition] += file.bytes
        now = sum(size.bytes for size in by_partition.values())
        layer.files += sum(size.files for size in by_partition.values())
        layer.bytes += now
        layer.former_bytes += stored(lake, table).bytes - now
        if len(by_partition) > 1 and of == "silver":
            one = max(size.bytes for size in by_partition.values())
            found.saved.append(
                f"{name}: a question about one {table.partition_by} reads at most {_mb(one)} of"
                f" {_mb(now)} MB, since others are passed over."
            )
    return list(layers.values())


def _recorded_layers(
    instance: dg.DagsterInstance, dataset: Dataset, growth: Counter[str], found: Cost
) -> list[Layer]:
    layers: dict[str, Layer] = {}
    for spec in dataset.specs:
        of = spec.key.path[1]
        if of not in _RECORDED:
            continue
        layer = layers.setdefault(of, Layer(dataset.name, of))
        for partition, made in latest_materializations(instance, spec.key).items():
            size = int(made.metadata.get("bytes") or 0)
            layer.files += 1
            layer.bytes += size
            if of == "objects":
                growth[partition] += size
            found.bigquery_slot_hours += int(made.metadata.get("slot_ms") or 0) / 3.6e6
    return list(layers.values())


def _clickhouse_layers(clickhouse: ClickHouse) -> list[Layer]:
    layers: dict[str, Layer] = {}
    for table in clickhouse_parts(clickhouse):
        database = table.table.partition(".")[0]
        dataset = database if database in ("drives", "taxi") else "retail"
        layer = layers.setdefault(dataset, Layer(dataset, "clickhouse"))
        layer.files += table.parts
        layer.bytes += table.bytes
    return list(layers.values())


def _run_hours(instance: dg.DagsterInstance) -> dict[str, float]:
    since = datetime.now(UTC) - timedelta(days=_RUNS_DAYS)
    seconds: defaultdict[str, float] = defaultdict(float)
    for record in instance.get_run_records(dg.RunsFilter(created_after=since)):
        keys = record.dagster_run.asset_selection or ()
        of = next(iter(sorted(key.path[0] for key in keys)), record.dagster_run.job_name)
        if record.start_time and record.end_time:
            seconds[of] += record.end_time - record.start_time
    return {of: taken / 3600 for of, taken in sorted(seconds.items())}


def _maintenance_saved(instance: dg.DagsterInstance) -> list[str]:
    made = latest_materialization(instance, dg.AssetKey(["maintenance", "lake", "tables"]))
    if made is None:
        return []
    told = made.metadata
    return [
        f"The latest maintenance of the lake: {told['files_before']:,} files and"
        f" {_mb(told['bytes_before'])} MB before, {told['files_after']:,} and"
        f" {_mb(told['bytes_after'])} MB after."
    ]


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"
