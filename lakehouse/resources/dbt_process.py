"""The process that is dbt, from this side: started ahead of being needed, told what to make, ended.

Here is only what takes no time to import, so that dbt can start before all else.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from lakehouse.resources import dbt_main
from lakehouse.resources.dbt_project import PROJECT, parsed_path

_SECONDS_TO_END = 30

_waiting: "list[subprocess.Popen[bytes]]" = []
"""The dbt that was started ahead, until it is told what to make."""


@contextmanager
def started_ahead(cache: Path) -> Iterator[None]:
    """Has dbt started, which takes seconds to read itself and the project, meanwhile.

    Raises:
        LakehouseError: dbt cannot read the project.
    """
    if _waiting:
        yield
        return
    _waiting.append(_start(cache))
    try:
        yield
    finally:
        while _waiting:
            end(_waiting.pop())


def begin(
    cache: Path, arguments: Sequence[str], environment: Mapping[str, str], results: Path
) -> "subprocess.Popen[bytes]":
    """A dbt that carries out these arguments: that which was started ahead, or a new one.

    Args:
        cache: Where the project is kept as dbt has read it.
        arguments: What follows `dbt` on a command line.
        environment: Variables of the environment.
        results: The file to put what became of each node into: see `dbt_main.request`.

    Raises:
        LakehouseError: dbt cannot read the project.
    """
    process = _waiting.pop() if _waiting else _start(cache)
    if process.poll() is not None:
        process = _start(cache)
    # One that ends just now says so by its output.
    with suppress(BrokenPipeError):
        stdin = cast("BinaryIO", process.stdin)
        stdin.write(dbt_main.request(arguments, environment, results))
        stdin.flush()
    return process


def end(process: "subprocess.Popen[bytes]") -> None:
    """Have a dbt end that nobody listens to any more."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(cache: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", dbt_main.__name__, str(parsed_path(cache))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=PROJECT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
