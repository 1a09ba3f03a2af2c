"""The daemon dies between the tick of a sensor and the runs that it asked for."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import dagster as dg
import psutil
import pytest
from faults.choice import choose
from faults.daemon import daemon
from faults.rehearsal import Rehearsal

from lakehouse.samples.taxi import TRIP_FOLDER

BEFORE, AFTER, TWICE = "before it launched", "after it launched", "twice"
CHECKOUT = Path(__file__).resolve().parents[2]
DAGSTER = Path(sys.executable).with_name("dagster")
PUBLICATIONS = {"drives": "drives_publications", "taxi": "taxi_publications"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    few = {"drives": [BEFORE]}
    choose(metafunc, "number", {}, {"taxi": range(4)})
    choose(metafunc, "death", few, dict.fromkeys(PUBLICATIONS, (BEFORE, AFTER, TWICE)))


def test_a_publication(rehearsal: Rehearsal, death: str) -> None:
    """A file that is published again is followed once, whenever the daemon died."""
    months = list(rehearsal.subject.months)
    rehearsal.publish_another()
    with rehearsal.disturbed("daemon dies after a tick"):
        with daemon(rehearsal, PUBLICATIONS[rehearsal.subject.name]) as killed:
            asked = _of(months, killed.tick(dies=True))
            assert [request.partition_key for request in asked] == months
            if death in (AFTER, TWICE):
                assert killed.launch(asked) == len(months)
        with daemon(rehearsal, PUBLICATIONS[rehearsal.subject.name]) as restarted:
            launched = restarted.launch(_of(months, restarted.tick(dies=death == TWICE)))
            launched += restarted.launch(_of(months, restarted.tick()))
            assert launched == (len(months) if death == BEFORE else 0)
            assert _of(months, restarted.tick()) == []
        for report in rehearsal.run("--json").json:
            assert report["partition"] not in months or not report["ran"]


def _of(months: Sequence[str], requests: Sequence[dg.RunRequest]) -> list[dg.RunRequest]:
    """The requests for these months: a sensor also asks for what the publisher might have next."""
    return [request for request in requests if request.partition_key in months]


@pytest.mark.parametrize("dataset", ["taxi"])
def test_a_dropped_file(rehearsal: Rehearsal) -> None:
    """It is taken, asked for and made once, though the daemon dies after each tick."""
    home, months = rehearsal.home, list(rehearsal.subject.months)
    with rehearsal.disturbed("daemon dies after a tick"):
        inbox = _drop_another_edition(rehearsal)
        with daemon(rehearsal, "taxi_inbox") as killed:
            assert killed.tick(dies=True) == []
            assert killed.tick(dies=False) == []
            asked = killed.tick(dies=True)
            assert sorted(request.partition_key for request in asked) == months
        assert not list(inbox.glob("*.parquet"))
        with daemon(rehearsal, "taxi_inbox") as restarted:
            asked = restarted.tick(dies=True)
            assert restarted.launch(asked) == len(months)
            assert restarted.launch(restarted.tick()) == 0
        assert rehearsal.subject.tables(home) == rehearsal.in_peace(rehearsal.other_edition)
        _take_back(rehearsal)


def test_dagster_dev_is_killed(
    rehearsal: Rehearsal,
    number: int,
    free_port: Callable[[], int],
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    """With all of its processes, at any moment from its start to the end of the runs."""
    chance = random.Random(f"{pytestconfig.getoption('fault_seed')} {number}")
    with rehearsal.disturbed("dagster dev is killed"):
        inbox = _drop_another_edition(rehearsal)
        for _ in range(2):
            _dagster_dev(rehearsal, free_port(), tmp_path, lambda: False, chance.uniform(5, 90))
        _dagster_dev(rehearsal, free_port(), tmp_path, lambda: not [*inbox.glob("*.parquet")], 180)
        rehearsal.run()
        assert rehearsal.subject.tables(rehearsal.home) == rehearsal.in_peace(
            rehearsal.other_edition
        )
        _take_back(rehearsal)


def _drop_another_edition(rehearsal: Rehearsal) -> Path:
    """Put the files of the edition that the publisher does not have into the inbox."""
    inbox = rehearsal.home.folder / "inbox" / "taxi"
    inbox.mkdir(parents=True, exist_ok=True)
    rehearsal.publish_another()
    for path in (rehearsal.home.mirror / TRIP_FOLDER).glob("green*.parquet"):
        shutil.copy(path, inbox)
    rehearsal.publish_another()
    return inbox


def _take_back(rehearsal: Rehearsal) -> None:
    """As if nothing had been dropped: what the publisher has counts again."""
    shutil.rmtree(rehearsal.home.folder / "landing" / "taxi" / "inbox")


def _dagster_dev(
    rehearsal: Rehearsal, port: int, folder: Path, over: Callable[[], bool], seconds: float
) -> None:
    """`dagster dev` with its daemon, killed when something has come about or time is over."""
    with (folder / "dagster.log").open("a") as log:
        process = subprocess.Popen(
            [DAGSTER, "dev", "-h", "127.0.0.1", "-p", str(port)],
            cwd=CHECKOUT,
            env=rehearsal.home.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + seconds
    try:
        while not over() and time.monotonic() < deadline:
            assert process.poll() is None, (folder / "dagster.log").read_text()
            time.sleep(0.2)
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
