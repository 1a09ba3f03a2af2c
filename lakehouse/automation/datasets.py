"""The data sets by name."""

from collections.abc import Mapping
from importlib import import_module

from lakehouse.automation.dataset import Dataset
from lakehouse.settings import Settings

NAMES = ("drives", "taxi", "retail")


def dataset(settings: Settings, name: str) -> Dataset:
    """A data set as these settings have it; its module is named like it.

    Only that module is imported: those of others can take a second.
    """
    found: Dataset = import_module(f"lakehouse.automation.{name}").dataset(settings)
    return found


def datasets(settings: Settings) -> Mapping[str, Dataset]:
    """All data sets."""
    return {name: dataset(settings, name) for name in NAMES}
