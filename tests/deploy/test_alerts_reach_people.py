"""Faults reach people: lakehouse, Pushgateway, Prometheus and Alertmanager, all of them real."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from exporter import ASSET, RETAIL_GAUGES, exporter
from homes import Home, free_port
from people import People
from prometheus_client.parser import text_string_to_metric_families
from servers import alertmanager, prometheus, pushgateway, until
from small_archives import archive_of, in_line, month_files, write_archive

from lakehouse.serving.metrics import push
from lakehouse.settings import Settings

MONTH = "2018-01"
CUT_SHORT = in_line(2, ",0,101", "")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A lakehouse of one month, in whose files a line is cut short."""
    folder = tmp_path_factory.mktemp("lakehouse")
    write_archive(folder / "mirror", archive_of(MONTH), month_files(MONTH, CUT_SHORT))
    home = Home(folder / "home", folder / "mirror")
    assert home.call("backfill", "drives", "--from", MONTH, "--to", MONTH).code == 1
    yield home
    home.down()


@pytest.fixture(scope="module")
def lakehouse(home: Home) -> Iterator[str]:
    """The address of its `lakehouse serve`."""
    port = free_port()
    server = home.start("serve", "--port", str(port))
    try:
        until(lambda: answers(server, port), patience=120)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.communicate(timeout=20)


def answers(server: subprocess.Popen[str], port: int) -> bool:
    assert server.poll() is None, server.communicate()
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).is_success
    except httpx.ConnectError:
        return False


def exported(address: str) -> dict[str, set[str]]:
    """The metrics at an address, the labels that each has, and the kinds of an asset's figures."""
    text = httpx.get(f"http://{address}/metrics", timeout=60).text
    return {
        family.name: {
            f"{label}={value}" if label in ("kind", "status", "state") else label
            for sample in family.samples
            if sample.labels.get("asset") in (None, ASSET["asset"])
            for label, value in sample.labels.items()
        }
        for family in text_string_to_metric_families(text)
        if family.samples
    }


def test_rules_and_dashboards_are_tried_with_the_metrics_that_there_are(lakehouse: str) -> None:
    # Not there without sensors that ticked, runs that wait, or sales.
    absent = {
        *("lakehouse_sensor_last_tick_timestamp_seconds", "lakehouse_sensor_last_tick_failed"),
        *("lakehouse_oldest_queued_run_timestamp_seconds", *RETAIL_GAUGES),
    }
    with exporter() as stand_in:
        tried = exported(stand_in.address)
    there = exported(lakehouse)
    assert tried["lakehouse_runs"] < there["lakehouse_runs"]
    told = tried.keys() - absent - {"lakehouse_runs"}
    assert {name: tried[name] for name in told} == {
        name: labels for name, labels in there.items() if name != "lakehouse_runs"
    }


def test_a_failed_check_is_told_once_and_told_when_it_passes(
    home: Home, lakehouse: str, told: People, tmp_path: Path
) -> None:
    with (
        alertmanager(tmp_path / "alertmanager", told.webhook, told.mail) as manager,
        prometheus(tmp_path / "prometheus", {"lakehouse": lakehouse}, manager, scrape="5s"),
    ):
        until(lambda: told.told("LakehouseCheckFailed"))
        time.sleep(5)  # two more chances to tell it again
        [message] = told.told("LakehouseCheckFailed")
        write_archive(home.mirror, archive_of(MONTH), month_files(MONTH))
        home.backfill(MONTH)
        [recovered] = until(lambda: told.told("LakehouseCheckFailed", "resolved"))
    [alert] = message["alerts"]
    assert alert["labels"] == {
        "alertname": "LakehouseCheckFailed",
        "severity": "critical",
        "dataset": "drives",
        "asset": "drives/bronze/drive_days",
        "status": "failed",
    }
    assert alert["annotations"]["summary"] == "1 check(s) of drives/bronze/drive_days fail."
    assert "`lakehouse rejects drives` shows the rows" in alert["annotations"]["action"]
    assert recovered["alerts"][0]["labels"] == alert["labels"]


def test_slack_and_mail_say_it_in_words_and_what_follows_is_not_told(
    told: People, tmp_path: Path
) -> None:
    with (
        exporter() as faults,
        alertmanager(tmp_path / "alertmanager", told.webhook, told.mail) as manager,
        prometheus(
            tmp_path / "prometheus", {"lakehouse": faults.address}, manager, patient=False
        ) as server,
    ):
        for place in range(11):
            table = {"dataset": "taxi", "asset": f"taxi/{place}"}
            faults.set("lakehouse_checks", 1, **table, status="failed")
        until(lambda: {"LakehouseDataTooOld", "LakehouseSensorSilent"} <= server.firing().keys())
        until(lambda: told.told("LakehouseDaemonSilent") and len(told.mails) >= 3)
        time.sleep(4)  # two chances to tell what is explained by something else
        before = {message["groupLabels"]["alertname"] for message in told.alerts}
        faults.set("lakehouse_checks", 0, **ASSET, status="failed")
        until(lambda: told.told("LakehouseCheckFailed", "resolved"))
        until(lambda: told.told("LakehouseDataTooOld"))
    assert told.refused == []
    # A failed check explains that what follows is old, a daemon that is down that no sensor ticks.
    assert not before & {"LakehouseDataTooOld", "LakehouseSensorSilent", "LakehouseSensorFailing"}
    assert "Recovered: LakehouseCheckFailed (drives)" in titles(told)
    assert "1 firing: LakehouseDataTooOld (drives)" in titles(told)
    subjects = {mail["Subject"]: mail for mail in told.mails}
    assert "1 firing: LakehouseDataTooOld (drives)" not in subjects  # a warning is not mailed
    [part] = subjects["11 firing: LakehouseCheckFailed (taxi)"].get_payload()
    text = part.get_payload(decode=True).decode().replace("\r\n", "\n")
    assert text.count("check(s) of taxi/") == 10
    assert "- and more: 11 in all\n\n`lakehouse status taxi` says which and why" in text


def test_clickhouse_that_is_away_is_told_and_nothing_recovers_by_it(
    told: People, tmp_path: Path
) -> None:
    with (
        exporter() as faults,
        alertmanager(tmp_path / "alertmanager", told.webhook, told.mail) as manager,
    ):
        faults.set("lakehouse_clickhouse_up", 1)
        targets = {"lakehouse": faults.address}
        with prometheus(tmp_path / "prometheus", targets, manager, patient=False) as server:
            until(lambda: told.told("RetailQuantityAnomalies"))
            faults.stop_clickhouse()
            until(lambda: told.told("LakehouseClickHouseDown"))
            until(lambda: "RetailQuantityAnomalies" not in server.firing())
            time.sleep(5)  # two chances to tell that it has recovered
    assert told.told("RetailQuantityAnomalies", "resolved") == []


def test_a_failed_run_that_is_an_hour_ago_has_not_recovered(told: People, tmp_path: Path) -> None:
    run = {"dataset": "drives", "dagster_job": "drives_month"}
    with (
        exporter() as faults,
        alertmanager(tmp_path / "alertmanager", told.webhook, told.mail) as manager,
    ):
        faults.worsen()
        targets = {"lakehouse": faults.address}
        with prometheus(tmp_path / "prometheus", targets, manager, patient=False):
            until(lambda: told.told("LakehouseRunFailed"))
            faults.set("lakehouse_failed_runs", 0, **run)
            until(lambda: told.told("LakehouseRunFailed", "resolved"))
            until(lambda: len([t for t in titles(told) if "LakehouseRunFailed" in t]) >= 2)
    assert "1 firing: LakehouseRunFailed (drives)" in titles(told)
    assert "No more within the last hour: LakehouseRunFailed (drives)" in titles(told)
    [text] = [
        message["attachments"][0]["text"]
        for message in told.slack
        if message["attachments"][0]["title"] == "1 firing: LakehouseRunFailed (drives)"
    ]
    assert text.startswith("- 2 run(s) of drives_month (drives) failed within the last hour.")


def titles(told: People) -> list[str]:
    return [message["attachments"][0]["title"] for message in told.slack]


def test_nothing_else_is_told_while_the_server_is_away(told: People, tmp_path: Path) -> None:
    with (
        alertmanager(tmp_path / "alertmanager", told.webhook, told.mail) as manager,
        pushgateway(tmp_path / "pushgateway") as gateway,
    ):
        faulty = 'lakehouse_checks{dataset="drives",asset="a",status="failed"} 1\n'
        httpx.put(f"http://{gateway}/metrics/job/lakehouse_push", content=faulty).raise_for_status()
        targets = {"lakehouse": "127.0.0.1:1", "pushgateway": gateway}
        with prometheus(tmp_path / "prometheus", targets, manager, patient=False) as server:
            until(lambda: server.firing().keys() >= {"LakehouseCheckFailed", "LakehouseTargetDown"})
            until(lambda: told.told("LakehouseTargetDown"))
            time.sleep(4)
    assert {message["groupLabels"]["alertname"] for message in told.alerts} == {
        "LakehouseTargetDown"
    }


def test_what_is_pushed_is_seen_under_the_original_names(retail: str, tmp_path: Path) -> None:
    with pushgateway(tmp_path / "pushgateway") as gateway:
        push(
            Settings(
                home=tmp_path / "home",
                clickhouse_url=retail,
                pushgateway_url=f"http://{gateway}",
            )
        )
        with prometheus(tmp_path / "prometheus", {"pushgateway": gateway}) as server:
            until(lambda: all(server.query(f"lakehouse:{name}") for name in RETAIL_GAUGES))
            [pushed] = server.query("anomaly_quantity_count")
            figures = {name: server.value(f"lakehouse:{name}") for name in RETAIL_GAUGES}
    assert pushed["metric"] == {"__name__": "anomaly_quantity_count", "job": "lakehouse_push"}
    assert figures == {
        "anomaly_unit_price_count": 1,
        "anomaly_quantity_count": 1,
        "missing_customer_id_ratio": 2 / 7,
        "latest_min_total_amount": 12.6,
        "latest_max_total_amount": 12.6,
        "latest_median_total_amount": 12.6,
        "latest_avg_total_amount": 12.6,
        "latest_sales_volume": 12.6,
    }
