"""Online Retail: the whole workbook against the original's way, and one new month."""

from collections.abc import Iterator

from benchmarks.harness import (
    MIRROR,
    Comparison,
    Home,
    at_least,
    at_most,
    baseline,
    err,
    left_at_most,
)
from lakehouse.samples.retail import RETAIL_FILE

FIRST, LAST_BUT_ONE, LAST = "2009-12", "2011-11", "2011-12"
ALONE = {"LAKEHOUSE_WITHOUT": "bigquery postgres"}


def workbook() -> Iterator[Comparison]:
    """From the workbook to the quality tables."""
    file = MIRROR / RETAIL_FILE
    if not file.exists():
        err.print(f"The comparison of the workbook needs {file}.")
        return
    home = Home(MIRROR, **ALONE)
    whole = home.lakehouse("backfill", "retail", "--from", FIRST, "--to", LAST)
    home.remove()
    home = Home(MIRROR, **ALONE)
    home.lakehouse("backfill", "retail", "--from", FIRST, "--to", LAST_BUT_ONE)
    month = home.lakehouse("backfill", "retail", "--from", LAST)
    home.remove()
    home = Home(MIRROR, **ALONE)
    port = home.environment["LAKEHOUSE_CLICKHOUSE_PORT"]
    original = baseline("baselines_retail.py", file, "--port", port)
    home.remove()
    yield Comparison(
        "the workbook: the original's way / us", original["seconds"], whole.seconds, at_least(5)
    )
    yield Comparison("a new month / the whole workbook", month.seconds, whole.seconds, at_most(0.2))
    yield Comparison(
        "peak memory, MB: us / the original",
        whole.peak_mb,
        original["peak_rss_mb"],
        left_at_most(2048),
    )
