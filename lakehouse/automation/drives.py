"""When drive stats run: jobs, the schedule, the sensors for publications and for the inbox."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import dagster as dg

from lakehouse.assets import drives
from lakehouse.automation.dataset import Dataset, Stage
from lakehouse.automation.inbox import build_inbox_sensor
from lakehouse.automation.publications import ASK_ONCE, Watch, build_publications_sensor
from lakehouse.checks.drives import CHECKS
from lakehouse.errors import SourceRefusedError
from lakehouse.history import Materialization, latest_materializations
from lakehouse.partitions import DRIVES_FIRST_MONTH, drives_months, drives_years
from lakehouse.resources.drive_files import DriveFiles, archive_url, days_of
from lakehouse.resources.inbox import Taken
from lakehouse.settings import Settings
from lakehouse.tables import drives as tables

PUBLISHED_AFTER = timedelta(weeks=6)
"""Backblaze has published every quarter within about six weeks of its end."""

monthly_assets = [a for a in drives.assets if a.partitions_def == drives_months]
yearly_assets = [a for a in drives.assets if a.partitions_def == drives_years]

month_job = dg.define_asset_job(
    "drives_month",
    selection=dg.AssetSelection.assets(*monthly_assets),
    description="A month of drive stats, from the publisher's archive to ClickHouse.",
)
year_job = dg.define_asset_job(
    "drives_year",
    selection=dg.AssetSelection.assets(*yearly_assets),
    description="A year of drive stats, from its months.",
)


@dg.schedule(
    job=month_job,
    cron_schedule="0 6 15 2,5,8,11 *",
    description="Six weeks after a quarter, when it is published: its months that are not there.",
)
def drives_quarter(
    context: dg.ScheduleEvaluationContext,
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Backstop of the sensor for publications: what is still missing fails, and people are told."""
    made = latest_materializations(context.instance, drives.silver_drive_days.key)
    months = [month for month in due_quarter(context.scheduled_execution_time) if month not in made]
    if not months:
        yield dg.SkipReason("The quarter that is due is there.")
    for month in months:
        # Dagster refuses several requests of a tick that have no keys.
        yield dg.RunRequest(
            run_key=f"{context.scheduled_execution_time:%Y-%m-%d}:{month}", partition_key=month
        )


def dataset(settings: Settings) -> Dataset:
    """Drive stats."""
    return Dataset(
        name="drives",
        stages=[
            Stage("", monthly_assets, rejects=tables.REJECTS),
            Stage("", yearly_assets),
        ],
        checks=CHECKS,
        publisher=DrivesPublisher,
        automation=lambda: dg.Definitions(
            jobs=[month_job, year_job],
            schedules=[drives_quarter],
            sensors=build_sensors(settings),
        ),
    )


def due_quarter(now: datetime) -> list[str]:
    """The months of the latest quarter that ended long enough ago to be published."""
    ended = (now - PUBLISHED_AFTER).date()
    first_of_running = date(ended.year, 3 * ((ended.month - 1) // 3) + 1, 1)
    last = first_of_running - timedelta(days=1)
    return [f"{last.year}-{month:02d}" for month in range(last.month - 2, last.month + 1)]


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors that watch the publisher and the inbox."""
    publications = build_publications_sensor(
        "drives_publications",
        [Watch(drives.archive, month_job, drives_months, archive_url)],
        settings,
    )
    inbox = build_inbox_sensor(
        "drives",
        [month_job],
        _months_of_file,
        lambda _: month_job.name,
        settle_seconds=settings.inbox_settle_seconds,
    )
    years = dg.AutomationConditionSensorDefinition(
        "drives_years",
        target=dg.AssetSelection.assets(*yearly_assets),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Materializes a year when its months were.",
    )
    return [publications, inbox, years]


class DrivesPublisher:
    """What Backblaze and the inbox can be asked."""

    def __init__(self, settings: Settings) -> None:
        self._files = DriveFiles(settings, patience=ASK_ONCE)

    def is_current(self, key: dg.AssetKey, partition: str, made: Materialization) -> bool:
        """Whether publisher and inbox still have of a month what was materialized."""
        if key != drives.archive.key:
            return True
        return self._files.is_current(partition, str(made.metadata.get("source_version", "")))

    def lacks(self, stage: str, partition: str) -> None:
        """An archive holds several months: whether it has this one shows once it is landed."""


def _months_of_file(taken: Taken) -> list[str]:
    """The months that a dropped file holds days of.

    Raises:
        SourceRefusedError: It holds none, or some that there cannot be.
    """
    months = sorted({f"{day:%Y-%m}" for day in days_of(taken)})
    unknown = sorted(set(months) - set(drives_months.get_partition_keys()))
    if unknown:
        raise SourceRefusedError(
            f"{taken.name} has days of {', '.join(unknown)}, and drive stats have whole months"
            f" from {DRIVES_FIRST_MONTH} on: drop it again without them"
        )
    return months
