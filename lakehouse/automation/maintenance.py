"""When the lakehouse is looked after: the assets of maintenance and verification, every week."""

from collections.abc import Sequence
from dataclasses import asdict

import dagster as dg

from lakehouse.assets import maintenance
from lakehouse.assets.building import explained
from lakehouse.automation.cost import cost
from lakehouse.automation.dataset import Dataset
from lakehouse.automation.verification import lake_tables, verify
from lakehouse.settings import Settings
from lakehouse.tables import drives

_EXAMPLES = 20
"""Differences that a verification shows in Dagster; `lakehouse verify` shows all."""

# Bronze keeps the order of its files: of a drive's rows of one day, silver may take the first.
QUERIED = {drives.BRONZE.name: ("date",), drives.SILVER.name: ("date", "model")}
"""The columns by which large tables of the lake are queried."""


def build_maintenance(settings: Settings, datasets: Sequence[Dataset]) -> dg.Definitions:
    """Assets, jobs and schedules of maintenance, which belong to no data set.

    Args:
        settings: Where everything is.
        datasets: The data sets that are looked after.
    """
    names = [name for dataset in datasets for name in lake_tables(dataset)]
    care = [
        maintenance.build_lake_tables(names, QUERIED),
        maintenance.clickhouse_tables,
        maintenance.build_leftovers(settings),
    ]
    care.append(_build_cost(settings, datasets))
    verifications = [_build_verification(settings, dataset) for dataset in datasets]
    care_job = dg.define_asset_job(
        "maintenance",
        selection=dg.AssetSelection.assets(*care),
        description="Small files joined, forgotten ones removed.",
    )
    verification_job = dg.define_asset_job(
        "verification",
        selection=dg.AssetSelection.assets(*verifications),
        description="Everything read again, and counted along the chain of tables.",
    )
    return dg.Definitions(
        assets=[*care, *verifications],
        jobs=[care_job, verification_job],
        schedules=[
            dg.ScheduleDefinition(
                name="maintenance_weekly",
                job=care_job,
                cron_schedule="0 2 * * 0",
                description="On Sundays at two: maintenance. Runs may go on writing meanwhile.",
            ),
            dg.ScheduleDefinition(
                name="verification_weekly",
                job=verification_job,
                cron_schedule="0 4 * * 0",
                description="On Sundays at four: verification. It reads all files, which a bucket"
                " may charge for.",
            ),
        ],
    )


def _build_cost(settings: Settings, datasets: Sequence[Dataset]) -> dg.AssetsDefinition:
    key = dg.AssetKey(["maintenance", "cost", "report"])

    @dg.asset(
        key=key,
        # What it says of maintenance is that of the same run.
        deps=[dg.AssetKey(["maintenance", "lake", "tables"])],
        kinds={"file"},
        description="Bytes by layer, growth by month, run time, and an estimate in money. The same"
        " as `lakehouse status --cost`.",
        check_specs=[
            dg.AssetCheckSpec(
                "all_is_known",
                asset=key,
                description="Everything that takes room could be asked.",
                blocking=True,
            )
        ],
        **maintenance.SHARED,
    )
    @explained
    def report(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        found = cost(settings, context.instance, datasets)
        return dg.MaterializeResult(
            metadata={
                "dollars_a_month": found.dollars_a_month,
                "bytes": sum(layer.bytes + layer.former_bytes for layer in found.layers),
                "layers": [asdict(layer) for layer in found.layers],
                "growth": found.growth,
                "run_hours": found.run_hours,
                "bigquery_slot_hours": found.bigquery_slot_hours,
                "saved": found.saved,
            },
            check_results=[
                dg.AssetCheckResult(
                    passed=not found.unknown,
                    check_name="all_is_known",
                    severity=dg.AssetCheckSeverity.WARN,
                    description=" ".join(found.unknown) or "All could be asked.",
                )
            ],
        )

    return report


def _build_verification(settings: Settings, dataset: Dataset) -> dg.AssetsDefinition:
    key = dg.AssetKey(["maintenance", "verification", dataset.name])

    @dg.asset(
        key=key,
        kinds={"file"},
        description=f"All of {dataset.name} read again: files against their hashes, rows along the"
        f" chain of tables. The same as `lakehouse verify {dataset.name}`.",
        check_specs=[
            dg.AssetCheckSpec(
                "nothing_differs",
                asset=key,
                description="All is as it was recorded.",
                blocking=True,
            )
        ],
        **maintenance.SHARED,
    )
    @explained
    def verification(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        found = verify(settings, context.instance, dataset)
        examples = [f"{d.place}: {d.sentence}" for d in found.differences[:_EXAMPLES]]
        return dg.MaterializeResult(
            metadata={
                "examined": {what: asdict(size) for what, size in found.examined.items()},
                "differences": len(found.differences),
                "examples": examples,
                "notes": found.notes,
            },
            check_results=[
                dg.AssetCheckResult(
                    passed=found.ok,
                    check_name="nothing_differs",
                    description="All is as it was recorded."
                    if found.ok
                    else f"{len(found.differences):,} differ: {'; '.join(examples[:3])}."
                    f" `lakehouse verify {dataset.name}` shows all.",
                )
            ],
        )

    return verification
