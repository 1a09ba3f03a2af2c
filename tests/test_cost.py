"""`lakehouse status --cost`: what lies on disk, and what it is reckoned to cost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from homes import Home
from small_archives import archive_of, month_files, write_archive

from lakehouse.automation.cost import PRICES, cost
from lakehouse.automation.datasets import dataset
from lakehouse.instance import open_instance


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A month that was made twice."""
    root = tmp_path_factory.mktemp("cost")
    home = Home(root / "home", root / "mirror")
    write_archive(home.mirror, archive_of("2018-01"), month_files("2018-01"))
    home.backfill("2018-01")
    home.backfill("2018-01", None, "--force")
    yield home
    home.down()


@pytest.fixture(scope="module")
def found(home: Home) -> dict[str, Any]:
    return home.call("status", "drives", "--cost", "--json").json


def bytes_on_disk(folder: Path, kind: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(kind))


def test_bytes_are_those_on_disk(home: Home, found: dict[str, Any]) -> None:
    layers = {layer["layer"]: layer for layer in found["layers"]}

    assert set(layers) == {"landing", "bronze", "silver", "gold", "clickhouse"}
    assert layers["landing"]["bytes"] == bytes_on_disk(home.folder / "landing", "data_*")
    silver = layers["silver"]
    on_disk = bytes_on_disk(home.folder / "lake" / "drives" / "silver", "month=*/*.parquet")
    assert silver["bytes"] + silver["former_bytes"] == on_disk
    assert silver["bytes"] == silver["former_bytes"]  # made twice from the same file
    assert silver["files"] == 1
    assert set(found["growth"]) == {"2018", "2018-01"}


def test_money_is_bytes_and_hours_times_prices(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home.folder))
    only_storage = dict.fromkeys(PRICES, 0.0) | {"storage_gb_month": 1e9}
    only_runs = dict.fromkeys(PRICES, 0.0) | {"run_hour": 3600.0}
    with open_instance(home.settings) as instance:
        stored, ran = (
            cost(
                home.settings.model_copy(update={"prices": prices}),
                instance,
                [dataset(home.settings, "drives")],
            )
            for prices in (only_storage, only_runs)
        )

    lake_and_landing = [layer for layer in stored.layers if layer.layer != "clickhouse"]
    stored_bytes = sum(layer.bytes + layer.former_bytes for layer in lake_and_landing)
    assert stored.dollars_a_month == pytest.approx(stored_bytes)
    assert ran.dollars_a_month == pytest.approx(sum(ran.run_hours.values()) * 3600)
    assert 0 < ran.dollars_a_month < 600


def test_it_is_said_on_a_screen(home: Home) -> None:
    answer = home.call("status", "--cost")

    assert answer.code == 0
    assert "MB by month: 2018 " in answer.out
    assert "dollars a month." in answer.out
    assert len(answer.out.splitlines()) < 25
