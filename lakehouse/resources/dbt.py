"""How dbt makes and tests the tables of the project in ClickHouse, in a process of its own."""

import errno
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.imports import absent
from lakehouse.resources import dbt_main, dbt_process
from lakehouse.resources.clickhouse import ClickHouse, quoted
from lakehouse.resources.dbt_project import PROJECT, manifest_path
from lakehouse.settings import Settings

if TYPE_CHECKING:
    import subprocess

    import dagster as dg
    from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation

_FAILURES_TOLD = 5
_PROBLEM_LENGTH = 300
_DISK_FULL = ("No space left on device", "not enough space")
"""What ClickHouse says through dbt where it has no room."""

_NO_ANSWER = ("ConnectionPool(", "Connection aborted", "Connection refused", "ProtocolError")
"""What dbt says where ClickHouse went away."""

_EXAMPLES = 5
_VALUE_LENGTH = 40
_UNIQUE_ID = "dagster_dbt/unique_id"
"""Where dagster-dbt says of an asset or a check what dbt calls it."""


class Dbt:
    """Runs the dbt project in the ClickHouse of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._clickhouse = ClickHouse(settings)
        self._cache = settings.cache
        self._scratch = settings.state / "dbt"

    def build(
        self,
        context: "dg.AssetExecutionContext",
        translator: "DagsterDbtTranslator",
        months: Sequence[str],
    ) -> Iterator[Any]:
        """Make these months of the selected models and test them; yields Dagster's events.

        A model counts as made when none of its tests failed: the test of another month would pass,
        and what follows be made from bad rows. Of those rows the result of the test tells. Unit
        tests are left out: they say something of the code, not of the data.

        Only one may build in a home at a time. A model is told of once its last test has passed.

        Raises:
            LakehouseError: A model could not be made, or a test could not be run.
            UnavailableError: ClickHouse does not answer.
            OSError: The disk is full, ClickHouse's or this one.
        """
        import dagster as dg

        shutil.rmtree(self._scratch, ignore_errors=True)  # what killed runs left
        target = self._scratch / uuid4().hex
        target.mkdir(parents=True)
        manifest = json.loads(manifest_path(self._cache).read_text())
        selected = _selected(context)
        variables = json.dumps({"months": list(months)})
        arguments = [
            *("--log-format", "json", "--log-level-file", "none", "--no-write-json"),
            *("build", "--vars", variables, "--exclude-resource-type", "unit_test"),
            "--no-populate-cache",  # of all databases, of which macros ask about one
            *_selection(selected, manifest),
        ]
        results = target / "results.json"
        process = dbt_process.begin(self._cache, arguments, self._environment(target), results)
        invocation = _invocation(process, manifest, translator, context, target)
        nodes = manifest["nodes"]
        made = Made(_tests_of_models(nodes, selected))
        rows: dict[str, Mapping[str, int]] = {}
        told: set[str] = set()

        def counted(name: str) -> dg.Output[None]:
            if name not in rows:
                counts = self._row_counts()
                rows.update({each: counts[_table_of(nodes[each])] for each in made.outputs})
            output = made.outputs.pop(name)
            return _with_row_counts(context, output, nodes[name], months, rows[name])

        try:
            for event in invocation.stream():
                name = str(event.metadata["unique_id"].value)
                if isinstance(event, dg.Output):
                    made.outputs[name] = event
                elif isinstance(event, dg.AssetCheckResult):
                    error = event.severity is dg.AssetCheckSeverity.ERROR
                    made.was_tested(
                        nodes[name]["attached_node"], name, failed=error and not event.passed
                    )
                    if not event.passed:
                        told.add(name)
                        event = self._explained(event, nodes[name])
                    yield from _evaluation(context, event)
                else:
                    yield event
                yield from map(counted, made.passed())
            problems = [] if invocation.is_successful() else _problems(results, told)
            _require_service(invocation.process.returncode, problems)
            # Tests that dbt has skipped do not come any more.
            yield from map(counted, made.not_failed())
            if problems:
                raise LakehouseError(_summary(problems))
        finally:
            dbt_process.end(invocation.process)
            shutil.rmtree(target, ignore_errors=True)

    def _environment(self, target: Path) -> dict[str, str]:
        """Where dbt finds the project and ClickHouse, and puts its files."""
        return {
            **self._connection(),
            "DBT_PROJECT_DIR": str(PROJECT),
            "DBT_PROFILES_DIR": str(PROJECT),
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }

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
        table = ".".join(_table_of(test))
        name = quoted(*_table_of(test))
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

    def _row_counts(self) -> dict[tuple[str, str], dict[str, int]]:
        """The rows of each partition, by its id, of each table, by its schema and name."""
        counts: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        with self._clickhouse.client() as client:
            found = client.query(
                "SELECT database, table, partition_id, sum(rows) FROM system.parts WHERE active"
                " AND database != 'system' GROUP BY ALL"
            )
        for schema, table, partition, rows in found.result_rows:
            counts[schema, table][partition] = int(rows)
        return counts

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


@dataclass
class Made:
    """The models that dbt has made and of which nobody was told yet, in dbt's order.

    They are told of in that order, since Dagster takes a table only before what is made from it; a
    test that looks at several tables can end after what follows one of them is made.

    Attributes:
        untested: The tests of each model that are still to come.
        outputs: What to tell of each model.
        failed: The models that did not pass a test, which are never told of.
    """

    untested: Mapping[str, set[str]]
    outputs: dict[str, "dg.Output[None]"] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def was_tested(self, model: str, test: str, *, failed: bool) -> None:
        """Takes note of how a test of a model ended."""
        self.untested[model].discard(test)
        if failed:
            self.failed.add(model)

    def passed(self) -> list[str]:
        """The models that can be told of now."""
        return list(takewhile(lambda model: not self.untested[model], self.not_failed()))

    def not_failed(self) -> list[str]:
        """The models that can be told of if no test follows."""
        return [model for model in self.outputs if model not in self.failed]


def _table_of(node: Mapping[str, Any]) -> tuple[str, str]:
    return node["schema"], node["alias"]


def _selected(context: "dg.AssetExecutionContext") -> set[str]:
    """What dbt calls the models and tests that are selected."""
    assets, checks = context.selected_asset_keys, context.selected_asset_check_keys
    metadata = [
        *(spec.metadata for spec in context.assets_def.specs if spec.key in assets),
        *(spec.metadata or {} for spec in context.assets_def.check_specs if spec.key in checks),
    ]
    return {str(each[_UNIQUE_ID]) for each in metadata}


def _selection(selected: Collection[str], manifest: Mapping[str, Any]) -> list[str]:
    """The arguments by which dbt makes and tests only what is selected; none where all is."""
    if selected == manifest["nodes"].keys():
        return []
    names = sorted(".".join(manifest["nodes"][unique_id]["fqn"]) for unique_id in selected)
    return ["--select", *names, "--indirect-selection", "empty"]


def _tests_of_models(
    nodes: Mapping[str, Mapping[str, Any]], selected: Collection[str]
) -> dict[str, set[str]]:
    """The tests that are selected, by the model that they are of."""
    tests: dict[str, set[str]] = defaultdict(set)
    for unique_id in selected:
        if model := nodes[unique_id].get("attached_node"):
            tests[model].add(unique_id)
    return tests


def _invocation(
    process: "subprocess.Popen[bytes]",
    manifest: Mapping[str, Any],
    translator: "DagsterDbtTranslator",
    context: "dg.AssetExecutionContext",
    target: Path,
) -> "DbtCliInvocation":
    """What makes Dagster's events of what a dbt prints."""
    from packaging.version import Version

    with absent("dbt.version"):
        from dagster_dbt import DbtCliInvocation

    return DbtCliInvocation(
        process=process,
        manifest=manifest,
        dagster_dbt_translator=translator,
        project_dir=PROJECT,
        target_path=target,
        raise_on_error=False,
        cli_version=Version(manifest["metadata"]["dbt_version"]),
        context=context,
    )


def _evaluation(
    context: "dg.AssetExecutionContext", result: "dg.AssetCheckResult"
) -> "Iterator[dg.Output[None] | dg.AssetCheckEvaluation]":
    """What Dagster makes of the result, but for looking up the materialization that it is of.

    It would find the one before this run's, and looks for it longer than for all else.
    """
    import dagster as dg

    asset_key, name = cast("dg.AssetKey", result.asset_key), cast("str", result.check_name)
    spec = context.assets_def.get_spec_for_check_key(dg.AssetCheckKey(asset_key, name))
    yield dg.Output(None, spec.get_python_identifier())
    yield dg.AssetCheckEvaluation(
        asset_key=asset_key,
        check_name=name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
        blocking=spec.blocking,
    )


def _with_row_counts(
    context: "dg.AssetExecutionContext",
    output: "dg.Output[None]",
    model: Mapping[str, Any],
    months: Sequence[str],
    rows: Mapping[str, int],
) -> "dg.Output[None]":
    """A model's output with the rows of its table, and of each month where it has months."""
    if model["config"]["materialized"] == "view":
        return output
    if model["config"].get("partition_by"):
        for month in months:
            context.add_asset_metadata(
                {"dagster/partition_row_count": rows.get(month.replace("-", ""), 0)},
                asset_key=context.asset_key_for_output(output.output_name),
                partition_key=month,
            )
    return output.with_metadata({**output.metadata, "dagster/row_count": sum(rows.values())})


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


def _problems(results: Path, told: Iterable[str]) -> list[str]:
    """What failed in a run, in dbt's own words, but for the tests that were told as checks."""
    try:
        nodes = json.loads(results.read_text())
    except (OSError, ValueError):
        return ["dbt broke off before it made anything: see the log of the run"]
    return [
        f"{_name(unique_id)}: {_sentence(message)}"
        for unique_id, status, message in nodes
        if status in ("error", "runtime error") or (status == "fail" and unique_id not in told)
    ]


def _require_service(code: int | None, problems: Sequence[str]) -> None:
    """Raises where it was the disk or ClickHouse that failed, for which trying again may help."""
    if code == dbt_main.DISK_FULL_CODE or any(
        sign in problem for problem in problems for sign in _DISK_FULL
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if any(sign in problem for problem in problems for sign in _NO_ANSWER):
        raise UnavailableError(
            "ClickHouse stopped answering while dbt ran: start it with `lakehouse up`, or"
            " check LAKEHOUSE_CLICKHOUSE_URL, and run again"
        )


def _summary(problems: Sequence[str]) -> str:
    more = len(problems) - _FAILURES_TOLD
    told = "; ".join(problem[:_PROBLEM_LENGTH] for problem in problems[:_FAILURES_TOLD])
    return told + (f" and {more} more" if more > 0 else "")


def _name(unique_id: str) -> str:
    kind, _, *parts = unique_id.split(".")
    return f"{kind} {parts[0]}"


def _sentence(message: str | None) -> str:
    lines = [line.strip() for line in (message or "it failed").splitlines()]
    return " ".join(line for line in lines if line)
