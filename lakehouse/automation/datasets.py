"""The data sets by name.

Their modules are imported when they are asked for: that takes most of a second.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING

from lakehouse.settings import Settings

if TYPE_CHECKING:
    from lakehouse.automation.dataset import Dataset

NAMES = ("drives", "taxi", "retail")


def started_ahead(settings: Settings, name: str) -> AbstractContextManager[None]:
    """Has that started which a data set needs and which takes seconds, while others are done.

    Raises:
        LakehouseError: It cannot be started.
    """
    if name != "retail":
        return nullcontext()
    from lakehouse.resources import dbt_process

    return dbt_process.started_ahead(settings.cache)


def dataset(settings: Settings, name: str) -> "Dataset":
    """A data set as these settings have it; its module is named like it.

    Only that module is imported.
    """
    found: Dataset = import_module(f"lakehouse.automation.{name}").dataset(settings)
    return found


def datasets(settings: Settings) -> "Mapping[str, Dataset]":
    """All data sets."""
    return {name: dataset(settings, name) for name in NAMES}
