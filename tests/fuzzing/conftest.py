"""A folder for a file at a time, in which nothing else may appear."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a file is put that is read; what is read never makes another one, here or above."""
    outside = tmp_path_factory.mktemp("outside")
    inside = outside / "a" / "b" / "c"
    inside.mkdir(parents=True)
    yield inside
    found = {path.relative_to(outside).as_posix() for path in outside.rglob("*")}
    assert {name for name in found if not name.startswith("a/b/c/")} == {"a", "a/b", "a/b/c"}
    assert {path.parent for path in inside.rglob("*")} <= {inside}
