"""The configuration of Prometheus and Alertmanager, by their own tools, and the alerts' texts."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import program
from servers import MONITORING, Prometheus

RULE_TESTS = Path(__file__).with_name("rules_test.yml")


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules" / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_the_configuration_is_accepted() -> None:
    config = MONITORING / "prometheus.yml"
    result = run("promtool", "check", "config", "--lint=all", "--lint-fatal", config)
    assert "2 rule files found" in result.stdout


def test_alertmanager_accepts_its_configuration() -> None:
    result = run("amtool", "check-config", MONITORING / "alertmanager.yml")
    assert "3 receivers" in result.stdout


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("alertname=LakehouseCheckFailed severity=critical dataset=drives", "email,slack,webhook"),
        ("alertname=LakehouseDataTooOld severity=warning dataset=taxi", "slack,webhook"),
        ("alertname=AnythingElse", "webhook"),
    ],
)
def test_an_alert_goes_to_those_who_shall_know(labels: str, receivers: str) -> None:
    config = f"--config.file={MONITORING / 'alertmanager.yml'}"
    result = run("amtool", "config", "routes", "test", config, *labels.split())
    assert result.stdout.strip() == receivers


def test_the_rules_pass_their_own_tests() -> None:
    run("promtool", "test", "rules", RULE_TESTS)


@pytest.mark.parametrize("name", alerts())
def test_every_alert_has_a_test_in_which_it_fires(name: str) -> None:
    fires = rf'ALERTS\{{alertname="{name}", alertstate="firing", severity='
    assert re.search(fires, RULE_TESTS.read_text())


@pytest.mark.parametrize("name", alerts())
def test_every_alert_says_what_happened_and_what_to_do(name: str, sick: Prometheus) -> None:
    alert = sick.firing()[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "action"}
    for text in alert["annotations"].values():
        assert text.endswith(".")
        assert not re.search(r"<no value>|<error|\{\{|  |\n", text), text


def test_texts_name_the_place_and_the_figure(sick: Prometheus) -> None:
    summaries = {name: alert["annotations"]["summary"] for name, alert in sick.firing().items()}
    assert summaries["LakehouseCheckFailed"] == "2 check(s) of drives/bronze/drive_days fail."
    assert summaries["LakehouseRejectsRising"] == (
        "1234 more rows of drives are rejected than before."
    )
    assert re.fullmatch(
        r"The newest data of drives/bronze/drive_days is 200d 0h 0m \d+s old.",
        summaries["LakehouseDataTooOld"],
    )
    assert summaries["LakehouseTargetDown"] == (
        "pushgateway at 127.0.0.1:1 does not answer Prometheus."
    )


def test_every_command_in_the_texts_is_one() -> None:
    command = [sys.executable, "-m", "lakehouse.cli", "--help"]
    helped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    texts = " ".join(str(alert["annotations"]) for alert in alerts().values())
    named = set(re.findall(r"`lakehouse ([a-z]+)", texts))
    assert {"status", "rejects", "replay", "backfill"} <= named
    assert [name for name in named if f" {name} " not in helped] == []


def test_no_secret_and_no_address_beyond_this_machine() -> None:
    for path in MONITORING.rglob("*.yml"):
        text = path.read_text()
        assert not re.search(r"(password|token|api_url|secret): *[^ \n]", text), path
        hosts = re.findall(r"(?:https?://|@|: )([a-z0-9.-]+)(?::\d+|$)", text, flags=re.MULTILINE)
        addresses = {host for host in hosts if "." in host}
        assert addresses <= {"127.0.0.1", "example.org", "smtp.example.org"}


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    call = [program(name), *arguments]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result
