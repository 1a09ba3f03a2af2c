"""The disk fills up at every point of a run, services and scratch files included."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.choice import choose
from faults.rehearsal import Rehearsal

MB = 1_000_000
SENTENCE = re.compile(r"[Tt]he disk( of \S.*)? is full\b.* (free some space|make room)")
FEW = {"drives": [0, 300_000], "taxi": [200_000], "retail": [400_000]}
MANY = {
    "drives": [*range(0, 1_000_000, 50_000), *range(1 * MB, 6 * MB, 500_000)],
    "taxi": [*range(0, 1_000_000, 100_000), *range(1 * MB, 9 * MB, 1 * MB)],
    "retail": [*range(0, 1_000_000, 200_000), *range(1 * MB, 9 * MB, 2 * MB)],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    choose(metafunc, "left", FEW, MANY)


def test_a_full_disk(rehearsal: Rehearsal, left: int) -> None:
    """Full with so many bytes left; one sentence says so, and freeing space is all it takes."""
    if not rehearsal.has_own_disk:
        pytest.skip("no disk can be mounted here")
    home = rehearsal.home
    scratch = home.folder / "tmp"
    scratch.mkdir(exist_ok=True)
    rehearsal.publish_another()
    with rehearsal.disturbed("disk full"):
        with filling_up(home.folder, left):
            answer = home.run(*rehearsal.subject.backfill(), variables={"TMPDIR": str(scratch)})
        said = answer.out + answer.err
        assert "Traceback" not in said
        assert answer.code == 0 or SENTENCE.search(said), said
        if left == 0:
            assert rehearsal.subject.tables(home) == rehearsal.in_peace(rehearsal.other_edition)


@contextmanager
def filling_up(disk: Path, left: int) -> Iterator[None]:
    """Make a disk as small as what is on it, and so many bytes more."""
    for _ in range(20):  # services write meanwhile
        resized = _resize(disk, f"{shutil.disk_usage(disk).used + left}")
        if resized.returncode == 0:
            break
    assert resized.returncode == 0, resized.stderr
    try:
        yield
    finally:
        assert _resize(disk, "4g").returncode == 0


def _resize(disk: Path, size: str) -> subprocess.CompletedProcess[str]:
    remount = ["mount", "-o", f"remount,size={size}", str(disk)]
    return subprocess.run(remount, check=False, capture_output=True, text=True)
