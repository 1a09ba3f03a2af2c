"""The dbt project below `dbt/`: what dbt says of it when it has read it, which set-up has it do."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings

_ROOT = Path(__file__).resolve().parents[1]
PROJECT = next(
    (folder for folder in (_ROOT.parent / "dbt", _ROOT / "dbt") if folder.is_dir()), _ROOT / "dbt"
)
"""The dbt project: in the checkout, or as the package brings it."""

_PARTS = ("dbt_project.yml", "profiles.yml", "models", "macros", "tests")
"""What the project is made of; beside them dbt puts what it makes."""

_LAYOUT = 3
"""Of what is kept with a manifest; another number makes it anew."""

_MANIFEST = "manifest.json"
_PARSED = "partial_parse.msgpack"
_COLUMN_LINEAGE = "column_lineage.json"

ColumnLineage = Mapping[str, Mapping[str, Sequence[tuple[str, str, str]]]]
"""Of each model's columns the (schema, table, column) that they are made from."""


def manifest_path(cache_folder: Path) -> Path:
    """The manifest of the project as it is now, made where there is none of this state yet.

    It takes dbt some seconds and no database; set-up does it, so that nobody else waits.

    Raises:
        LakehouseError: dbt cannot read the project.
    """
    folder = cache_folder / f"dbt-{_fingerprint()}"
    manifest = folder / _MANIFEST
    if not manifest.exists():
        cache_folder.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_folder / "dbt.lock"):
            if not manifest.exists():
                _compile(folder)
    return manifest


def parsed_path(cache_folder: Path) -> Path:
    """The project as dbt itself keeps it, beside the manifest, of which it can start at once.

    Raises:
        LakehouseError: dbt cannot read the project.
    """
    return manifest_path(cache_folder).with_name(_PARSED)


def column_lineage(manifest: Path) -> ColumnLineage:
    """What the columns of each model are made from, as was found when the manifest was made."""
    found: ColumnLineage = json.loads(manifest.with_name(_COLUMN_LINEAGE).read_text())
    return found


@cache
def _fingerprint() -> str:
    versions = [metadata.version(package) for package in ("dbt-core", "dbt-clickhouse")]
    digest = hashlib.sha256(f"{_LAYOUT} {versions}".encode())
    for part in _PARTS:
        for path in sorted([PROJECT / part, *(PROJECT / part).rglob("*")]):
            if path.suffix in (".sql", ".yml"):
                digest.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(folder: Path) -> None:
    """Have dbt write the manifest with the models' SQL, by which columns can be followed."""
    draft = folder.with_name(f"{folder.name}.{uuid4().hex}.part")
    try:
        result = subprocess.run(
            [
                *(dbt_program(), "--quiet", "compile", "--target-path", str(draft)),
                *("--no-introspect", "--no-populate-cache"),
            ],
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
        lineage = _column_lineage(json.loads((draft / _MANIFEST).read_text()))
        (draft / _COLUMN_LINEAGE).write_text(json.dumps(lineage))
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _column_lineage(manifest: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    # dagster-dbt follows columns too, but after each run, and with all names in lower case.
    from sqlglot.errors import SqlglotError

    nodes = [*manifest["nodes"].values(), *manifest["sources"].values()]
    tables: dict[str, Any] = {}
    for node in nodes:
        if types := {name: column["data_type"] for name, column in node["columns"].items()}:
            tables.setdefault(node["schema"], {})[node["name"]] = types
    found = {}
    for model in nodes:
        if model["resource_type"] == "model":
            # Its SQL may be right, and still be more than the parser knows.
            with suppress(SqlglotError):
                found[model["name"]] = {
                    column: _origins(column, model["compiled_code"], tables)
                    for column in model["columns"]
                }
    return found


def _origins(column: str, sql: str, tables: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The (schema, table, column) that a column of a query is made from."""
    from sqlglot import exp
    from sqlglot.lineage import lineage

    parts = lineage(column, sql, schema=tables, dialect="clickhouse").walk()
    return sorted(
        {
            (table.db, table.name, exp.to_column(part.name).name)
            for part in parts
            if not part.downstream and (table := part.expression.find(exp.Table))
        }
    )


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


if __name__ == "__main__":
    manifest_path(Settings().cache)
