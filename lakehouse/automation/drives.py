"""When drive stats run: jobs, the schedule, the sensors for publications and for the inbox."""

import time
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta

import dagster as dg

from lakehouse.assets import drives
from lakehouse.automation.inbox import build_inbox_sensor
from lakehouse.errors import LakehouseError, NotPublishedError, SourceRefusedError
from lakehouse.history import Materialization, latest_materializations
from lakehouse.partitions import DRIVES_FIRST_MONTH, drives_months, drives_years
from lakehouse.resources.drive_files import DriveFiles, archive_name, archive_url, days_of
from lakehouse.resources.inbox import Taken
from lakehouse.resources.landing import Fingerprint, Patience
from lakehouse.resources.source import Source
from lakehouse.settings import Settings

PUBLISHED_AFTER = timedelta(weeks=6)
"""Backblaze has published every quarter within about six weeks of its end."""

ARCHIVES_A_TICK = 8
"""Publications asked after at a time; the whole history takes a few ticks."""

_SECONDS_A_TICK = 30
_PATIENCE = Patience(attempts=1, connect=5.0, silence=5.0)

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


def due_quarter(now: datetime) -> list[str]:
    """The months of the latest quarter that ended long enough ago to be published."""
    ended = (now - PUBLISHED_AFTER).date()
    first_of_running = date(ended.year, 3 * ((ended.month - 1) // 3) + 1, 1)
    last = first_of_running - timedelta(days=1)
    return [f"{last.year}-{month:02d}" for month in range(last.month - 2, last.month + 1)]


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors that watch the publisher and the inbox."""

    # Asked once and not for long: Dagster ends a tick after 60 s, and the next one is due anyway.
    publisher = Source(
        settings.state / "landing",
        settings.source_mirror,
        patience=_PATIENCE,
    )

    @dg.sensor(job=month_job, minimum_interval_seconds=3600)
    def drives_publications(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Materializes the months of archives that are new or were published again.

        Off at first: it downloads from the publisher. Asks after the archives of the months that
        are there, a few at a time, and after the one that would come next.
        """
        made = latest_materializations(context.instance, drives.archive.key)
        archives = _archives_to_watch(sorted(made), drives_months.get_partition_keys())
        start = int(context.cursor or 0) % max(len(archives), 1)
        turn = (archives[start:] + archives[:start])[:ARCHIVES_A_TICK]
        requests, observations, said = [], [], []
        deadline = time.monotonic() + _SECONDS_A_TICK
        asked = 0
        for name, months in turn:
            if time.monotonic() > deadline:
                break
            asked += 1
            said.append(f"Asked after {name}.")
            try:
                found = publisher.probe(archive_url(months[0]))
            except NotPublishedError:
                continue
            except LakehouseError as error:
                said.append(str(error))
                continue
            identity = found.etag or f"{found.last_modified}:{found.size}"
            for month in months:
                if month in made and found.is_same(_fingerprint(made[month])):
                    continue
                requests.append(
                    dg.RunRequest(run_key=f"{month}:{name}:{identity}", partition_key=month)
                )
                if month in made:
                    observations.append(
                        dg.AssetObservation(
                            drives.archive.key,
                            partition=month,
                            metadata={"etag": found.etag or "", "published_again": True},
                        )
                    )
        context.log.info(" ".join(said))
        return dg.SensorResult(
            run_requests=requests,
            asset_events=observations,
            cursor=str(start + asked),
            skip_reason=None if requests else " ".join(said),
        )

    inbox = build_inbox_sensor(
        "drives", month_job.name, _months_of_file, settle_seconds=settings.inbox_settle_seconds
    )
    years = dg.AutomationConditionSensorDefinition(
        "drives_years",
        target=dg.AssetSelection.assets(*yearly_assets),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Materializes a year when its months were.",
    )
    return [drives_publications, inbox, years]


class DrivesPublisher:
    """What Backblaze and the inbox can be asked."""

    def __init__(self, settings: Settings) -> None:
        self._files = DriveFiles(settings, patience=_PATIENCE)

    def is_current(self, key: dg.AssetKey, partition: str, made: Materialization) -> bool:
        """Whether publisher and inbox still have of a month what was materialized."""
        if key != drives.archive.key:
            return True
        return self._files.is_current(partition, str(made.metadata.get("source_version", "")))

    def lacks(self, stage: str, partition: str) -> None:
        """An archive holds several months: whether it has this one shows once it is landed."""


def _fingerprint(made: Materialization) -> Fingerprint:
    """The version of the archive that a month was made from.

    Not that of the landed archive: another month may have landed a newer one since.
    """
    etag, modified = made.metadata.get("etag"), made.metadata.get("last_modified")
    return Fingerprint(made.metadata.get("size_bytes"), etag or None, modified or None)


def _archives_to_watch(made: Sequence[str], months: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The archives to ask after, each with the months that its publication would materialize.

    Those of the months that are there, and, whole, the one after the newest of them; the newest
    one of all where nothing is there yet.
    """
    newest = max(made, default=None)
    coming = [month for month in months if newest is None or month > newest]
    following = archive_name(coming[0 if newest else -1]) if coming else None
    watched: dict[str, list[str]] = {}
    for month in months:
        name = archive_name(month)
        if month in made or name == following:
            watched.setdefault(name, []).append(month)
    return list(watched.items())


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
