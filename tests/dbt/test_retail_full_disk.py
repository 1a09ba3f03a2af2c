"""dbt where the disk of ClickHouse is full: no table is lost, and one more run is whole."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from homes import free_port
from retail import MONTHS, NOVEMBER, Retail, failures

from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.settings import Settings


@pytest.mark.parametrize("left", [0, 500_000])
def test_a_full_disk_takes_no_table_away(
    new_disk: Callable[[str], Path], tmp_path: Path, left: int
) -> None:
    disk = new_disk("400m")
    service = ClickHouseService(Settings(home=disk / "home", clickhouse_port=free_port()))
    service.start()
    try:
        retail = Retail(service.status().address, tmp_path)
        retail.empty()
        retail.stage(*MONTHS)
        retail.make()
        expected = retail.tables()
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            file.write(b"0" * (shutil.disk_usage(disk).free - left))

        result = retail.dbt("run", months=["2010-11"])
        assert not result.success
        said = {str(message) for message in failures(result).values()}
        assert any("not enough space" in message or "No space left" in message for message in said)

        filler.unlink()
        service.stop()
        service.start()
        retail = Retail(service.status().address, tmp_path)
        assert retail.tables() == expected
        retail.stage(NOVEMBER)
        retail.make()
        assert retail.tables() == expected
    finally:
        service.stop()
