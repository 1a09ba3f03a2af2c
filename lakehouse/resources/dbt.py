"""dbt: the project below `dbt/`, its manifest, and how it is run against ClickHouse."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock

from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.resources import dbt_main
from lakehouse.resources.clickhouse import ClickHouse, quoted
from lakehouse.settings import Settings

if TYPE_CHECKING:
    import dagster as dg
    from dagster_dbt import DbtCliResource

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
_FAILURES_TOLD = 5
_PROBLEM_LENGTH = 300
_DISK_FULL = ("No space left on device", "not enough space")
"""What ClickHouse says through dbt where it has no room."""

_NO_ANSWER = ("ConnectionPool(", "Connection aborted", "Connection refused", "ProtocolError")
"""What dbt says where ClickHouse went away."""

_EXAMPLES = 5
_VALUE_LENGTH = 40
_SECONDS_TO_END = 30

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


class Dbt:
    """Runs the dbt project in the ClickHouse of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._clickhouse = ClickHouse(settings)
        self._cache = settings.cache
        self._scratch = settings.state / "dbt"

    def build(self, context: "dg.AssetExecutionContext", months: Sequence[str]) -> Iterator[Any]:
        """Make these months of the selected models and test them; yields Dagster's events.

        A model counts as made when none of its tests failed: the test of another month would pass,
        and what follows be made from bad rows. Of those rows the result of the test tells. Unit
        tests are left out: they say something of the code, not of the data.

        Only one may build in a home at a time.

        Raises:
            LakehouseError: A model could not be made, or a test could not be run.
            UnavailableError: ClickHouse does not answer.
            OSError: The disk is full, ClickHouse's or this one.
        """
        import dagster as dg

        self._end_what_killed_runs_left()
        target = self._scratch / uuid4().hex
        target.mkdir(parents=True)  # by which a later run finds out that there was one
        variables = json.dumps({"months": list(months)})
        parsed = manifest_path(self._cache).with_name(_PARSED)
        with _variables({**self._connection(), dbt_main.PARSED_VARIABLE: str(parsed)}):
            invocation = _program().cli(
                ["build", "--vars", variables, "--exclude-resource-type", "unit_test"],
                context=context,
                target_path=target,
                raise_on_error=False,
            )
        nodes = invocation.manifest["nodes"]
        made: list[tuple[dg.Output[None], Mapping[str, Any]]] = []
        told: set[str] = set()
        failed: set[str] = set()
        try:
            for event in invocation.stream():
                name = str(event.metadata["unique_id"].value)
                if isinstance(event, dg.Output):
                    made.append((event, nodes[name]))
                elif isinstance(event, dg.AssetCheckResult) and not event.passed:
                    told.add(name)
                    if event.severity is dg.AssetCheckSeverity.ERROR:
                        failed.add(nodes[name]["attached_node"])
                    yield self._explained(event, nodes[name])
                else:
                    yield event
            problems = [] if invocation.is_successful() else _problems(target, told)
            if invocation.process.returncode == dbt_main.DISK_FULL_CODE or any(
                sign in problem for problem in problems for sign in _DISK_FULL
            ):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if any(sign in problem for problem in problems for sign in _NO_ANSWER):
                raise UnavailableError(
                    "ClickHouse stopped answering while dbt ran: start it with `lakehouse up`, or"
                    " check LAKEHOUSE_CLICKHOUSE_URL, and run again"
                )
            for output, model in made:
                if model["unique_id"] not in failed:
                    yield self._with_row_counts(context, output, model, months)
            if problems:
                more = len(problems) - _FAILURES_TOLD
                raise LakehouseError(
                    "; ".join(problem[:_PROBLEM_LENGTH] for problem in problems[:_FAILURES_TOLD])
                    + (f" and {more} more" if more > 0 else "")
                )
        finally:
            _end(invocation.process)
            shutil.rmtree(target, ignore_errors=True)

    def _end_what_killed_runs_left(self) -> None:
        """A dbt whose parent was killed goes on, and would put back what it began with."""
        import psutil

        if not self._scratch.is_dir() or not any(self._scratch.iterdir()):
            return
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                target = process.environ().get("DBT_TARGET_PATH", "")
                if Path(target).parent == self._scratch:
                    process.kill()
                    process.wait(_SECONDS_TO_END)
        shutil.rmtree(self._scratch)

    def _explained(
        self, result: "dg.AssetCheckResult", test: Mapping[str, Any]
    ) -> "dg.AssetCheckResult":
        """The result of a test that failed, with how many rows failed, which, and where they are.

        The project keeps them in a table of the test's name, but for those beyond a limit.
        """
        import dagster as dg

        if result.metadata["status"].value != "fail":
            sentence = "the test itself could not be run; see the run"
            return _with_more(result, sentence, {})
        count = result.metadata["dagster_dbt/failed_row_count"].value
        table = f"{test['schema']}.{test['alias']}"
        name = quoted(test["schema"], test["alias"])
        with self._clickhouse.client() as client:
            kept = client.query(f"SELECT * EXCEPT kept_at FROM {name} LIMIT {_EXAMPLES}")  # noqa: S608
        examples = [
            dict(zip(kept.column_names, map(_short, row), strict=True)) for row in kept.result_rows
        ]
        first = ", ".join(f"{column} {value}" for column, value in (examples or [{}])[0].items())
        sentence = f"{count:,} row{'s' if count != 1 else ''} in {table}, such as {first}"
        return _with_more(
            result,
            sentence,
            {
                "failing_rows_kept_in": table,
                "examples": dg.MetadataValue.table([dg.TableRecord(row) for row in examples]),
            },
        )

    def _with_row_counts(
        self,
        context: "dg.AssetExecutionContext",
        output: "dg.Output[None]",
        model: Mapping[str, Any],
        months: Sequence[str],
    ) -> "dg.Output[None]":
        """A model's output with the rows of its table, and of each month where it has months."""
        if model["config"]["materialized"] == "view":
            return output
        counts = self._row_counts(model["schema"], model["alias"])
        if model["config"].get("partition_by"):
            for month in months:
                context.add_asset_metadata(
                    {"dagster/partition_row_count": counts.get(month.replace("-", ""), 0)},
                    asset_key=context.asset_key_for_output(output.output_name),
                    partition_key=month,
                )
        return output.with_metadata({**output.metadata, "dagster/row_count": sum(counts.values())})

    def _row_counts(self, schema: str, table: str) -> dict[str, int]:
        """The rows of each partition of a table, by the partition's id."""
        with self._clickhouse.client() as client:
            found = client.query(
                "SELECT partition_id, sum(rows) FROM system.parts WHERE active"
                " AND database = {schema:String} AND table = {table:String} GROUP BY partition_id",
                parameters={"schema": schema, "table": table},
            )
        return {str(partition): int(rows) for partition, rows in found.result_rows}

    def _connection(self) -> dict[str, str]:
        """Where dbt finds ClickHouse; the local service is started where it is down."""
        connection = self._clickhouse.account()
        return {
            "DBT_CLICKHOUSE_HOST": connection.host,
            "DBT_CLICKHOUSE_PORT": str(connection.port),
            "DBT_CLICKHOUSE_SECURE": str(connection.secure).lower(),
            "DBT_CLICKHOUSE_USER": connection.user,
            "DBT_CLICKHOUSE_PASSWORD": connection.password.get_secret_value(),
        }


def _program() -> "DbtCliResource":
    """dbt, without what dagster-dbt does before each run, which takes longer than most models."""
    from dagster_dbt import DbtCliResource
    from packaging.version import Version

    class Program(DbtCliResource):
        @cached_property
        def _cli_version(self) -> Version:
            # It would start dbt to ask it.
            return Version(metadata.version("dbt-core"))

        def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:
            # It would load dbt into this process too, to count rows one by one.
            return None

    return Program(
        project_dir=str(PROJECT),
        profiles_dir=str(PROJECT),
        dbt_executable=sys.executable,
        global_config_flags=["-m", dbt_main.__name__],
    )


def _with_more(
    result: "dg.AssetCheckResult", description: str, more: Mapping[str, Any]
) -> "dg.AssetCheckResult":
    import dagster as dg

    return dg.AssetCheckResult(
        passed=result.passed,
        asset_key=result.asset_key,
        check_name=result.check_name,
        metadata={**result.metadata, **more},
        severity=result.severity,
        description=description,
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]} …"


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """dagster-dbt hands its own environment on to dbt, and takes no other."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Have a dbt end that nobody listens to any more."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _problems(target: Path, told: Iterable[str]) -> list[str]:
    """What failed in a run, in dbt's own words, but for the tests that were told as checks."""
    try:
        results = json.loads((target / "run_results.json").read_text())["results"]
    except (OSError, ValueError, KeyError):
        return ["dbt broke off before it made anything: see the log of the run"]
    return [
        f"{_name(result)}: {_sentence(result)}"
        for result in results
        if result["status"] in ("error", "runtime error")
        or (result["status"] == "fail" and result["unique_id"] not in told)
    ]


def _name(result: Mapping[str, Any]) -> str:
    kind, _, *parts = result["unique_id"].split(".")
    return f"{kind} {parts[0]}"


def _sentence(result: Mapping[str, Any]) -> str:
    lines = [line.strip() for line in (result.get("message") or "it failed").splitlines()]
    return " ".join(line for line in lines if line)


if __name__ == "__main__":
    manifest_path(Settings().cache)
