"""Reports of each month that a run was about, however the run was started.

A command writes them at its end, for all other runs the sensor does. It reads the event log, as the
alerts do, and from its beginning: a command may have been killed before it wrote.
"""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import dagster as dg
from pydantic import BaseModel

from lakehouse.automation.dataset import Dataset, Stage
from lakehouse.automation.events import (
    asset_of_step,
    events_after,
    failure_sentence,
    step_failures,
)
from lakehouse.history import (
    CHECK_PASSED,
    CheckResult,
    CheckStatuses,
    Materialization,
    check_statuses,
    failing_checks,
    latest_materializations,
)
from lakehouse.partitions import month_before
from lakehouse.reports.month import (
    Bar,
    Chart,
    Counts,
    Finding,
    Link,
    MonthReport,
    Run,
    Section,
    Table,
)
from lakehouse.reports.page import changes, page
from lakehouse.resources.lake import Lake
from lakehouse.settings import Settings

REPORT_TAG = "lakehouse/report"

_LOG = logging.getLogger(__name__)
_RUNS_A_TICK = 50
_SECONDS_A_TICK = 20
"""No report is begun later: Dagster ends a tick after 60 s."""
_MONTHS_BACK = 12
_FIGURES = {
    "Rows written": "rows_written",
    "Rows rejected": "rows_rejected",
    "Sales less returns, in pounds": "total_amount",
}
"""What is shown of the months before, as assets tell of it in their metadata."""
_REASONS = 10
_MONTH_LENGTH = len("2018-01")


class _Cursor(BaseModel):
    """The last run that all is written of, and how many months of the next one are."""

    position: int = 0
    months: int = 0


def build_reports(datasets: Sequence[Dataset], settings: Settings) -> dg.SensorDefinition:
    """The sensor `reports`; it needs the resource `lake`.

    A report is `<home>/reports/<data set>/<month>.html`, written whole or not at all. It stands in
    an observation of the month's first table, and in a tag of the run.

    Args:
        datasets: What reports are written of.
        settings: Where the home is, and Dagster's UI.
    """
    known = {dataset.name: dataset for dataset in datasets}

    @dg.sensor(
        name="reports",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Writes a report of each month that a run was about.",
    )
    def reports(
        context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]
    ) -> dg.SensorResult:
        deadline = time.monotonic() + _SECONDS_A_TICK
        cursor = _Cursor.model_validate_json(context.cursor or "{}")
        observations: list[dg.AssetObservation] = []
        types = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE)
        for event_id, event in events_after(context.instance, cursor.position, types, _RUNS_A_TICK):
            run = context.instance.get_run_record_by_id(event.run_id)
            # The command has written of its runs itself.
            if run is None or (REPORT_TAG in run.dagster_run.tags and not cursor.months):
                cursor = _Cursor(position=event_id)
                continue
            months = _months(context.instance, event.run_id, known)
            reader = _Reader(context.instance, lake, settings, [month for _, month in months])
            for name, month in months[cursor.months :]:
                if time.monotonic() > deadline:
                    return _result(cursor, observations)
                try:
                    observations.append(reader.write(known[name], month, run))
                except Exception:
                    # A report is for reading; nothing waits for it.
                    context.log.exception(f"There is no report of {name} {month}.")
                cursor.months += 1
            _tag(context.instance, event.run_id, months)
            cursor = _Cursor(position=event_id)
        return _result(cursor, observations)

    return reports


def write_reports(
    settings: Settings, instance: dg.DagsterInstance, dataset: Dataset, run_ids: Sequence[str]
) -> None:
    """Write what the sensor would write of these runs: of each month once, after its last run.

    What goes wrong is logged and never raised: a report is for reading, nothing waits for it.
    """
    known = {dataset.name: dataset}
    of_runs = {run_id: _months(instance, run_id, known) for run_id in run_ids}
    last = {month: run_id for run_id, months in of_runs.items() for _, month in months}
    reader = _Reader(instance, Lake(settings), settings, list(last))
    for month, run_id in sorted(last.items()):
        run = instance.get_run_record_by_id(run_id)
        if run is None or REPORT_TAG in run.dagster_run.tags:
            continue
        try:
            instance.report_runless_asset_event(reader.write(dataset, month, run))
        except Exception as error:
            _LOG.warning("There is no report of %s %s (%s).", dataset.name, month, error)
    for run_id, months in of_runs.items():
        _tag(instance, run_id, months)


def _result(cursor: _Cursor, observations: Sequence[dg.AssetObservation]) -> dg.SensorResult:
    return dg.SensorResult(
        skip_reason=f"{len(observations)} reports were written.",
        cursor=cursor.model_dump_json(),
        asset_events=list(observations),
    )


def _months(
    instance: dg.DagsterInstance, run_id: str, datasets: Mapping[str, Dataset]
) -> list[tuple[str, str]]:
    """The data sets and months that a run was about."""
    planned = instance.get_asset_partitions_for_run(
        run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    months = {
        (key.path[0], partition)
        for key, partitions in planned.items()
        if key.path[0] in datasets
        for partition in partitions
        if partition and len(partition) == _MONTH_LENGTH
    }
    return sorted(months)


def _tag(instance: dg.DagsterInstance, run_id: str, months: Sequence[tuple[str, str]]) -> None:
    """Point from a run to its report, or where it was about several months to their folder."""
    if not months:
        return
    [name, month], *others = months
    folders = ", ".join(f"{each}/" for each in sorted({each for each, _ in months}))
    instance.add_run_tags(run_id, {REPORT_TAG: folders if others else f"{name}/{month}.html"})


def _until(month: str) -> list[str]:
    """The months of a chart, of which this is the last."""
    months = [month]
    while len(months) <= _MONTHS_BACK:
        months.insert(0, month_before(months[0]))
    return months


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A command and the daemon may write of the same month.
    draft = path.with_suffix(f".{os.getpid()}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _first_table(dataset: Dataset, month: str) -> dg.AssetSpec:
    """The first asset of a month that is made from another one.

    Observing one that is not would say that it was published again (see freshness.py).
    """
    return next(
        spec for stage in dataset.stages if stage.has(month) for spec in stage.specs if spec.deps
    )


class _Reader:
    """Gathers what a report says from the event log and the rejects, and writes it.

    What the log has of a year's months is asked for at once, and kept until another year's is.
    """

    def __init__(
        self, instance: dg.DagsterInstance, lake: Lake, settings: Settings, months: Sequence[str]
    ) -> None:
        """Prepare to write.

        Args:
            instance: Whose event log it is.
            lake: Where the rejects are.
            settings: Where the home is, and Dagster's UI.
            months: All months that are to be written of, best in their order.
        """
        self._instance = instance
        self._lake = lake
        self._folder = settings.state / "reports"
        self._url = settings.dagster_url.rstrip("/")
        self._months = months
        self._year = ""
        self._records: dict[dg.AssetKey, dict[str, list[dg.EventLogRecord]]] = {}
        self._made: dict[dg.AssetKey, dict[str, Materialization]] = {}
        self._statuses: dict[tuple[dg.AssetCheckKey, ...], CheckStatuses] = {}
        self._of_all: dict[tuple[dg.AssetCheckKey, ...], tuple[int, list[CheckResult]]] = {}

    def _months_beside(self, month: str) -> list[str]:
        """The months to be written of that are of the same year; forgets what is of another."""
        if self._year != month[:4]:
            self._year = month[:4]
            self._records.clear()
            self._made.clear()
            self._statuses.clear()
        return [each for each in self._months if each[:4] == self._year]

    def write(self, dataset: Dataset, month: str, run: dg.RunRecord) -> dg.AssetObservation:
        """Write the report of a month; gives what points to it in the UI."""
        path = self._folder / dataset.name / f"{month}.html"
        report = self._report(dataset, month, run)
        _put(path, page(report))
        said = [sentence for section in report.sections for sentence in changes(section)]
        return dg.AssetObservation(
            asset_key=_first_table(dataset, month).key,
            partition=month,
            description=" ".join(said) or f"The run made nothing of {month}.",
            metadata={
                "report": dg.MetadataValue.path(path),
                "run": dg.MetadataValue.dagster_run(run.dagster_run.run_id),
            },
        )

    def _report(self, dataset: Dataset, month: str, record: dg.RunRecord) -> MonthReport:
        run = record.dagster_run
        stages = [stage for stage in dataset.stages if stage.has(month)]
        tables = [[self._table(spec, month) for spec in stage.specs] for stage in stages]
        return MonthReport(
            dataset=dataset.name,
            month=month,
            run=Run(
                link=self._run_link(run.run_id),
                succeeded=run.is_success,
                ended=record.end_time or record.update_timestamp.timestamp(),
                errors=[
                    f"{asset_of_step(failure.step_key or '')}: {failure_sentence(failure)}"
                    for failure in step_failures(self._instance, run.run_id)
                ],
            ),
            sections=[
                self._section(dataset, stage, found, month)
                for stage, found in zip(stages, tables, strict=True)
                if any(table.made for table in found)
            ],
        )

    def _section(
        self, dataset: Dataset, stage: Stage, tables: Sequence[Table], month: str
    ) -> Section:
        main = next((table for table in tables if table.now.rows_in is not None), None)
        passed, findings = self._checks(dataset, stage, month)
        return Section(
            name=stage.name or " → ".join(dict.fromkeys(spec.key.path[1] for spec in stage.specs)),
            tables=tables,
            main=main,
            rejects=self._rejects(stage, month),
            checks_passed=passed,
            findings=findings,
            charts=self._charts(stage, main, month),
        )

    def _table(self, spec: dg.AssetSpec, month: str) -> Table:
        asset = Link(spec.key.to_user_string(), self._asset_url(spec.key, f"partition={month}"))
        if spec.key not in self._known:
            return Table(asset)
        records = self._latest_two(spec.key, month)
        if not records:
            return Table(asset)
        now, *before = [_counts(record) for record in records]
        return Table(
            asset,
            run=self._run_link(records[0].run_id),
            made=records[0].timestamp,
            now=now,
            before=before[0] if before else None,
        )

    def _latest_two(self, key: dg.AssetKey, month: str) -> list[dg.EventLogRecord]:
        """The latest materialization of a month, and the one before."""
        months = self._months_beside(month)
        if key not in self._records:
            found: dict[str, list[dg.EventLogRecord]] = defaultdict(list)
            records = self._materializations(key, months)
            for record in records:
                found[str(record.partition_key)].append(record)
            if len(records) == 2 * len(months):  # there may be more, and of another month fewer
                found |= {m: self._materializations(key, [m]) for m in months if len(found[m]) < 2}
            self._records[key] = found
        return self._records[key][month][:2]

    def _materializations(self, key: dg.AssetKey, months: Sequence[str]) -> list[dg.EventLogRecord]:
        of_months = dg.AssetRecordsFilter(asset_key=key, asset_partitions=months)
        found = self._instance.fetch_materializations(of_months, limit=2 * len(months))
        return list(found.records)

    @cached_property
    def _known(self) -> set[dg.AssetKey]:
        """The assets that were ever made or tried: of the others nothing has to be asked."""
        return set(self._instance.get_asset_keys())

    def _charts(self, stage: Stage, main: Table | None, month: str) -> list[Chart]:
        if stage.charted:
            told = [
                (key, f"Rows of {key.path[-1]}", "dagster/partition_row_count")
                for key in stage.charted
            ]
        elif main:
            key = dg.AssetKey(main.asset.name.split("/"))
            told = [(key, title, name) for title, name in _FIGURES.items()]
        else:
            return []
        months = _until(month)
        charts = []
        for key, title, name in told:
            made = self._made_until(key, month)
            values = {
                m: int(float(made[m].metadata[name]))
                for m in months
                if m in made and made[m].metadata.get(name) is not None
            }
            if any(values.values()):
                charts.append(Chart(title, [Bar(m, values.get(m)) for m in months]))
        return charts

    def _made_until(self, key: dg.AssetKey, month: str) -> dict[str, Materialization]:
        """The latest materializations of the months that the month's chart shows, and of others."""
        if key not in self._made:
            charted = {m for beside in self._months_beside(month) for m in _until(beside)}
            self._made[key] = latest_materializations(self._instance, key, charted)
        return self._made[key]

    def _checks(self, dataset: Dataset, stage: Stage, month: str) -> tuple[int, list[Finding]]:
        """How many checks pass on the month or the whole table, and those that do not."""
        specs = dataset.check_specs({spec.key for spec in stage.specs})
        by_month = [spec for spec in specs if spec.partitions_def is not None]
        whole = [spec for spec in specs if spec.partitions_def is None]
        results = (self._results(by_month, month), self._results_of_all(whole))
        findings = [
            Finding(
                Link(
                    f"{found.asset_key.to_user_string()} {found.name}",
                    self._asset_url(
                        found.asset_key, f"view=checks&checkDetail={quote(found.name)}"
                    ),
                ),
                found.stops,
                found.sentence,
            )
            for _, failing in results
            for found in failing
        ]
        passed = sum(count for count, _ in results)
        return passed, sorted(findings, key=lambda finding: not finding.stops)

    def _results(
        self, checks: Sequence[dg.AssetCheckSpec], month: str
    ) -> tuple[int, list[CheckResult]]:
        """How many of these checks pass on a month, and those that fail."""
        months = self._months_beside(month)
        keys = tuple(check.key for check in checks)
        if keys not in self._statuses:
            self._statuses[keys] = check_statuses(self._instance, checks, months)
        of_month = {found: s for found, s in self._statuses[keys].items() if found[1] == month}
        return self._passed_and_failing(of_month)

    def _results_of_all(self, checks: Sequence[dg.AssetCheckSpec]) -> tuple[int, list[CheckResult]]:
        """The same of checks of whole tables, which say the same of every month."""
        keys = tuple(check.key for check in checks)
        if keys not in self._of_all:
            statuses = check_statuses(self._instance, checks)
            self._of_all[keys] = self._passed_and_failing(statuses)
        return self._of_all[keys]

    def _passed_and_failing(self, statuses: CheckStatuses) -> tuple[int, list[CheckResult]]:
        passed = sum(status == CHECK_PASSED for status in statuses.values())
        return passed, failing_checks(self._instance, statuses)

    def _rejects(self, stage: Stage, month: str) -> list[tuple[str, int]] | None:
        if stage.rejects is None:
            return []
        try:
            counts = (
                self._lake.scan(stage.rejects, month)
                .group_by("reason")
                .len()
                .sort(["len", "reason"], descending=[True, False])
                .collect(engine="streaming")
            )
        except Exception:
            return None
        told = [(str(reason), count) for reason, count in counts.head(_REASONS).iter_rows()]
        others = counts.slice(_REASONS)
        if others.height:
            told.append((f"{others.height:,} other reasons", int(others["len"].sum())))
        return told

    def _asset_url(self, key: dg.AssetKey, query: str) -> str:
        return f"{self._url}/assets/{'/'.join(quote(part, safe='') for part in key.path)}?{query}"

    def _run_link(self, run_id: str) -> Link:
        return Link(run_id[:8], f"{self._url}/runs/{run_id}")


def _counts(record: dg.EventLogRecord) -> Counts:
    materialization = record.asset_materialization
    metadata = materialization.metadata if materialization else {}

    def count(*names: str) -> int | None:
        found = next((metadata[name] for name in names if name in metadata), None)
        return int(str(found.value)) if found is not None else None

    return Counts(
        rows_in=count("rows_in"),
        written=count("rows_written", "dagster/partition_row_count"),
        rejected=count("rows_rejected"),
        dropped=count("rows_dropped_as_duplicates"),
        whole=count("dagster/row_count"),
    )
