"""What a backfill of drive stats does, in a plain loop: no Dagster, no history, no checks as steps.

    python -m benchmarks.plain_loop 2018-01 2018-02 2018-03

Lands, reads, cleans, summarizes and publishes the months with the project's own functions, and
holds every table against its contract. Settings are those of the command.
"""

import sys
from collections.abc import Iterator

import polars as pl

from lakehouse.checks.contract import Verdict, examine
from lakehouse.checks.contracts import contract_of, require_contract
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.drive_files import DriveFiles
from lakehouse.resources.lake import Lake, LakeTable, Provenance
from lakehouse.settings import Settings
from lakehouse.tables import drives as tables
from lakehouse.transforms import drives as transforms
from lakehouse.transforms.batches import day_batches


def build(months: list[str]) -> None:
    settings = Settings()
    lake, clickhouse, drive_files = Lake(settings), ClickHouse(settings), DriveFiles(settings)
    for month in months:
        files = drive_files.land(month)
        drive_files.verify(files)
        origin = Provenance("plain loop", files.version)

        def days(files=files, month=month) -> Iterator[pl.DataFrame]:  # type: ignore[no-untyped-def]
            for file, data in drive_files.read(files.days):
                yield transforms.read_day(data, month, file.name, file.landed_at).frame

        lake.replace(tables.BRONZE, month, days(), origin)
        require(lake, tables.BRONZE, month)
        bronze = lake.scan(tables.BRONZE, month)
        cleaned = (transforms.clean(rows).frame for rows in day_batches(bronze))
        lake.replace(tables.SILVER, month, cleaned, origin)
        require(lake, tables.SILVER, month)
        silver = lake.scan(tables.SILVER, month)
        for name, frame in {
            "daily_summary": transforms.daily_summary(silver),
            "daily_brand_summary": transforms.daily_brand_summary(silver),
            "failure_rates": transforms.monthly_failure_rates(silver, month),
        }.items():
            publish(lake, clickhouse, name, month, frame, origin)
    for year in sorted({month[:4] for month in months}):
        of_year = [month for month in months if month.startswith(year)]
        rates = lake.scan(tables.FAILURE_RATES, *of_year).sort("month").collect()
        silver = lake.scan(tables.SILVER, *of_year)
        for name, frame in {
            "period_failure_rates": transforms.period_failure_rates(rates),
            "yearly_summary": transforms.yearly_summary(silver),
        }.items():
            publish(lake, clickhouse, name, year, frame, origin)


def require(lake: Lake, table: LakeTable, month: str) -> None:
    rows = lake.scan(table, month)
    found = rows.collect_schema()
    contract = contract_of(table.name)
    wanted = [name for name in contract.to_schema().columns if name in found]
    verdict: Verdict = examine(day_batches(rows.select(wanted)), contract, table.schema, found)
    if not verdict.passed:
        sys.exit(str(verdict))


def publish(
    lake: Lake,
    clickhouse: ClickHouse,
    name: str,
    partition: str,
    frame: pl.DataFrame,
    origin: Provenance,
) -> None:
    publication = tables.PUBLICATIONS[name]
    require_contract(publication.gold, partition, frame)
    lake.replace(publication.gold, partition, [frame], origin)
    gold = lake.scan(publication.gold, partition).collect()
    for part in publication.parts(partition):
        rows = gold.filter(part.rows).select(*publication.table.columns)
        clickhouse.replace_partition(publication.table, part.partition, rows, origin.run_id)


if __name__ == "__main__":
    build(sys.argv[1:])
