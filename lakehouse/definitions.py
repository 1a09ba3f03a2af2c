"""The one place where all is put together."""

from collections.abc import Sequence

import dagster as dg

from lakehouse.automation.dataset import Dataset
from lakehouse.automation.datasets import datasets
from lakehouse.resources.bigquery import BigQuery
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.dbt import Dbt
from lakehouse.resources.drive_files import DriveFiles
from lakehouse.resources.lake import Lake
from lakehouse.resources.landing import Progress
from lakehouse.resources.notifier import Notifier
from lakehouse.resources.objects import Objects
from lakehouse.resources.postgres import Postgres
from lakehouse.resources.retail_files import RetailFiles
from lakehouse.resources.trip_files import TripFiles
from lakehouse.settings import Settings


def build_definitions(
    settings: Settings | None = None,
    progress: Progress | None = None,
    only: Dataset | None = None,
) -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors over the resources of these settings.

    Args:
        settings: Read from the environment where not given.
        progress: Told how far downloads are.
        only: This data set; all where not given.
    """
    settings = settings or Settings()
    drive_files, trip_files = DriveFiles(settings, progress), TripFiles(settings, progress)
    retail_files = RetailFiles(settings, progress)
    resources = {
        "drive_files": drive_files,
        "trip_files": trip_files,
        "inboxes": {
            "drives": drive_files.inbox,
            "taxi": trip_files.inbox,
            "retail": retail_files.inbox,
        },
        "retail_files": retail_files,
        "dbt": Dbt(settings),
        "lake": Lake(settings),
        "objects": Objects(settings),
        "bigquery": BigQuery(settings),
        "postgres": Postgres(settings),
        "clickhouse": ClickHouse(settings),
        "notifier": Notifier(settings.alert_urls),
    }
    known = [only] if only else list(datasets(settings).values())
    return dg.Definitions.merge(
        *(each.definitions() for each in known),
        _build_sensors(settings, known),
        # A command that makes one data set needs nothing of what looks after all of them.
        *([] if only else [_build_maintenance(settings, known)]),
        dg.Definitions(
            resources=resources,
            # A step in a process of its own costs 2.6 s here, in the run's process 0.06 s.
            executor=dg.in_process_executor,
        ),
    )


def _build_sensors(settings: Settings, known: Sequence[Dataset]) -> dg.Definitions:
    """What watches the runs of all data sets; imported by those alone who need it, as below."""
    from lakehouse.automation.alerts.sensors import build_alerts
    from lakehouse.automation.crashes import killed_runs
    from lakehouse.automation.reports import build_reports

    watching = [
        *build_alerts(settings.dagster_url),
        build_reports(known, settings),
        killed_runs,
    ]
    if settings.pushgateway_url:
        from lakehouse.serving.pushing import build_pushing

        watching.append(build_pushing(settings))
    return dg.Definitions(sensors=watching)


def _build_maintenance(settings: Settings, known: Sequence[Dataset]) -> dg.Definitions:
    from lakehouse.automation.maintenance import build_maintenance

    return build_maintenance(settings, known)


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev` and the other tools load."""
    return build_definitions()
