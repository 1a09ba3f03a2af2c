"""Prometheus, Alertmanager and Pushgateway as the configuration starts them, on free ports.

The configuration is the one in deploy/monitoring. Only addresses and times are replaced.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml
from homes import free_port
from programs import command as command_of

MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
PATIENCE = 60.0
T = TypeVar("T")


def until(ask: Callable[[], T], patience: float = PATIENCE) -> T:
    """The first answer that is something."""
    deadline = time.monotonic() + patience
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"no answer within {patience:.0f} seconds"
        time.sleep(0.1)
    return answer


@contextmanager
def pushgateway(folder: Path) -> Iterator[str]:
    """A running Pushgateway; its address."""
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    command = [*command_of("prometheus-pushgateway"), f"--web.listen-address={address}"]
    with _running(command, folder, f"http://{address}"):
        yield address


@contextmanager
def alertmanager(folder: Path, webhook: str, mail: str) -> Iterator[str]:
    """A running Alertmanager that tells the webhook, a Slack that is the webhook, and the mail."""
    shutil.copytree(MONITORING, folder, ignore=shutil.ignore_patterns("secrets"))
    config = _read(folder / "alertmanager.yml")
    config["route"] |= {"group_wait": "1s", "group_interval": "2s"}
    config["global"] |= {"smtp_smarthost": mail, "smtp_require_tls": False}
    receivers = {receiver["name"]: receiver for receiver in config["receivers"]}
    receivers["webhook"]["webhook_configs"][0]["url"] = f"{webhook}/alerts"
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "webhook_token").write_text("the-token")
    (secrets / "slack_url").write_text(f"{webhook}/slack")
    (secrets / "smtp_password").write_text("the-password")
    _write(folder / "alertmanager.yml", config)
    address = f"127.0.0.1:{free_port()}"
    command = [
        *command_of("prometheus-alertmanager"),
        "--config.file=alertmanager.yml",
        "--storage.path=data",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with _running(command, folder, f"http://{address}"):
        yield address


@contextmanager
def prometheus(
    folder: Path,
    targets: dict[str, str],
    alertmanager: str | None = None,
    *,
    scrape: str = "1s",
    patient: bool = True,
) -> Iterator["Prometheus"]:
    """A running Prometheus.

    Args:
        folder: Where it lives.
        targets: The address of each job; jobs without one are left out.
        alertmanager: Where it sends alerts.
        scrape: How often it asks, and how long it waits for an answer.
        patient: Whether alerts wait as long as the rules say before they fire, and a little before
            they end; otherwise they do both at once.
    """
    shutil.copytree(MONITORING, folder, ignore=shutil.ignore_patterns("secrets"))
    config = _read(folder / "prometheus.yml")
    config["global"] = {"scrape_interval": scrape, "evaluation_interval": "1s"}
    config["scrape_configs"] = [j for j in config["scrape_configs"] if j["job_name"] in targets]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    managers = [{"targets": [alertmanager]}] if alertmanager else []
    config["alerting"]["alertmanagers"] = [{"static_configs": managers}]
    _write(folder / "prometheus.yml", config)
    rules = folder / "rules" / "alerts.yml"
    rules.write_text(_hurried(rules.read_text(), patient))
    address = f"127.0.0.1:{free_port()}"
    command = [
        *command_of("prometheus"),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address={address}",
    ]
    with _running(command, folder, f"http://{address}"):
        yield Prometheus(f"http://{address}")


class Prometheus:
    """Prometheus, asked through its API."""

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What the expression gives now: labels and value of each series."""
        answer = self._ask("query", query=expression)
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        return answer["data"]["result"]

    def value(self, expression: str) -> float | None:
        """The single value of the expression, if there is one."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire, by name."""
        alerts = self._ask("alerts")["data"]["alerts"]
        return {a["labels"]["alertname"]: a for a in alerts if a["state"] == "firing"}

    def _ask(self, what: str, **parameters: str) -> Any:
        url = f"{self.address}/api/v1/{what}"
        return httpx.get(url, params=parameters, timeout=PATIENCE).json()


@contextmanager
def _running(command: list[Any], folder: Path, address: str) -> Iterator[None]:
    log = folder / "server.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT) as process,
    ):
        try:
            until(lambda: _ready(process, log, address))
            yield
        finally:
            process.terminate()


def _hurried(rules: str, patient: bool) -> str:
    if patient:
        return rules.replace("keep_firing_for: 10m", "keep_firing_for: 10s")
    return re.sub(r"^ +(keep_firing_)?for: .*\n", "", rules, flags=re.MULTILINE)


def _ready(process: subprocess.Popen, log: Path, address: str) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return httpx.get(f"{address}/-/ready").is_success
    except httpx.TransportError:
        return False


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _write(path: Path, content: Any) -> None:
    path.write_text(yaml.safe_dump(content))
