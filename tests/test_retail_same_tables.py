"""However often, in whatever order and however rudely Online Retail is made: the same tables.

`retail_homes.tables` gives a digest of all that is made: staging, vault, marts, quality, rejects.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from homes import Home
from retail_homes import (
    BACKFILL,
    MONTHS,
    backfill,
    publish,
    tables,
    wait_until_dbt_makes,
    wait_until_it_begins,
)

from lakehouse.services.clickhouse import ClickHouseService

MakeHome = Callable[[Path], Home]
Editions = tuple[dict[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    root = tmp_path_factory.mktemp("undisturbed")
    publish(root / "mirror", 1)
    home = Home(root / "home", root / "mirror")
    try:
        backfill(home)
        yield home
    finally:
        home.down()


@pytest.fixture(scope="module")
def editions(undisturbed: Home) -> Editions:
    """What is made of a first workbook, and of another one, in peace."""
    first = tables(undisturbed)
    publish(undisturbed.mirror, 2)
    backfill(undisturbed)
    return first, tables(undisturbed)


def test_another_workbook_is_followed_by_everything(editions: Editions) -> None:
    first, second = editions

    assert first.keys() == second.keys()
    assert {
        *("raw.online_retails", "raw.psa_online_retails", "vault.hub_invoice"),
        *("vault.sat_invoice", "vault.sat_product", "marts.Fact_Sales", "marts.Dim_Time"),
        *("quality.anomaly_customer_invoices", "quality.data_quality", "quality.sales_summary"),
    } <= {name for name in first if first[name] != second[name]}


def test_a_second_run_does_nothing(undisturbed: Home, editions: Editions) -> None:
    reports = undisturbed.call(*BACKFILL, "--json").json

    assert [(report["partition"], report["ok"], report["ran"]) for report in reports] == [
        ("", True, False),
        *((month, True, False) for month in MONTHS),
        (f"{MONTHS[0]} to {MONTHS[-1]}", True, False),
    ]
    assert tables(undisturbed) == editions[1]


def test_one_month_a_second_time_by_force(undisturbed: Home, editions: Editions) -> None:
    backfill(undisturbed, "--force", month=MONTHS[1])

    assert tables(undisturbed) == editions[1]


def test_in_another_order_then_by_two_processes(
    tmp_path: Path, make_home: MakeHome, editions: Editions
) -> None:
    publish(tmp_path / "mirror", 1)
    home = make_home(tmp_path / "mirror")
    backfill(home, month=MONTHS[2])
    backfill(home, month=MONTHS[0])
    backfill(home)
    assert tables(home) == editions[0]

    publish(home.mirror, 2)
    both = [home.start(*BACKFILL, "--force") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    assert tables(home) == editions[1]


def test_killed_again_and_again(undisturbed: Home, editions: Editions) -> None:
    """With SIGKILL, while a month is staged and while dbt makes the vault and the marts."""
    publish(undisturbed.mirror, 1)
    for step in ("retail__raw__online_retails", "retail__raw__psa_online_retails"):
        process = undisturbed.start(*BACKFILL)
        wait_until_it_begins(undisturbed, process, step)
        _kill(process)
    for database in ("vault", "marts"):
        process = undisturbed.start(*BACKFILL)
        wait_until_dbt_makes(undisturbed, process, database)
        _kill(process)

    answer = undisturbed.run(*BACKFILL)

    assert answer.code == 0, answer.out + answer.err
    assert tables(undisturbed) == editions[0]
    assert not _dbts_of(undisturbed)
    (retail,) = undisturbed.call("status", "retail", "--json").json
    assert retail["failed_partitions"] == {}
    assert [check for check in retail["failing_checks"] if check["stops"]] == []


def test_clickhouse_that_is_killed_in_the_middle(undisturbed: Home, editions: Editions) -> None:
    """It is started again, and dbt too; where that fails a line says it. What follows is whole."""
    publish(undisturbed.mirror, 2)
    process = undisturbed.start(*BACKFILL, "--force")
    wait_until_dbt_makes(undisturbed, process, "vault")
    service = ClickHouseService(undisturbed.settings)
    os.kill(service.status().pid or 0, signal.SIGKILL)
    out, err = process.communicate(timeout=300)

    assert process.returncode == 0 or "ClickHouse stopped answering while dbt ran" in out, out + err
    assert "Traceback" not in out + err
    assert not _dbts_of(undisturbed)

    backfill(undisturbed)
    assert tables(undisturbed) == editions[1]


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def _dbts_of(home: Home) -> list[psutil.Process]:
    """The dbt processes that work for a lakehouse."""
    return [
        process
        for process in psutil.process_iter(["environ"])
        if str(home.folder) in (process.info["environ"] or {}).get("DBT_TARGET_PATH", "")
    ]
