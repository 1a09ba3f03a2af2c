"""Where the time of a monthly run goes."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.drives import ALONE, MONTHLY
from benchmarks.harness import MIRROR, Comparison, Home
from lakehouse.samples.drives import DRIVE_FOLDER, make_drive_archives

MONTH = "2018-01"


def shares() -> Iterator[Comparison]:
    """A month of drive stats, 5 columns, the whole command: the share of each part."""
    with tempfile.TemporaryDirectory() as folder:
        mirror = MIRROR
        if not (MIRROR / DRIVE_FOLDER / "data_Q1_2018.zip").exists():
            make_drive_archives(mirror := Path(folder), months=[MONTH], drives=5_000)
        home = Home(mirror, **ALONE)
        whole = home.lakehouse("backfill", "drives", "--from", MONTH, "--select", MONTHLY, "--json")
        steps = home.python("-m", "benchmarks.steps").json
        home.remove()
    run = float(json.loads(whole.output)[0]["seconds"])
    parts = {
        "Python's start, imports, what is up to date": whole.seconds - run,
        "the assets": steps["assets"],
        "their checks": steps["checks"],
        "Dagster's events and plan": run - steps["assets"] - steps["checks"],
    }
    for part, seconds in parts.items():
        yield Comparison(f"a month, {part}: seconds / all", seconds, whole.seconds)
