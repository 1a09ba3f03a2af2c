"""Online Retail: the whole workbook against the original's way, and one new month."""

from rich.table import Table

from benchmarks.harness import MIRROR, Home, baseline, err, row
from lakehouse.samples.retail import RETAIL_FILE

FIRST, LAST_BUT_ONE, LAST = "2009-12", "2011-11", "2011-12"


def workbook(table: Table) -> None:
    """From the workbook to the quality tables."""
    file = MIRROR / RETAIL_FILE
    if not file.exists():
        err.print(f"The comparison of the workbook needs {file}.")
        return
    alone = {"LAKEHOUSE_WITHOUT": "bigquery postgres"}
    home = Home(MIRROR, **alone)
    whole = home.lakehouse("backfill", "retail", "--from", FIRST, "--to", LAST)
    home.remove()
    home = Home(MIRROR, **alone)
    home.lakehouse("backfill", "retail", "--from", FIRST, "--to", LAST_BUT_ONE)
    month = home.lakehouse("backfill", "retail", "--from", LAST)
    home.remove()
    home = Home(MIRROR, **alone)
    port = home.environment["LAKEHOUSE_CLICKHOUSE_PORT"]
    original = baseline("baselines_retail.py", file, "--port", port)
    home.remove()
    row(table, "the workbook: the original's way / us", original["seconds"], whole.seconds, "≥ 5")
    row(table, "a new month / the whole workbook", month.seconds, whole.seconds, "≤ 0.2")
    row(
        table,
        "peak memory, MB: us / the original",
        whole.peak_mb,
        original["peak_rss_mb"],
        "2048 MB",
    )
