"""Other ways with a month of taxi trips. Each prints one line of JSON.

    python benchmarks/baselines_taxi.py polars yellow_tripdata_2024-01.parquet
    python benchmarks/baselines_taxi.py pandas yellow_tripdata_2024-01.parquet
    python benchmarks/baselines_taxi.py to-sql yellow_tripdata_2024-01.parquet --url URL --rows N

`polars` reads and writes the file, which is the bare bound. `pandas` is the originals' way: text to
times, missing passengers to 0, gzip Parquet, read again in chunks as `to_gbq` takes them. `to-sql`
is their way to PostgreSQL, chunks of 100,000 rows.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

TIMES = ["tpep_pickup_datetime", "tpep_dropoff_datetime"]
BIGQUERY_CHUNK, SQL_CHUNK = 500_000, 100_000


def polars(file: Path, folder: Path) -> int:
    """Reads and writes all columns, streaming."""
    import polars as pl

    target = folder / "trips.parquet"
    pl.scan_parquet(file).sink_parquet(target, compression="zstd")
    return int(pl.scan_parquet(target).select(pl.len()).collect().item())


def pandas(file: Path, folder: Path) -> int:
    """Cleans with pandas, writes gzip Parquet, and reads it back for BigQuery's chunks."""
    import pandas as pd

    trips = pd.read_parquet(file)
    for column in TIMES:
        trips[column] = pd.to_datetime(trips[column])
    target = folder / "trips.parquet"
    trips.to_parquet(target, compression="gzip")
    trips = pd.read_parquet(target)
    trips["passenger_count"] = trips["passenger_count"].fillna(0)
    for start in range(0, len(trips), BIGQUERY_CHUNK):
        trips.iloc[start : start + BIGQUERY_CHUNK].to_parquet(folder / f"chunk-{start}.parquet")
    return len(trips)


def to_sql(file: Path, url: str, rows: int) -> int:
    """Loads the first rows with pandas and psycopg2."""
    import pandas as pd
    import sqlalchemy

    trips = pd.read_parquet(file).head(rows)
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    trips.head(0).to_sql("original_yellow", engine, if_exists="replace", index=False)
    for start in range(0, len(trips), SQL_CHUNK):
        chunk = trips.iloc[start : start + SQL_CHUNK]
        chunk.to_sql("original_yellow", engine, if_exists="append", index=False)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE original_yellow"))
    return len(trips)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("baseline", choices=("polars", "pandas", "to-sql"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--url", default="")
    parser.add_argument("--rows", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        if arguments.baseline == "to-sql":
            rows = to_sql(arguments.file, arguments.url, arguments.rows)
        else:
            way = polars if arguments.baseline == "polars" else pandas
            rows = way(arguments.file, Path(folder))
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": round(seconds, 2), "rows": rows, "peak_rss_mb": round(peak, 1)}))


if __name__ == "__main__":
    main()
