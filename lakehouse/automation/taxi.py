"""When taxi trips run: jobs, schedules, the sensors for publications, the inbox and the bucket."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import dagster as dg

from lakehouse.assets import taxi
from lakehouse.automation.dataset import Dataset, Job, Stage
from lakehouse.automation.inbox import build_inbox_sensor
from lakehouse.automation.publications import ASK_ONCE, Watch, build_publications_sensor
from lakehouse.checks.taxi import CHECKS
from lakehouse.history import Materialization, latest_materializations
from lakehouse.partitions import month_before, taxi_months
from lakehouse.resources.objects import Objects
from lakehouse.resources.trip_files import TripFiles, months_of_dropped, service_of
from lakehouse.settings import Settings
from lakehouse.tables import taxi as tables
from lakehouse.transforms.taxi.eras import SERVICES

PUBLISHED_AFTER = timedelta(days=60)
"""TLC publishes a month about two months after its end."""

_MONTHS_DUE = 3
"""Months that a schedule looks back: one that was late is made with the next."""

_OBJECT = re.compile(r"data/(\w+)/\w+_tripdata_(\d{4}-\d{2})\.parquet")

Assets = Mapping[str, Sequence[dg.AssetsDefinition]]


def dataset(settings: Settings) -> Dataset:
    """Taxi trips, a stage for each service, and the look-up of zones before them."""
    assets = service_assets(settings)
    return Dataset(
        name="taxi",
        stages=[
            Stage("", [taxi.zones]),
            *(Stage(service, assets[service], tables.REJECTS[service]) for service in SERVICES),
        ],
        checks=CHECKS,
        publisher=TaxiPublisher,
        automation=lambda: _automation(settings, assets),
        off=settings.without.split(),
    )


def _automation(settings: Settings, assets: Assets) -> dg.Definitions:
    jobs, loading_jobs = build_jobs(assets), build_loading_jobs(assets)
    return dg.Definitions(
        jobs=[*jobs.values(), *loading_jobs.values()],
        schedules=build_schedules(jobs),
        sensors=build_sensors(settings, jobs, loading_jobs),
    )


def service_assets(settings: Settings) -> Assets:
    """The assets of each service, without the branches that are switched off."""
    off = set(settings.without.split())
    return {
        service: [asset for asset in assets if asset.key.path[1] not in off]
        for service, assets in taxi.services.items()
    }


def build_jobs(assets: Assets) -> dict[str, Job]:
    """By service, the job of a month from the publisher's file on."""
    return {
        service: dg.define_asset_job(
            f"taxi_{service}_month",
            selection=dg.AssetSelection.assets(*assets[service]),
            description=f"A month of {service} trips, from the publisher's file to ClickHouse.",
        )
        for service in SERVICES
    }


def build_loading_jobs(assets: Assets) -> dict[str, Job]:
    """By service, the job of a month from an object on that somebody else put into the bucket."""
    jobs = {}
    for service in SERVICES:
        _, objects, *following = assets[service]
        jobs[service] = dg.define_asset_job(
            f"taxi_{service}_load",
            selection=dg.AssetSelection.assets(*following)
            | dg.AssetSelection.checks_for_assets(objects),
            description=f"A month of {service} trips, from the object in the bucket on.",
        )
    return jobs


def build_schedules(
    jobs: Mapping[str, Job],
) -> list[dg.ScheduleDefinition]:
    """By service, the schedule on the publisher's rhythm; off at first, since it downloads."""
    return [_build_schedule(service, job) for service, job in jobs.items()]


def _build_schedule(service: str, job: Job) -> dg.ScheduleDefinition:
    raw = taxi.services[service][0]

    @dg.schedule(
        name=f"taxi_{service}_monthly",
        job=job,
        cron_schedule="0 5 1 * *",
        description="On the first of each month: the months that are published by then and not"
        " there.",
    )
    def monthly(
        context: dg.ScheduleEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        made = latest_materializations(context.instance, raw.key)
        known = taxi_months[service].get_partition_keys()
        due = due_months(context.scheduled_execution_time)
        months = [month for month in due if month in known and month not in made]
        if not months:
            yield dg.SkipReason("The months that are due are there.")
        for month in months:
            yield dg.RunRequest(
                run_key=f"{context.scheduled_execution_time:%Y-%m-%d}:{month}", partition_key=month
            )

    return monthly


def due_months(now: datetime) -> list[str]:
    """The latest months that ended long enough ago to be published."""
    month = month_before(f"{now - PUBLISHED_AFTER:%Y-%m}")
    months = [month]
    while len(months) < _MONTHS_DUE:
        months.insert(0, month_before(months[0]))
    return months


def build_sensors(
    settings: Settings,
    jobs: Mapping[str, Job],
    loading_jobs: Mapping[str, Job],
) -> list[dg.SensorDefinition]:
    """The sensors that watch the publisher, the inbox and the bucket."""
    files = TripFiles(settings)
    publications = build_publications_sensor(
        "taxi_publications",
        [
            Watch(
                raw=taxi.services[service][0],
                job=job,
                partitions=taxi_months[service],
                url_of=partial(files.url, service),
            )
            for service, job in jobs.items()
        ],
        settings,
    )
    inbox = build_inbox_sensor(
        "taxi",
        list(jobs.values()),
        months_of_dropped,
        lambda taken: jobs[service_of(taken)].name,
        settle_seconds=settings.inbox_settle_seconds,
    )
    return [publications, inbox, _build_objects_sensor(loading_jobs)]


def _build_objects_sensor(
    jobs: Mapping[str, Job],
) -> dg.SensorDefinition:
    @dg.sensor(
        name="taxi_objects",
        jobs=list(jobs.values()),
        minimum_interval_seconds=60,
        description="Loads the objects that somebody else put into the bucket. Off at first: for"
        " buckets that others write to.",
    )
    def objects_sensor(
        context: dg.SensorEvaluationContext, objects: dg.ResourceParam[Objects]
    ) -> dg.SensorResult:
        requests = []
        seen = hashlib.sha256()
        for name, stored in objects.list("data/"):
            seen.update(f"{name}:{stored.version}\n".encode())
            match = _OBJECT.fullmatch(name)
            # Ours carry their hash, and are loaded by the run that put them there.
            if stored.sha256 is not None or not match or match[1] not in jobs:
                continue
            service, month = match[1], match[2]
            if name != tables.object_name(service, month):
                continue
            requests.append(
                dg.RunRequest(
                    run_key=f"{name}:{stored.version}",
                    partition_key=month,
                    job_name=jobs[service].name,
                    tags={"lakehouse/file": name},
                )
            )
        if seen.hexdigest() == context.cursor:
            return dg.SensorResult(skip_reason="Nothing new in the bucket.")
        return dg.SensorResult(run_requests=requests, cursor=seen.hexdigest())

    return objects_sensor


class TaxiPublisher:
    """What TLC and the inbox can be asked."""

    def __init__(self, settings: Settings) -> None:
        self._files = TripFiles(settings, patience=ASK_ONCE)

    def is_current(self, key: dg.AssetKey, partition: str, made: Materialization) -> bool:
        """Whether publisher and inbox still have what was materialized, and the zones are those."""
        _, layer, name = key.path
        version = str(made.metadata.get("source_version", ""))
        if key == taxi.zones.key:
            return self._files.zones_are_current(version)
        if layer == "raw":
            return self._files.is_current(name.removesuffix("_trips"), partition, version)
        if layer == "objects":
            return made.metadata.get("zones_version") == self._files.zones_version()
        return True

    def lacks(self, stage: str, partition: str) -> str | None:
        """Why there is no file of a month; None where there is one, or nobody can tell."""
        return self._files.lacks(stage, partition) if stage else None
