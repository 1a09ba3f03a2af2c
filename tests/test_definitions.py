"""What Dagster loads: whole, described, checked by partition, and silent until it runs."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.automation.datasets import NAMES, datasets
from lakehouse.definitions import build_definitions
from lakehouse.settings import Settings

CHECKOUT = Path(__file__).resolve().parent.parent
DEFINITIONS = build_definitions(Settings())
ASSETS = {key.to_user_string(): key for key in DEFINITIONS.resolve_all_asset_keys()}
GRAPH = DEFINITIONS.resolve_asset_graph()
CHECKS = sorted(GRAPH.asset_check_keys)

LAYERS = {
    "drives": {"raw", "bronze", "silver", "gold", "clickhouse"},
    "taxi": {"raw", "objects", "bigquery", "postgres", "gold", "clickhouse"},
    "retail": {"raw", "vault", "marts", "quality"},
    "maintenance": {"lake", "clickhouse", "home", "cost", "verification"},
}
PARTITIONS = {
    spec.key: stage.partitions_def
    for dataset in datasets(Settings()).values()
    for stage in dataset.stages
    for spec in stage.specs
}

SECRETS = {
    "LAKEHOUSE_CLICKHOUSE_PASSWORD": "planted",
    "LAKEHOUSE_CLICKHOUSE_READER_PASSWORD": "planted",
    "LAKEHOUSE_POSTGRES_URL": "postgresql://me:planted@db.example/trips",
    "LAKEHOUSE_ALERT_URLS": "json://example.com/planted",
    "LAKEHOUSE_DAGSTER_POSTGRES_URL": "postgresql://me:planted@db.example/dagster",
    "LAKEHOUSE_LAKE_STORAGE_OPTIONS": '{"AWS_SECRET_ACCESS_KEY": "planted"}',
}


def run(*command: str | Path, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the checkout as a stranger does, with a home of its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LAKEHOUSE_", "DAGSTER"))}
    return subprocess.run(
        list(map(str, command)),
        cwd=CHECKOUT,
        env=inherited | {"LAKEHOUSE_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def program(name: str) -> Path:
    return Path(sys.executable).with_name(name)


@pytest.mark.parametrize(
    "command",
    [("dagster", "definitions", "validate"), ("dg", "check", "defs")],
    ids=" ".join,
)
def test_dagsters_own_validation_passes(tmp_path, command):
    name, *arguments = command

    result = run(program(name), *arguments, home=tmp_path / "home")

    assert result.returncode == 0, result.stdout + result.stderr
    # One of the two commands is to be replaced by the other.
    warnings = [line for line in result.stderr.splitlines() if "Warning" in line]
    assert [line for line in warnings if "SupersessionWarning" not in line] == []


def test_loading_the_definitions_leaves_no_trace_and_opens_no_connection(tmp_path):
    script = (
        "import sys\n"
        "def tell(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'):\n"
        "        print(event, arguments)\n"
        "sys.addaudithook(tell)\n"
        "from lakehouse.definitions import defs\n"
        "print(len(defs().resolve_all_asset_keys()) > 0)\n"
    )

    result = run(sys.executable, "-c", script, home=tmp_path / "home")

    assert (result.stdout, result.stderr) == ("True\n", "")
    assert not (tmp_path / "home").exists()


def test_no_secret_shows_in_what_dagster_keeps_and_shows(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    definitions = build_definitions(Settings())

    # What the UI shows and the history keeps is made of these snapshots.
    job = definitions.resolve_implicit_global_asset_job_def()
    shown = [
        str(definitions.resources),
        repr(definitions),
        dg.serialize_value(job.get_job_snapshot()),
    ]
    assert not [text for text in shown if "planted" in text]


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_every_asset_says_what_it_is(name):
    spec = DEFINITIONS.resolve_assets_def(ASSETS[name]).get_asset_spec(ASSETS[name])
    dataset, layer, table = spec.key.path

    assert spec.group_name == dataset
    assert spec.description
    assert spec.description.strip().endswith((".", "`"))
    assert spec.kinds
    assert spec.owners
    assert spec.code_version
    assert spec.partitions_def == PARTITIONS.get(spec.key)
    assert layer in LAYERS[dataset]
    assert table


def test_every_data_set_has_all_its_layers():
    layers: dict[str, set[str]] = {}
    for key in ASSETS.values():
        layers.setdefault(key.path[0], set()).add(key.path[1])

    assert layers == LAYERS


def says_what_the_original_said(name):
    """Views that stand beside ours to be compared with."""
    return name.startswith("retail/quality/original_")


@pytest.mark.parametrize(
    "name",
    sorted(n for n in ASSETS if "/raw/" not in n and not says_what_the_original_said(n)),
)
def test_every_table_has_a_check(name):
    assert [check for check in CHECKS if check.asset_key == ASSETS[name]]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.to_user_string())
def test_every_check_stops_what_follows_and_has_the_partitions_of_its_asset(check):
    """Dagster accepts other partitions than the asset's without a word."""
    spec = GRAPH.get_check_spec(check)

    asset = DEFINITIONS.resolve_assets_def(check.asset_key)
    assert spec.blocking
    # dbt's tests say what they do by their names, and look at a whole table.
    if not any(name.startswith("dagster_dbt") for name in spec.metadata):
        assert spec.description
        assert spec.partitions_def == asset.partitions_def


def test_sensors_that_only_read_are_on_and_what_downloads_is_off():
    """`dagster dev` on a fresh checkout downloads nothing by itself."""
    repository = DEFINITIONS.get_repository_def()
    on = {
        sensor.name
        for sensor in repository.sensor_defs
        if sensor.default_status is dg.DefaultSensorStatus.RUNNING
    }

    assert on == {
        *("alerts", "left_failed", "killed_runs", "reports", "drives_years", "retail_months"),
        *(f"{name}_inbox" for name in NAMES),
    }
    assert {schedule.default_status for schedule in repository.schedule_defs} == {
        dg.DefaultScheduleStatus.STOPPED
    }
    assert {"drives_publications", "taxi_publications", "taxi_objects"} <= {
        sensor.name for sensor in repository.sensor_defs
    }
    assert {"drives_quarter", "taxi_yellow_monthly", "taxi_fhvhv_monthly"} <= {
        schedule.name for schedule in repository.schedule_defs
    }


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        (
            "lakehouse.definitions",
            "boto3 clickhouse_connect dagster_dbt dagster_gcp dbt fastapi google nicegui pandas"
            " pandera psycopg pyarrow scipy",
        ),
        ("lakehouse.cli", "dagster polars"),
    ],
)
def test_what_only_some_need_is_imported_by_those(module: str, unwanted: str) -> None:
    """Everybody waits for what is imported at the start."""
    program = f"import sys, {module}; print(*({{*{unwanted.split()!r}}} & sys.modules.keys()))"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert answer.stdout.split() == []
