"""The demonstration: sample sources, all data sets built from them, in a home of its own."""

import os
import shutil
import socket
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lakehouse.automation.backfill import Report
from lakehouse.automation.console import backfill_on
from lakehouse.automation.datasets import dataset
from lakehouse.errors import LakehouseError
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.samples import drives, retail, taxi
from lakehouse.services import bigquery
from lakehouse.services.local import local_services
from lakehouse.settings import Settings

_FOREIGN = ("LAKEHOUSE_", "DAGSTER_HOME", "STORAGE_EMULATOR_HOST")
"""Settings of others that would lead the demo out of its own home."""

_QUERIES = {
    "The brand with the most drive days of each year": (
        "SELECT year, brand, drive_count, drive_days, drive_failures"
        " FROM drives.yearly_summary ORDER BY year, drive_days DESC LIMIT 1 BY year"
    ),
    "Models with the most failures in a quarter": (
        "SELECT period_start, model, drive_days, failures, round(afr, 2) AS afr_per_cent,"
        " concat(round(afr_low, 1), ' to ', round(afr_high, 1)) AS interval_95"
        " FROM drives.failure_rates WHERE period = 'quarter' ORDER BY failures DESC LIMIT 5"
    ),
    "Taxi trips and revenue of each month": (
        "SELECT service, toStartOfMonth(date) AS month, sum(trips) AS trips,"
        " round(sum(revenue), 2) AS dollars,"
        " round(100 * sum(tips) / sum(revenue), 1) AS tips_per_cent"
        " FROM taxi.daily GROUP BY service, month ORDER BY month, service"
    ),
    "Products that were sold for most": (
        "SELECT stock_code, any(description) AS description, sum(quantity) AS pieces,"
        " sum(total_amount) AS pounds FROM marts.Fact_Sales"
        " JOIN marts.Dim_Product USING (product_key)"
        " GROUP BY stock_code ORDER BY pounds DESC LIMIT 5"
    ),
}


def run_demo(*, keep: bool, out: Console, err: Console) -> None:
    """Build everything from sample sources below `<home>/demo`, and show where to look.

    The demo has a home of its own, so that made-up rows never mix with real ones.

    Raises:
        LakehouseError: A partition failed.
    """
    started = time.monotonic()
    settings = _demo_settings(out)
    _make_sources(settings, out)
    services = local_services(settings)
    try:
        for service in services:
            with err.status(f"Starting {service.name} (at first, its program is fetched) …"):
                out.print(f"{service.name} runs at {service.start().address}", highlight=False)
        reports = _build(settings, out, err)
        _show_tables(settings, out)
    finally:
        if not keep:
            for service in services:
                service.stop()
    if not all(report.ok for report in reports):
        raise LakehouseError("the demo did not come out right: see the lines in red above")
    checks = sum(report.checks_passed for report in reports)
    built = sum(report.ran for report in reports)
    out.print(
        f"\n{built} partitions built, {len(reports) - built} up to date, {checks} checks passed, in"
        f" {time.monotonic() - started:.0f} s."
        + (" The yellow lines are faults that the samples hold on purpose." if built else ""),
        highlight=False,
    )
    _show_where_to_look(settings, keep, out)


def _build(settings: Settings, out: Console, err: Console) -> list[Report]:
    reports = backfill_on(settings, dataset(settings, "drives"), drives.DEMO_MONTHS, out, err)
    trips = dataset(settings, "taxi")
    for service, months in taxi.DEMO_MONTHS.items():
        reports += backfill_on(settings, trips, months, out, err, service=service)
    reports += backfill_on(settings, dataset(settings, "retail"), retail.DEMO_MONTHS, out, err)
    return reports


def _demo_settings(out: Console) -> Settings:
    """The settings of the demo's home; in the environment, since Dagster's storage reads them.

    No other setting counts: the demo must not write into anybody's lake, ClickHouse or history.
    """
    home = Settings().demo
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    os.environ["LAKEHOUSE_HOME"] = str(home)
    os.environ["LAKEHOUSE_SOURCE_MIRROR"] = str(home / "mirror")
    for service in ("CLICKHOUSE", "GCS", "BIGQUERY", "POSTGRES"):
        os.environ[f"LAKEHOUSE_{service}_PORT"] = str(_free_port())
    if reason := bigquery.available(Settings()):
        out.print(f"[yellow]BigQuery is left out:[/] {reason}", highlight=False, soft_wrap=True)
        os.environ["LAKEHOUSE_WITHOUT"] = "bigquery"
    return Settings()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _make_sources(settings: Settings, out: Console) -> None:
    mirror = Path(str(settings.source_mirror))
    made = mirror / ".made"
    if not made.exists():
        drives.make_drive_archives(mirror)
        taxi.make_taxi_months(mirror)
        retail.make_retail_workbook(mirror)
        made.touch()
    out.print(f"Sample files, as the publishers have them: {mirror}", highlight=False)


def _show_tables(settings: Settings, out: Console) -> None:
    clickhouse = ClickHouse(settings)
    for title, sql in _QUERIES.items():
        answer = clickhouse.query(sql)
        table = Table(*answer.columns, title=title, title_justify="left")
        for row in answer.rows:
            table.add_row(*map(str, row))
        out.print(table)


def _show_where_to_look(settings: Settings, keep: bool, out: Console) -> None:
    home = settings.state
    exports = [f"export LAKEHOUSE_HOME={home} LAKEHOUSE_SOURCE_MIRROR={home}/mirror"]
    if shutil.which("lakehouse") is None:
        exports.append(f"export PATH={Path(sys.argv[0]).absolute().parent}:$PATH")
    out.print("\nLook around in the demo's home:", highlight=False)
    for command in exports:
        out.print(f"  {command}", highlight=False, soft_wrap=True)
    for command, meaning in (
        ("lakehouse status", "what is there, and which checks fail"),
        ("lakehouse rejects drives", "the lines that could not be used, and why"),
        ('lakehouse query "SHOW TABLES FROM drives"', "what can be asked, with SQL"),
        ("lakehouse serve", "the dashboard, the API and the metrics"),
        ("dagster dev", "the asset graph, its checks and its history"),
    ):
        out.print(f"  {command:<42} {meaning}", highlight=False, soft_wrap=True)
    services = "run on; `lakehouse down` stops them" if keep else "are down again"
    out.print(f"The services {services}. For your own data, see README.md.", highlight=False)
