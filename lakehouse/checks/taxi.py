"""What must hold of taxi trips, table by table: see `checks_of` at the end."""

from calendar import monthrange
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from lakehouse.checks.common import (
    columns_known,
    conserved,
    matches_gold,
    months_beside,
    rows_of,
    volume_usual,
)
from lakehouse.checks.factory import Check, Outcome, Partition, contract_check, contract_outcome
from lakehouse.history import latest_metadata
from lakehouse.partitions import month_start
from lakehouse.resources.trip_files import read_landed_zones
from lakehouse.tables import taxi as tables
from lakehouse.tables.publication import Publication
from lakehouse.transforms.taxi.eras import FLAGS, SCHEMAS, SERVICES
from lakehouse.transforms.taxi.zones import ZONES

TOLERATED_REJECTS = 0.001
"""Share of a month's rows that may be unusable before what follows is stopped."""

_BATCH_ROWS = 500_000

_FLAG_WORDS = {
    "pickup_outside_month": "pickups outside the month",
    "dropoff_before_pickup": "dropoffs before the pickup",
    "negative_total": "negative totals",
    "distance_over_1000_miles": "distances over 1,000 miles",
}
"""The flags that are a warning; unknown zones are one of their own."""


def _keeps_contract(service: str) -> Check:
    name = tables.OBJECTS[service]

    def run(partition: Partition) -> Outcome:
        with partition.objects.local(tables.object_name(service, partition.key)) as local:
            trips = pl.scan_parquet(local.path)
            return contract_outcome(partition, name, SCHEMAS[service], trips, _batches)

    return Check("contract", "Every trip keeps the contract.", run)


def _batches(trips: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    rows = int(trips.select(pl.len()).collect().item())
    for start in range(0, rows, _BATCH_ROWS):
        yield trips.slice(start, _BATCH_ROWS).collect()


def _conserves(service: str) -> Check:
    def run(partition: Partition) -> Outcome:
        written = _in_object(partition, service)
        rejected = rows_of(partition, tables.REJECTS[service])
        return conserved(
            partition,
            int(partition.recorded.get("rows_in", written)),
            "rows in the file",
            {"in the object": written, "rejected": rejected},
            rows_written=written,
            rows_rejected=rejected,
        )

    return Check("rows_conserved", "Every row of the file is in the object or rejected.", run)


def _in_object(partition: Partition, service: str) -> int:
    with partition.objects.local(tables.object_name(service, partition.key)) as local:
        return int(pl.scan_parquet(local.path).select(pl.len()).collect().item())


def _is_readable(service: str) -> Check:
    def run(partition: Partition) -> Outcome:
        recorded = partition.recorded
        rows, rejected = int(recorded.get("rows_in", 0)), int(recorded.get("rows_rejected", 0))
        unreadable = int(recorded.get("rows_with_unreadable_cells", 0))
        return Outcome(
            passed=not rejected,
            warn=rejected <= TOLERATED_REJECTS * rows,
            sentence=f"{partition.key}: {rejected:,} of {rows:,} rows were rejected,"
            f" {unreadable:,} have cells that could not be read"
            + (
                f". See `lakehouse rejects taxi --service {service} --from {partition.key}`."
                if rejected
                else "."
            ),
            metadata={"rows_rejected": rejected, "rows_with_unreadable_cells": unreadable},
        )

    return Check("file_readable", "Hardly any row of the file is rejected.", run)


def _flagged(partition: Partition, service: str) -> dict[str, int]:
    with partition.objects.local(tables.object_name(service, partition.key)) as local:
        trips = pl.scan_parquet(local.path).select(pl.len().alias("rows"), pl.col(FLAGS).sum())
        return trips.collect(engine="streaming").row(0, named=True)


def _is_plausible(service: str) -> Check:
    def run(partition: Partition) -> Outcome:
        counts = _flagged(partition, service)
        doubtful = {flag: counts[flag] for flag in _FLAG_WORDS}
        told = ", ".join(f"{n:,} {_FLAG_WORDS[flag]}" for flag, n in doubtful.items() if n)
        return Outcome(
            passed=not told,
            warn=True,
            sentence=f"{partition.key}: of {counts['rows']:,} trips, {told or 'none is doubtful'}"
            + (" (they stay, flagged)." if told else "."),
            metadata=doubtful,
        )

    return Check("trips_plausible", "No trip is doubtful; those that are stay, flagged.", run)


def _is_of_the_month(service: str) -> Check:
    def run(partition: Partition) -> Outcome:
        counts = _flagged(partition, service)
        outside, rows = counts["pickup_outside_month"], counts["rows"]
        right = outside * 2 <= rows
        return Outcome(
            passed=right,
            sentence=f"{partition.key}: {outside:,} of {rows:,} pickups lie outside the month"
            + ("." if right else ": this is the file of another month."),
            metadata={"pickup_outside_month": outside},
        )

    return Check("of_the_month", "Most pickups lie in the month that the file is named after.", run)


def _zones_known(service: str) -> Check:
    def run(partition: Partition) -> Outcome:
        counts = _flagged(partition, service)
        unknown = counts["unknown_zone"]
        return Outcome(
            passed=not unknown,
            warn=True,
            sentence=f"{partition.key}: of {counts['rows']:,} trips, {unknown:,} begin or end in no"
            " zone of the lookup.",
            metadata={"unknown_zone": unknown},
        )

    return Check("zones_known", "Every trip begins and ends in a zone of the lookup.", run)


def _volume(service: str) -> Check:
    def run(partition: Partition) -> Outcome:
        rates = {}
        for month in (partition.key, *months_beside(partition.key)):
            recorded = latest_metadata(partition.instance, partition.asset_key, month)
            if rows := int(recorded.get("rows_written", 0)):
                rates[month] = rows / monthrange(int(month[:4]), int(month[5:]))[1]
        return volume_usual(partition, rates)

    return Check("volume_usual", "About as many trips a day as the months beside it.", run)


def _matches_file(service: str, place: str) -> Check:
    """That a database has the rows of the file, as the object has."""

    def run(partition: Partition) -> Outcome:
        month = month_start(partition.key)
        counts = (
            partition.bigquery.months(tables.BIGQUERY[service])
            if place == "BigQuery"
            else partition.postgres.months(tables.POSTGRES[service])
        )
        here, there = counts.get(month, 0), _in_object(partition, service)
        key = dg.AssetKey(["taxi", "objects", f"{service}_trips"])
        made = latest_metadata(partition.instance, key, partition.key)
        in_file = int(made.get("rows_in", there)) - int(made.get("rows_rejected", 0))
        # An object that somebody else put there has no file of the publisher's.
        ours = made.get("rows_written") == there
        return Outcome(
            passed=here == there and (not ours or there == in_file),
            sentence=f"{partition.key}: {here:,} rows in {place}, {there:,} in the object"
            + (f", {in_file:,} usable ones in the file." if ours else "."),
            metadata={"rows_loaded": here, "rows_in_object": there},
        )

    return Check("matches_file", "As many rows as the file has, but for rejected ones.", run)


def _adds_up(service: str, publication: Publication) -> Check:
    """That a gold table counts every trip of the month once."""

    def run(partition: Partition) -> Outcome:
        counts = _flagged(partition, service)
        outside = counts["pickup_outside_month"]
        gold = partition.lake.scan(publication.gold, partition.key)
        summed = int(gold.select(pl.col("trips").sum()).collect().item())
        parts = {"counted here": summed, "with a pickup outside the month": outside}
        return conserved(partition, counts["rows"], "trips in the object", parts, trips=summed)

    return Check("rows_conserved", "Every trip of the month is counted once.", run)


def _zones_keep_contract() -> Check:
    def run(partition: Partition) -> Outcome:
        lookup = read_landed_zones(Path(str(partition.recorded["path"])))
        return contract_outcome(partition, "taxi/raw/zones", ZONES, lookup.lazy())

    return Check("contract", "Every zone has a number of its own, and its names.", run)


def _service_checks(service: str) -> dict[str, Sequence[Check]]:
    checks: dict[str, Sequence[Check]] = {
        f"taxi/objects/{service}_trips": [
            _keeps_contract(service),
            _conserves(service),
            _is_readable(service),
            Check("columns_known", "No column that no era had.", columns_known),
            _is_of_the_month(service),
            _is_plausible(service),
            _zones_known(service),
            _volume(service),
        ],
        f"taxi/bigquery/{service}_trips": [_matches_file(service, "BigQuery")],
        f"taxi/postgres/{service}_trips": [_matches_file(service, "PostgreSQL")],
    }
    for name, gold in tables.gold_tables(service).items():
        table = gold.publication.gold
        checks[f"taxi/gold/{service}_{name}"] = [
            contract_check(table),
            _adds_up(service, gold.publication),
        ]
        checks[f"taxi/clickhouse/{service}_{name}"] = [matches_gold(gold.publication)]
    return checks


CHECKS: dict[str, Any] = {"taxi/raw/zones": [_zones_keep_contract()]}
for _service in SERVICES:
    CHECKS |= _service_checks(_service)
"""The checks of each asset, by its key."""
