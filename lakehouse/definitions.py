"""The one place where all is put together."""

from typing import Any

import dagster as dg

from lakehouse.assets import drives
from lakehouse.automation import drives as drives_automation
from lakehouse.automation.alerts import build_alerts
from lakehouse.automation.crashes import killed_runs
from lakehouse.checks.drives import CHECKS
from lakehouse.checks.factory import build_checks
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.drive_files import DriveFiles
from lakehouse.resources.lake import Lake
from lakehouse.resources.landing import Progress
from lakehouse.resources.notifier import Notifier
from lakehouse.settings import Settings


def build_definitions(
    settings: Settings | None = None, progress: Progress | None = None, **overrides: Any
) -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors over the resources of these settings.

    Args:
        settings: Read from the environment where not given.
        progress: Told how far downloads are.
        overrides: Resources by name, in the place of those that the settings make.
    """
    settings = settings or Settings()
    drive_files = DriveFiles(settings, progress)
    resources = {
        "drive_files": drive_files,
        "inboxes": {"drives": drive_files.inbox},
        "lake": Lake(settings),
        "clickhouse": ClickHouse(settings),
        "notifier": Notifier(settings.alert_urls),
    }
    return dg.Definitions(
        assets=drives.assets,
        asset_checks=[
            build_checks(asset, CHECKS[asset.key.to_user_string()])
            for asset in drives.assets
            if asset.key.to_user_string() in CHECKS
        ],
        jobs=[drives_automation.month_job, drives_automation.year_job],
        schedules=[drives_automation.drives_quarter],
        sensors=[
            *drives_automation.build_sensors(settings),
            *build_alerts(settings.dagster_url),
            killed_runs,
        ],
        resources=resources | overrides,
        # A step in a process of its own costs 2.6 s here, in the run's process 0.06 s.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev` and the other tools load."""
    return build_definitions()
