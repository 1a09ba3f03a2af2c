"""Which services this machine runs for the lakehouse."""

import os

from lakehouse.services.bigquery import BigQueryService
from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.services.gcs import GcsService
from lakehouse.services.postgres import PostgresService
from lakehouse.services.process import LocalService
from lakehouse.settings import Settings


def local_services(settings: Settings) -> list[LocalService]:
    """The services that `lakehouse up` starts.

    Left out are those whose address is set from outside, and those that are switched off.
    """
    off = settings.without.split()
    services: list[LocalService] = []
    if settings.clickhouse_url is None:
        services.append(ClickHouseService(settings))
    if not (settings.objects or "").split() and "STORAGE_EMULATOR_HOST" not in os.environ:
        services.append(GcsService(settings))
    if settings.bigquery_project is None and "bigquery" not in off:
        services.append(BigQueryService(settings))
    if not settings.postgres_url.get_secret_value() and "postgres" not in off:
        services.append(PostgresService(settings))
    return services
