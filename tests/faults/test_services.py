"""Services that are killed, stopped, slow, refusing or not there while tables are loaded."""

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest
from faults.choice import choose
from faults.proxy import Network
from faults.rehearsal import Rehearsal
from homes import ended
from retail_homes import wait_until_dbt_makes

from lakehouse.services.local import local_services
from lakehouse.services.postgres import PostgresService
from lakehouse.services.process import LocalService

STEPS = {
    "drives": {"clickhouse": "drives__clickhouse__daily_summary"},
    "taxi": {
        "gcs": "taxi__objects__green_trips",
        "bigquery": "taxi__bigquery__green_trips",
        "postgres": "taxi__postgres__green_trips",
        "clickhouse": "taxi__clickhouse__green_daily",
    },
    "retail": {"clickhouse": "retail_dbt"},
}
"""During which step each service is disturbed."""


def kill(service: LocalService) -> None:
    os.kill(service.status().pid or 0, signal.SIGKILL)


def stop(service: LocalService) -> None:
    service.stop()


def pause(service: LocalService) -> None:
    """As a machine that swaps, or a virtual one that is moved."""
    server = psutil.Process(service.status().pid)
    family = [server, *server.children(recursive=True)]
    for process in family:
        process.suspend()
    time.sleep(3)
    for process in family:
        process.resume()


WAYS: dict[str, Callable[[LocalService], None]] = {"killed": kill, "stopped": stop, "paused": pause}
NETWORKS = {
    "is slow": {"delay": 0.02},
    "refuses now and then": {"refuses": 3},
    "breaks off now and then": {"breaks": 4},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    few = {"drives": ["stopped"], "taxi": ["killed"], "retail": ["killed"]}
    choose(metafunc, "way", few, dict.fromkeys(STEPS, WAYS))
    few = {"drives": ["refuses now and then"]}
    choose(metafunc, "network", few, dict.fromkeys(STEPS, NETWORKS))


def test_while_it_is_used(rehearsal: Rehearsal, way: str) -> None:
    """Each service in its turn, in one run; where its end is noticed, in one line."""
    subject, home = rehearsal.subject, rehearsal.home
    services = {service.name: service for service in local_services(home.settings)}
    rehearsal.publish_another()
    with rehearsal.disturbed(f"services {way}"):
        process = home.start(*subject.backfill(), "--force")
        for name, step in STEPS[subject.name].items():
            if name in services:
                home.wait_until_it_begins(process, step)
                if step == "retail_dbt":
                    wait_until_dbt_makes(home, process, "vault")
                WAYS[way](services[name])
        answer = ended(process)
        assert "Traceback" not in answer.out + answer.err
        assert answer.code in ((0,) if way == "paused" else (0, 1)), answer.out + answer.err


def test_a_bad_network(rehearsal: Rehearsal, network: str) -> None:
    """Between us and the databases; what does not get through is said in one line."""
    home = rehearsal.home
    rehearsal.publish_another()
    with (
        rehearsal.disturbed(f"network {network}"),
        Network(home.settings.clickhouse_port, **NETWORKS[network]) as to_clickhouse,
        Network(home.settings.postgres_port, **NETWORKS[network]) as to_postgres,
    ):
        variables = {"LAKEHOUSE_CLICKHOUSE_URL": f"http://127.0.0.1:{to_clickhouse.port}"}
        if rehearsal.subject.name == "taxi":
            owner = PostgresService(home.settings).owner_url().get_secret_value()
            address = owner.replace(f":{home.settings.postgres_port}/", f":{to_postgres.port}/")
            variables["LAKEHOUSE_POSTGRES_URL"] = address
        answer = home.call(*rehearsal.subject.backfill(), **variables)
        assert to_clickhouse.connections
        assert "Traceback" not in answer.out + answer.err
        assert answer.code in ((0,) if network == "is slow" else (0, 1)), answer.out + answer.err


@pytest.mark.parametrize("dataset", ["taxi"])
def test_a_database_that_is_not_there(rehearsal: Rehearsal, free_port: Callable[[], int]) -> None:
    """All else is made; one line a month says what to do, and no password."""
    subject, port = rehearsal.subject, free_port()
    rehearsal.publish_another()
    with rehearsal.disturbed("PostgreSQL is not there"):
        answer = rehearsal.home.call(
            *subject.backfill(),
            LAKEHOUSE_POSTGRES_URL=f"postgresql://me:secret@127.0.0.1:{port}/trips",
        )
        said = [line.strip() for line in answer.out.splitlines() if line.startswith("    ")]
        errors = [line for line in said if line.startswith("taxi/postgres/green_trips: ")]
        assert answer.code == 1
        assert len(errors) == len(subject.months)
        assert f"127.0.0.1:{port}" in errors[0]
        assert "start it with `lakehouse up` or check LAKEHOUSE_POSTGRES_URL" in errors[0]
        assert "secret" not in answer.out + answer.err
        meanwhile, expected = subject.tables(rehearsal.home), rehearsal.in_peace()
        assert {name for name in meanwhile if meanwhile[name] != expected[name]} == {"postgres"}


@pytest.mark.parametrize("dataset", ["taxi"])
def test_services_that_were_started_and_never_recorded(rehearsal: Rehearsal) -> None:
    """Who started them was killed over it; they still have their ports."""
    rehearsal.publish_another()
    with rehearsal.disturbed("service started and not recorded"):
        for service in local_services(rehearsal.home.settings):
            (service.folder / "service.json").unlink()
