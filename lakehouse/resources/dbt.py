"""dbt: the project below `dbt/`, its manifest, and how it is run against ClickHouse."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock

from lakehouse.errors import LakehouseError
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

_ROOT = Path(__file__).resolve().parents[1]
PROJECT = next(
    (folder for folder in (_ROOT.parent / "dbt", _ROOT / "dbt") if folder.is_dir()), _ROOT / "dbt"
)
"""The dbt project: in the checkout, or as the package brings it."""

_MANIFEST = "manifest.json"
_FAILURES_TOLD = 5


def manifest_path(cache_folder: Path) -> Path:
    """The manifest of the project as it is now, made where there is none of this state yet.

    It takes dbt about three seconds and no database; set-up does it, so that nobody else waits.

    Raises:
        LakehouseError: dbt cannot read the project.
    """
    folder = cache_folder / f"dbt-{_fingerprint()}"
    manifest = folder / _MANIFEST
    if not manifest.exists():
        cache_folder.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_folder / "dbt.lock"):
            if not manifest.exists():
                _parse(folder)
    return manifest


@cache
def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted(PROJECT.rglob("*")):
        if path.is_file() and path.suffix in (".sql", ".yml"):
            digest.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _parse(folder: Path) -> None:
    draft = folder.with_name(f"{folder.name}.{uuid4().hex}.part")
    try:
        result = subprocess.run(
            [dbt_program(), "--quiet", "parse", "--target-path", str(draft)],
            cwd=PROJECT,
            env=_environment(draft),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0 or not (draft / _MANIFEST).exists():
            said = (result.stdout + result.stderr).strip().splitlines()
            raise LakehouseError(
                f"dbt cannot read the project {PROJECT}: {' '.join(said[-3:])}: mend it, and see"
                " `dbt parse`"
            )
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def dbt_program() -> str:
    """The program `dbt` of this Python."""
    return str(Path(sys.executable).with_name("dbt"))


def _environment(logs: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DBT_PROJECT_DIR": str(PROJECT),
        "DBT_PROFILES_DIR": str(PROJECT),
        "DBT_LOG_PATH": str(logs),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_VERSION_CHECK": "false",
    }


class Dbt:
    """Runs the dbt project in the ClickHouse of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scratch = settings.state / "dbt"

    def build(self, context: "dg.AssetExecutionContext", months: Sequence[str]) -> Iterator[Any]:
        """Make these months of the selected models and test them; yields Dagster's events.

        Unit tests are left out: they say something of the code, not of the data.

        Raises:
            LakehouseError: A model or a test that stops what follows failed.
            UnavailableError: ClickHouse does not answer.
        """
        from dagster_dbt import DbtCliResource

        self._scratch.mkdir(parents=True, exist_ok=True)
        target = self._scratch / uuid4().hex
        variables = json.dumps({"months": list(months)})
        dbt = DbtCliResource(
            project_dir=str(PROJECT), profiles_dir=str(PROJECT), dbt_executable=dbt_program()
        )
        try:
            with _variables(self._connection()):
                invocation = dbt.cli(
                    ["build", "--vars", variables, "--exclude-resource-type", "unit_test"],
                    context=context,
                    target_path=target,
                    raise_on_error=False,
                )
            yield from invocation.stream()
            if not invocation.is_successful():
                raise LakehouseError(_failures(target))
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def _connection(self) -> dict[str, str]:
        """Where dbt finds ClickHouse; the local service is started where it is down."""
        connection = ClickHouse(self._settings).account()
        return {
            "DBT_CLICKHOUSE_HOST": connection.host,
            "DBT_CLICKHOUSE_PORT": str(connection.port),
            "DBT_CLICKHOUSE_SECURE": str(connection.secure).lower(),
            "DBT_CLICKHOUSE_USER": connection.user,
            "DBT_CLICKHOUSE_PASSWORD": connection.password.get_secret_value(),
        }


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """dagster-dbt hands its own environment on to dbt, and takes no other."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _failures(target: Path) -> str:
    """What failed, in dbt's own words, from the results of a run."""
    try:
        results = json.loads((target / "run_results.json").read_text())["results"]
    except (OSError, ValueError, KeyError):
        return "dbt broke off before it made anything: see the log of the run"
    failed = [r for r in results if r["status"] in ("error", "fail", "runtime error")]
    said = "; ".join(f"{_name(r)}: {_sentence(r)}" for r in failed[:_FAILURES_TOLD])
    more = f" and {len(failed) - _FAILURES_TOLD} more" if len(failed) > _FAILURES_TOLD else ""
    return f"{said}{more}"


def _name(result: dict[str, Any]) -> str:
    kind, _, *parts = result["unique_id"].split(".")
    return f"{kind} {parts[0]}"


def _sentence(result: dict[str, Any]) -> str:
    lines = [line.strip() for line in (result.get("message") or "it failed").splitlines()]
    return " ".join(line for line in lines if line)[:300]
