"""When Online Retail runs: jobs, the daily schedule, the sensors for publications and the inbox."""

import warnings
from collections.abc import Iterator

import dagster as dg

from lakehouse.assets import retail
from lakehouse.automation.dataset import Dataset, Job, Runs, Stage
from lakehouse.automation.inbox import build_inbox_sensor
from lakehouse.automation.publications import ASK_ONCE
from lakehouse.checks.retail import CHECKS
from lakehouse.history import Materialization, latest_materialization, latest_materializations
from lakehouse.partitions import WHOLE, retail_months
from lakehouse.resources.dbt_project import manifest_path
from lakehouse.resources.retail_files import RetailFiles
from lakehouse.settings import Settings
from lakehouse.tables import retail as tables

# It says at every start that dbt's tables could be made for several months by one run, and the raw
# ones not: the job makes them for one.
warnings.filterwarnings("ignore", "Asset job retail_month materializes assets with varying")

_FACTS = [dg.AssetKey(["retail", "marts", name]) for name in ("Fact_Sales", "Fact_Sale_Returns")]


def dataset(settings: Settings) -> Dataset:
    """Online Retail: the workbook, staging for several months a run, dbt for a range at once."""
    dbt = retail.build_dbt_assets(manifest_path(settings.cache))
    return Dataset(
        name="retail",
        stages=[
            Stage("", [retail.workbook]),
            Stage("", retail.raw_assets, rejects=tables.REJECTS, runs=Runs.OF_SEVERAL),
            Stage("", [dbt], runs=Runs.OF_ALL, charted=_FACTS),
        ],
        checks=CHECKS,
        publisher=RetailPublisher,
        automation=lambda: _automation(settings, dbt),
    )


def _automation(settings: Settings, dbt: dg.AssetsDefinition) -> dg.Definitions:
    workbook_job = dg.define_asset_job(
        "retail_workbook",
        selection=dg.AssetSelection.assets(retail.workbook),
        description="The publisher's workbook.",
    )
    month_job = dg.define_asset_job(
        "retail_month",
        selection=dg.AssetSelection.assets(*retail.raw_assets, dbt),
        description="A month of Online Retail, from its lines to the quality tables.",
    )
    return dg.Definitions(
        jobs=[workbook_job, month_job],
        schedules=[_build_schedule(workbook_job)],
        sensors=build_sensors(settings, month_job),
    )


def _build_schedule(job: Job) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name="retail_daily",
        job=job,
        cron_schedule="0 0 * * *",
        description="At midnight: the workbook again; downloads only what changed. The sensor"
        " `retail_months` makes what is new in it.",
    )


def build_sensors(settings: Settings, month_job: Job) -> list[dg.SensorDefinition]:
    """The sensors that watch the workbook, and the inbox."""
    files = RetailFiles(settings)

    @dg.sensor(
        name="retail_months",
        job=month_job,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Materializes the months whose lines in the landed workbook are others than"
        " those in the tables.",
    )
    def months(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        workbook = latest_materialization(context.instance, retail.workbook.key)
        if workbook is None or workbook.run_id == context.cursor:
            yield dg.SkipReason("There is no new workbook.")
            return
        made = latest_materializations(context.instance, retail.online_retails.key)
        known = set(retail_months.get_partition_keys())
        for month in workbook.metadata.get("months", []):
            version = files.version(month)
            if month in known and (
                month not in made or made[month].metadata.get("source_version") != version
            ):
                # Dagster launches a run key only once, and a workbook may come back.
                yield dg.RunRequest(run_key=f"{month}:{workbook.run_id}", partition_key=month)
        context.update_cursor(workbook.run_id)

    inbox = build_inbox_sensor(
        "retail",
        [month_job],
        files.months_of_dropped,
        lambda _: month_job.name,
        settle_seconds=settings.inbox_settle_seconds,
    )
    return [months, inbox]


class RetailPublisher:
    """What UCI and the inbox can be asked."""

    def __init__(self, settings: Settings) -> None:
        self._files = RetailFiles(settings, patience=ASK_ONCE)

    def is_current(self, key: dg.AssetKey, partition: str, made: Materialization) -> bool:
        """Whether the publisher has the same workbook, and a month the same lines."""
        version = made.metadata.get("source_version")
        if key == retail.workbook.key:
            return self._files.is_current(str(version))
        if key in (retail.online_retails.key, retail.psa_online_retails.key):
            return version == self._files.version(partition)
        return True

    def lacks(self, stage: str, partition: str) -> str | None:
        """Why there is no line of a month; None where there are some, or nobody can tell."""
        return None if partition == WHOLE else self._files.lacks(partition)
