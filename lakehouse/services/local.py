"""Which services this machine runs for the lakehouse."""

from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.services.process import LocalService
from lakehouse.settings import Settings


def local_services(settings: Settings) -> list[LocalService]:
    """The services that `lakehouse up` starts: those whose address is not set from outside."""
    return [ClickHouseService(settings)] if settings.clickhouse_url is None else []
