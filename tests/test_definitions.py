"""What Dagster loads: whole, described, checked by partition, and silent until it runs."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.definitions import build_definitions
from lakehouse.partitions import drives_months, drives_years
from lakehouse.settings import Settings

CHECKOUT = Path(__file__).resolve().parent.parent
DEFINITIONS = build_definitions(Settings())
ASSETS = {key.to_user_string(): key for key in DEFINITIONS.resolve_all_asset_keys()}
CHECKS = sorted(DEFINITIONS.resolve_asset_graph().asset_check_keys)

SECRETS = {
    "LAKEHOUSE_CLICKHOUSE_PASSWORD": "planted",
    "LAKEHOUSE_CLICKHOUSE_READER_PASSWORD": "planted",
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
    assert spec.partitions_def in (drives_months, drives_years)
    assert layer in ("raw", "bronze", "silver", "gold", "clickhouse")
    assert table


@pytest.mark.parametrize("name", sorted(set(ASSETS) - {"drives/raw/archive"}))
def test_every_table_has_a_check(name):
    assert [check for check in CHECKS if check.asset_key == ASSETS[name]]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.to_user_string())
def test_every_check_stops_what_follows_and_has_the_partitions_of_its_asset(check):
    """Dagster accepts other partitions than the asset's without a word."""
    spec = DEFINITIONS.resolve_asset_graph().get_check_spec(check)

    assert spec.blocking
    assert spec.description
    assert spec.partitions_def is not None
    assert spec.partitions_def == DEFINITIONS.resolve_assets_def(check.asset_key).partitions_def


def test_sensors_that_only_read_are_on_and_what_downloads_is_off():
    """`dagster dev` on a fresh checkout downloads nothing by itself."""
    quiet = {"alerts", "left_failed", "killed_runs", "drives_inbox", "drives_years"}
    on = {
        name
        for name in (*quiet, "drives_publications")
        if DEFINITIONS.resolve_sensor_def(name).default_status is dg.DefaultSensorStatus.RUNNING
    }

    assert on == quiet
    schedule = DEFINITIONS.resolve_schedule_def("drives_quarter")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
