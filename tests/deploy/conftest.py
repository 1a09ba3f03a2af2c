"""A Prometheus that sees everything go wrong, people who are told, and retail's tables."""

import time
from collections.abc import Iterator

import pytest
from exporter import exporter
from homes import free_port
from people import People, people
from servers import Prometheus, prometheus, until

from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.settings import Settings
from tests.dbt.retail import MONTHS, Retail


@pytest.fixture(scope="session")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus whose lakehouse has every fault that there is an alert for, told at once."""
    folder = tmp_path_factory.mktemp("sick") / "prometheus"
    with exporter() as faults:
        targets = {"lakehouse": faults.address, "pushgateway": "127.0.0.1:1"}
        with prometheus(folder, targets, patient=False) as server:
            until(lambda: server.query("lakehouse_rejected_rows"))
            faults.worsen()
            until(lambda: server.query("lakehouse:rejected_rows:rise6h > 0"))
            time.sleep(3)  # two more evaluations, so that the alerts have seen all of it
            yield server


@pytest.fixture
def told() -> Iterator[People]:
    with people() as them:
        yield them


@pytest.fixture(scope="session")
def retail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ClickHouse with three small months of Online Retail, as dbt makes its tables of them.

    It is a server of its own, since other tests empty the session's.
    """
    home = tmp_path_factory.mktemp("retail")
    service = ClickHouseService(Settings(home=home / "home", clickhouse_port=free_port()))
    address = service.start().address
    tables = Retail(address, home / "dbt")
    tables.empty()
    tables.stage(*MONTHS)
    tables.make()
    yield address
    service.stop()
