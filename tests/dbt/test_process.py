"""The dbt that starts ahead of being needed serves once, and is left by nobody."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lakehouse.automation.datasets import started_ahead
from lakehouse.resources import dbt_main, dbt_process
from lakehouse.settings import Settings

CACHE = Settings().cache


def waiting() -> list[psutil.Process]:
    """The dbt processes of this one."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and dbt_main.__name__ in child.cmdline()
    ]


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Two that were told to list the project's models."""
    processes = []
    with dbt_process.started_ahead(CACHE):
        [ahead] = waiting()
        for _ in range(2):
            arguments = ["--log-level-file", "none", "list", "--resource-type", "model"]
            environment = {"DBT_TARGET_PATH": str(tmp_path), "DBT_LOG_PATH": str(tmp_path)}
            results = tmp_path / "results.json"
            processes.append(dbt_process.begin(CACHE, arguments, environment, results))
        assert processes[0].pid == ahead.pid != processes[1].pid
    yield processes
    for process in processes:
        dbt_process.end(process)


def test_each_carries_out_what_it_is_told_and_outlasts_the_waiting(begun):
    for process in begun:
        assert b"retail.vault.hub_product" in process.stdout.read()


def test_one_that_is_not_needed_ends() -> None:
    with started_ahead(Settings(), "retail"), started_ahead(Settings(), "retail"):
        assert len(waiting()) == 1
    assert not waiting()


def test_one_that_has_died_is_started_anew(tmp_path: Path) -> None:
    with dbt_process.started_ahead(CACHE):
        [died] = waiting()
        died.kill()
        died.wait()
        process = dbt_process.begin(CACHE, ["--version"], {}, tmp_path / "results.json")
        assert process.poll() is None
        assert process.pid != died.pid
        dbt_process.end(process)
    assert not waiting()


def test_other_data_sets_start_no_dbt() -> None:
    with started_ahead(Settings(), "drives"):
        assert not waiting()
