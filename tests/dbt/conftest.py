"""One ClickHouse for all tests of the dbt project, empty before each."""

from collections.abc import Iterator

import pytest
from retail import Retail

from lakehouse.services.clickhouse import ClickHouseService


@pytest.fixture(scope="session")
def warehouse(
    clickhouse_service: ClickHouseService, tmp_path_factory: pytest.TempPathFactory
) -> Retail:
    return Retail(clickhouse_service.status().address, tmp_path_factory.mktemp("dbt"))


@pytest.fixture
def retail(warehouse: Retail) -> Iterator[Retail]:
    """Nothing staged yet."""
    warehouse.empty()
    yield warehouse
    warehouse.drop()
