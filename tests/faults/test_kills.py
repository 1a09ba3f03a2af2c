"""SIGKILL at random moments of every phase; each second try kills the recovery as well.

The moments follow from `--fault-seed`, the data set and the number of the try, which the test's
name has: `pytest "tests/faults/test_kills.py::test_killed[taxi-17]" --full` repeats one.
"""

import os
import random
import signal
import time
from collections.abc import Iterator

import psutil
import pytest
from faults.choice import choose
from faults.rehearsal import Rehearsal
from faults.subjects import SHORT_STEP
from homes import Home

from lakehouse.resources import dbt_main

FEW = {"drives": [1, 4], "taxi": [1, 9], "retail": [1, 2]}
MANY = {"drives": range(75), "taxi": range(48), "retail": range(30)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    choose(metafunc, "number", FEW, MANY)


def test_killed(rehearsal: Rehearsal, number: int, pytestconfig: pytest.Config) -> None:
    seed = f"{pytestconfig.getoption('fault_seed')} {rehearsal.subject.name} {number}"
    chance = random.Random(seed)
    phases = list(rehearsal.subject.steps)
    if not rehearsal.home.has_bigquery:
        phases = [phase for phase in phases if phase != "BigQuery"]
    chosen = [phases[number % len(phases)], *chance.sample(phases, number % 2)]
    rehearsal.publish_another()
    with rehearsal.disturbed(*(f"SIGKILL in {phase}" for phase in chosen)):
        for phase in chosen:
            kill_in(phase, rehearsal, chance)
    assert not dbts_of(rehearsal.home)


def kill_in(phase: str, rehearsal: Rehearsal, chance: random.Random) -> None:
    """Kill a backfill of all in the middle of a phase, by itself or with its children."""
    subject, home = rehearsal.subject, rehearsal.home
    step = chance.choice(subject.steps[phase])
    moment = chance.uniform(0, subject.seconds.get(phase, SHORT_STEP))
    with_children = chance.random() < 0.5
    while True:
        process = home.start(*subject.backfill(), "--force", start_new_session=True)
        home.wait_until_it_begins(process, step)
        time.sleep(moment)
        if with_children:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        out, err = process.communicate()
        if process.returncode == -signal.SIGKILL:
            return
        assert process.returncode == 0, out + err
        moment /= 2  # it had ended before


def dbts_of(home: Home) -> list[psutil.Process]:
    """The dbt processes that work for a lakehouse."""
    return list(_dbts_of(home))


def _dbts_of(home: Home) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["environ", "cmdline"]):
        at_home = (process.info["environ"] or {}).get("LAKEHOUSE_HOME") == str(home.folder)
        if at_home and dbt_main.__name__ in (process.info["cmdline"] or []):
            yield process
