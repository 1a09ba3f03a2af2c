"""Keeps what was measured: as JSON, a file a benchmark, and as tables in docs/performance.md."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import psutil

from benchmarks.harness import ROOT, Aim, Comparison

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
PACKAGES = ("dagster", "polars", "deltalake", "pandera", "dbt-core", "clickhouse-connect")


def keep(name: str, comparisons: Sequence[Comparison]) -> None:
    """Write the results of a benchmark, with the machine, the versions and the commit."""
    RESULTS.mkdir(exist_ok=True)
    content = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1024**3),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_page(names: Sequence[str]) -> None:
    """Put the latest results of these benchmarks into the page."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    tables = [_section(name) for name in names if (RESULTS / f"{name}.json").exists()]
    PAGE.write_text(f"{head}{BEGIN}\n{''.join(tables)}{END}{tail}")


def read(content: dict[str, Any]) -> list[Comparison]:
    """The comparisons of a file of results."""
    return [
        Comparison(**row | {"aim": Aim(**row["aim"]) if row["aim"] else None})
        for row in content["comparisons"]
    ]


def cells(comparison: Comparison) -> tuple[str, str, str, str, str]:
    """A row of the table: what, left, right, ratio, aim."""
    aim = f"{comparison.aim}{', missed' if comparison.missed else ''}" if comparison.aim else ""
    left, right = f"{comparison.left:,.2f}", f"{comparison.right:,.2f}"
    return comparison.what, left, right, f"{comparison.ratio:,.2f}", aim


def _section(name: str) -> str:
    content = json.loads((RESULTS / f"{name}.json").read_text())
    machine, versions = content["machine"], content["versions"]
    rows = "".join(f"| {' | '.join(cells(each))} |\n" for each in read(content))
    return (
        f"### {name}\n\n"
        f"{content['measured'][:10]}, commit {content['commit']}, {machine['cores']} cores"
        f" ({machine['processor']}), {machine['memory_gb']} GB, {machine['system']}, Python"
        f" {versions['python']}, Dagster {versions['dagster']}, Polars {versions['polars']}.\n\n"
        f"| comparison | left | right | ratio | aim |\n|---|--:|--:|--:|---|\n{rows}\n"
    )


def _commit() -> str:
    """The commit that was measured, and whether anything but results differed from it."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!docs")
    return f"{commit or 'unknown'}{'-dirty' if changed else ''}"


def _git(*arguments: str) -> str:
    result = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return result.stdout.strip()
