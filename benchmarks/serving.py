"""Load on the API beside the original's way: requests a second, the slowest, errors, memory.

    python -m benchmarks.serving --seconds 30 --clients 50

Both servers read one ClickHouse with twelve years of days; ours is `lakehouse serve`, the other is
original_api.py. The clients, one process, share the machine with the servers. Most requests are for
the two summaries, which ours keeps; of the rest each is for other days, so that ClickHouse answers.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from socket import socket
from urllib.error import HTTPError
from urllib.request import urlopen

import polars as pl
import psutil

from benchmarks.harness import ROOT, Comparison, at_least, free_port, left_at_most

PATHS = ("/api/daily_summary", "/api/yearly_summary")
ONE_FOR_OTHER_DAYS_IN = 10
MOST_DAYS = 90
KEPT_MB = 32
"""What answers that are kept may take, and no more however long the load lasts."""
FIRST_DAY = date(2013, 4, 10)
DAYS = 4383


@dataclass(frozen=True)
class Load:
    """What a load came to; memory is what the server had grown by, from a warm start.

    Median and slowest are of the two summaries, and of other days by themselves: as many clients as
    these keep waiting for ClickHouse, however many it answers.
    """

    requests_a_second: float
    median_ms: float
    p99_ms: float
    other_days_p99_ms: float
    errors: int
    grown_mb: float


def fill() -> None:
    """Twelve years of days, and of seven brands, in the ClickHouse of the environment."""
    from lakehouse.resources.clickhouse import ClickHouse
    from lakehouse.settings import Settings
    from lakehouse.tables import drives

    clickhouse = ClickHouse(Settings())
    numbers = random.Random(0)
    days = pl.DataFrame(
        {
            "date": [FIRST_DAY + timedelta(days=n) for n in range(DAYS)],
            "drive_count": [numbers.randrange(20_000, 300_000) for _ in range(DAYS)],
            "drive_failures": [numbers.randrange(30) for _ in range(DAYS)],
        }
    )
    for (month,), rows in days.group_by(pl.col("date").dt.strftime("%Y%m")):
        clickhouse.replace_partition(drives.CH_DAILY_SUMMARY, (int(str(month)),), rows, "benchmark")
    for year in range(2013, 2026):
        rows = pl.DataFrame(
            {
                "year": [year] * 7,
                "brand": ["Crucial", "Dell BOSS", "HGST", "Others", "Seagate", "Toshiba", "WDC"],
                "drive_count": [numbers.randrange(10_000) for _ in range(7)],
                "drive_days": [numbers.randrange(10**7) for _ in range(7)],
                "drive_failures": [numbers.randrange(1000) for _ in range(7)],
            }
        )
        clickhouse.replace_partition(drives.CH_YEARLY_SUMMARY, (year,), rows, "benchmark")


def _path(turn: int, numbers: random.Random) -> str:
    if numbers.randrange(ONE_FOR_OTHER_DAYS_IN):
        return PATHS[turn % len(PATHS)]
    first = FIRST_DAY + timedelta(days=numbers.randrange(DAYS))
    last = first + timedelta(days=numbers.randrange(MOST_DAYS))
    return f"/api/daily_summary?from={first}&to={last}"


async def _client(
    port: int,
    until: float,
    numbers: random.Random,
    seconds: dict[str, list[float]],
    errors: list[str],
) -> None:
    """Asks for one after the other, over one connection where the server keeps it."""
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    turn = 0
    while time.perf_counter() < until:
        turn += 1
        path = _path(turn, numbers)
        started = time.perf_counter()
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            status = head.split(b" ", 2)[1]
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await asyncio.wait_for(reader.readexactly(length), 60)
            if status != b"200":
                errors.append(status.decode())
            if b"connection: close" in head.lower():
                writer.close()
                reader = writer = None
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            errors.append(type(error).__name__)
            if writer:
                writer.close()
            reader = writer = None
        seconds[path.partition("?")[1]].append(time.perf_counter() - started)
    if writer:
        writer.close()


async def _load(
    port: int, seconds: float, clients: int
) -> tuple[list[float], list[float], list[str]]:
    """What requests for the two summaries took, and those for other days; what went wrong."""
    taken: dict[str, list[float]] = {"": [], "?": []}
    errors: list[str] = []
    until = time.perf_counter() + seconds
    # Other ones each time: what was asked while the server warmed up is kept.
    numbers = random.Random(until)
    await asyncio.gather(*(_client(port, until, numbers, taken, errors) for _ in range(clients)))
    return sorted(taken[""]), sorted(taken["?"]), errors


def measure(process: psutil.Process, port: int, seconds: float, clients: int) -> Load:
    """Loads a server that runs; the first seconds only warm it up."""
    with suppress(HTTPError):  # ours imports all data sets first, the other has no such thing
        urlopen(f"http://127.0.0.1:{port}/api/rejects", timeout=120).close()
    asyncio.run(_load(port, min(3.0, seconds), clients))
    before = process.memory_info().rss
    started = time.perf_counter()
    taken, others, errors = asyncio.run(_load(port, seconds, clients))
    elapsed = time.perf_counter() - started
    return Load(
        requests_a_second=(len(taken) + len(others) - len(errors)) / elapsed,
        median_ms=1000 * taken[len(taken) // 2],
        p99_ms=1000 * taken[int(len(taken) * 0.99)],
        other_days_p99_ms=1000 * others[int(len(others) * 0.99)],
        errors=len(errors),
        grown_mb=(process.memory_info().rss - before) / 1024**2,
    )


def run_server(
    command: list[str], port: int, environment: dict[str, str], seconds: float, clients: int
) -> Load:
    """Starts a server, loads it, ends it."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait_for(port, process)
            return measure(psutil.Process(process.pid), port, seconds, clients)
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with socket() as probe, suppress(OSError):
            probe.connect(("127.0.0.1", port))
            return
        time.sleep(0.1)
    sys.exit("a server did not start")


def compare(seconds: float = 30, clients: int = 50) -> tuple[Load, Load]:
    """The original's way, and ours, one after the other."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as home:
        clickhouse, ours, theirs = free_port(), free_port(), free_port()
        environment = os.environ | {
            "LAKEHOUSE_HOME": home,
            "LAKEHOUSE_CLICKHOUSE_PORT": str(clickhouse),
        }
        lakehouse = [sys.executable, "-m", "lakehouse.cli"]
        filling = [sys.executable, "-c", "from benchmarks.serving import fill; fill()"]
        subprocess.run(filling, env=environment, cwd=ROOT, check=True)
        try:
            original = str(ROOT / "benchmarks" / "original_api.py")
            command = [sys.executable, original, str(theirs), str(clickhouse)]
            before = run_server(command, theirs, environment, seconds, clients)
            command = [*lakehouse, "serve", "--port", str(ours)]
            after = run_server(command, ours, environment, seconds, clients)
        finally:
            subprocess.run(
                [*lakehouse, "down"], env=environment, check=True, stdout=subprocess.DEVNULL
            )
    return before, after


def api() -> Iterator[Comparison]:
    """50 clients for 30 s on the API: against a new ClickHouse connection for each request."""
    original, ours = compare()
    yield Comparison(
        "API, 50 clients, requests/s: us / the original's way",
        ours.requests_a_second,
        original.requests_a_second,
        at_least(10),
    )
    yield Comparison("their slowest 1 %, ms", ours.p99_ms, original.p99_ms, left_at_most(100))
    yield Comparison(
        "the same where days are chosen, ms",
        *(ours.other_days_p99_ms, original.other_days_p99_ms),
        left_at_most(500),
    )
    yield Comparison("their errors", ours.errors, original.errors, left_at_most(0))
    yield Comparison(
        "memory grown under load, MB", ours.grown_mb, original.grown_mb, left_at_most(KEPT_MB)
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=50)
    given = parser.parse_args()
    original, ours = compare(given.seconds, given.clients)
    print(
        json.dumps(
            {
                "original": vars(original),
                "ours": vars(ours),
                "ratio": ours.requests_a_second / original.requests_a_second,
            }
        )
    )


if __name__ == "__main__":
    main()
