"""Clocks that jump, of this machine and of the publisher's."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from faults.choice import choose, choose_datasets
from faults.rehearsal import Rehearsal
from faults.subjects import SUBJECTS

from lakehouse.services.local import local_services

HOUR, DAY = 3600, 24 * 3600


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    choose(
        *(metafunc, "jump", {"drives": [40 * DAY]}),
        dict.fromkeys(SUBJECTS, (10, 2 * HOUR, 40 * DAY)),
    )
    choose_datasets(metafunc, {"test_files_of_the_future_and_of_long_ago": ["drives"]})


@pytest.fixture(scope="session")
def jumping_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes a program's clock jump."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here")
    library = tmp_path_factory.mktemp("clock") / "jumping_clock.so"
    source = Path(__file__).with_name("jumping_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def test_ahead_and_back_while_it_runs(rehearsal: Rehearsal, jump: int, jumping_clock: Path) -> None:
    """Every second, by so many seconds, for our process and those that it starts."""
    rehearsal.publish_another()
    with rehearsal.disturbed("clock jumps"):
        answer = rehearsal.home.run(
            *rehearsal.subject.backfill(),
            variables={"LD_PRELOAD": str(jumping_clock), "CLOCK_JUMP": str(jump)},
        )
        assert "Traceback" not in answer.out + answer.err
        # BigQuery drops a staging table after a day, at once where the clock is many days behind.
        assert answer.code == 0 or jump > DAY, answer.out + answer.err


def test_files_of_the_future_and_of_long_ago(rehearsal: Rehearsal) -> None:
    with rehearsal.disturbed("publisher's clock is wrong"):
        for moment in (time.time() + 9000 * DAY, 12 * HOUR):
            rehearsal.publish_another()
            for path in rehearsal.home.mirror.rglob("*.*"):
                os.utime(path, (moment, moment))
            rehearsal.run()


@pytest.mark.parametrize("dataset", ["taxi"])
def test_services_are_found_after_the_clock_was_set(rehearsal: Rehearsal) -> None:
    """When a process began is reckoned by the clock: it seems to have begun at another time."""
    services = local_services(rehearsal.home.settings)
    before = [service.status().pid for service in services]
    rehearsal.publish_another()
    with rehearsal.disturbed("clock is set while services run"):
        for service in services:
            record = service.folder / "service.json"
            kept = json.loads(record.read_text())
            record.write_text(json.dumps(kept | {"created": kept["created"] - 2 * HOUR}))
        rehearsal.run()
        assert [service.status().pid for service in services] == before
