"""Other ways to the same tables, to compare the lakehouse with. Each prints one line of JSON.

    python benchmarks/baselines.py spark data_Q1_2018.zip
    python benchmarks/baselines.py polars data_Q2_2024.zip
    python benchmarks/baselines.py polars-q1 data_Q1_2018.zip

`spark` is the way of the original: pandas joins the daily files into one, Spark summarizes it.
`polars` is the bare bound for typing an archive into one Parquet file, `polars-q1` that for the two
summaries. None of them checks, rejects or records anything.
"""

import argparse
import importlib.util
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import polars as pl

COLUMNS = ["date", "serial_number", "model", "capacity_bytes", "failure"]
BRANDS = {
    "CT": "Crucial",
    "DELLBOSS": "Dell BOSS",
    "HGST": "HGST",
    "Seagate": "Seagate",
    "ST": "Seagate",
    "TOSHIBA": "Toshiba",
    "WDC": "Western Digital",
}
TEXT_COLUMNS = ["serial_number", "model", "datacenter", "is_legacy_format"]


def unzip(archive: Path, folder: Path) -> list[Path]:
    """Unpacks the daily files, junk left out."""
    with zipfile.ZipFile(archive) as opened:
        names = [
            name
            for name in opened.namelist()
            if name.endswith(".csv") and not name.startswith("__MACOSX")
        ]
        return sorted(Path(opened.extract(name, folder)) for name in names)


def spark(archive: Path, folder: Path) -> dict[str, float]:
    """Joins the daily files with pandas, then reads the one file with Spark for two summaries."""
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        sys.exit("This baseline needs Java: install a Java 17 runtime and try again.")
    if not all(map(importlib.util.find_spec, ("pandas", "pyspark"))):
        sys.exit("This baseline needs pandas and pyspark: install the dependency group `bench`.")
    import pandas as pd
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as f

    started = time.perf_counter()
    joined = folder / "joined.csv"
    for number, path in enumerate(unzip(archive, folder)):
        day = pd.read_csv(path)[COLUMNS]
        day.to_csv(joined, mode="a", header=number == 0, index=False)
    pandas_done = time.perf_counter()

    session = (
        SparkSession.builder.master("local[2]")
        .appName("baseline")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    rows = session.read.csv(str(joined), header=True, inferSchema=True)
    daily = rows.groupBy("date").agg(
        f.count("*").alias("drive_count"), f.sum("failure").alias("drive_failures")
    )
    brand = f.lit("Others")
    for prefix, name in BRANDS.items():
        brand = f.when(rows.model.startswith(prefix), name).otherwise(brand)
    yearly = rows.groupBy(f.year("date").alias("year"), brand.alias("brand")).agg(
        f.countDistinct("serial_number").alias("drive_count"),
        f.count("*").alias("drive_days"),
        f.sum("failure").alias("drive_failures"),
    )
    daily.write.parquet(str(folder / "daily_summary"))
    yearly.write.parquet(str(folder / "yearly_summary"))
    spark_done = time.perf_counter()

    # The JVM's memory is counted once this process has waited for it.
    gateway = session.sparkContext._gateway
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
    return {
        "seconds": spark_done - started,
        "pandas_seconds": pandas_done - started,
        "spark_seconds": spark_done - pandas_done,
        "rows": summarized_rows(folder),
    }


def polars(archive: Path, folder: Path) -> dict[str, float]:
    """Types all columns of the daily files and writes one Parquet file."""
    started = time.perf_counter()
    files = unzip(archive, folder)
    scan_daily_files(files).sink_parquet(folder / "month.parquet", compression="zstd")
    seconds = time.perf_counter() - started
    rows = pl.scan_parquet(folder / "month.parquet").select(pl.len()).collect().item()
    return {"seconds": seconds, "rows": rows}


def polars_q1(archive: Path, folder: Path) -> dict[str, float]:
    """Computes the two summaries from the daily files."""
    started = time.perf_counter()
    drive_days = scan_daily_files(unzip(archive, folder))
    daily = drive_days.group_by("date").agg(
        drive_count=pl.len(), drive_failures=pl.col("failure").sum()
    )
    brand = pl.lit("Others")
    for prefix, name in BRANDS.items():
        brand = pl.when(pl.col("model").str.starts_with(prefix)).then(pl.lit(name)).otherwise(brand)
    yearly = drive_days.group_by(year=pl.col("date").dt.year(), brand=brand).agg(
        drive_count=pl.col("serial_number").n_unique(),
        drive_days=pl.len(),
        drive_failures=pl.col("failure").sum(),
    )
    for name, summary in zip(
        ("daily_summary", "yearly_summary"), pl.collect_all([daily, yearly]), strict=True
    ):
        (folder / name).mkdir()
        summary.write_parquet(folder / name / "0.parquet")
    return {"seconds": time.perf_counter() - started, "rows": summarized_rows(folder)}


def scan_daily_files(files: list[Path]) -> pl.LazyFrame:
    """The daily files as one typed table; all have the columns of the first."""
    names = pl.read_csv(files[0], n_rows=0).columns
    schema = {name: pl.String if name in TEXT_COLUMNS else pl.Int64 for name in names}
    return pl.scan_csv(files, schema=schema | {"date": pl.Date})


def summarized_rows(folder: Path) -> int:
    """The rows that went into the daily summary."""
    summary = pl.read_parquet(folder / "daily_summary" / "*.parquet")
    return int(summary["drive_count"].sum())


def peak_rss_mb() -> float:
    """Peak memory of this process or of its largest child, whichever is more."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(usage.ru_maxrss for usage in usages) / 1024


BASELINES = {"spark": spark, "polars": polars, "polars-q1": polars_q1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("baseline", choices=BASELINES)
    parser.add_argument("archive", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = BASELINES[arguments.baseline](arguments.archive, Path(folder))
    measured["peak_rss_mb"] = peak_rss_mb()
    print(json.dumps({name: round(value, 2) for name, value in measured.items()}))


if __name__ == "__main__":
    main()
