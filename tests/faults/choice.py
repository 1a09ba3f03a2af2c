"""Which faults are tried: a few with all other tests, all of them with `--full`."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from faults.subjects import SUBJECTS

Cases = Mapping[str, Iterable[Any]]
"""By data set."""


def choose(metafunc: pytest.Metafunc, argument: str, few: Cases, many: Cases) -> None:
    """Give a test the parameters `dataset` and this one: a few cases, or in full many."""
    if argument not in metafunc.fixturenames:
        return
    cases = many if metafunc.config.getoption("full") else few
    chosen = [
        pytest.param(dataset, case, id=f"{dataset}-{_name(case)}")
        for dataset, each in cases.items()
        for case in each
    ]
    skipped = pytest.param("", None, marks=pytest.mark.skip(reason="in full only: --full"))
    metafunc.parametrize(("dataset", argument), chosen or [skipped])


def choose_datasets(metafunc: pytest.Metafunc, few: Mapping[str, Iterable[str]]) -> None:
    """Give tests, by their names, the parameter `dataset`: a few data sets, or in full all."""
    name = metafunc.function.__name__
    if name in few:
        full = metafunc.config.getoption("full")
        metafunc.parametrize("dataset", SUBJECTS if full else few[name])


def _name(case: Any) -> str:
    return "-".join(map(str, case)) if isinstance(case, tuple) else str(case)
