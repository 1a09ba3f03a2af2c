"""The sensor that writes a report of each month that a run was about, however the run was started.

It reads the event log, as the alerts do, and from its beginning: runs of `lakehouse backfill` may
be over before there is a daemon.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
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
from lakehouse.history import failing_checks, latest_materializations
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

_RUNS_A_TICK = 50
_SECONDS_A_TICK = 20
"""No report is begun later: Dagster ends a tick after 60 s."""
_MONTHS_BACK = 12
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
        for event_id, event, months in _finished_runs(context.instance, cursor.position, known):
            for name, month in months[cursor.months :]:
                if time.monotonic() > deadline:
                    return _result(cursor, observations)
                try:
                    observations.append(_write(context, lake, settings, known[name], month, event))
                except Exception:
                    # A report is for reading; nothing waits for it.
                    context.log.exception(f"There is no report of {name} {month}.")
                cursor.months += 1
            cursor = _Cursor(position=event_id)
        return _result(cursor, observations)

    return reports


def _result(cursor: _Cursor, observations: Sequence[dg.AssetObservation]) -> dg.SensorResult:
    return dg.SensorResult(
        skip_reason=f"{len(observations)} reports were written.",
        cursor=cursor.model_dump_json(),
        asset_events=list(observations),
    )


def _finished_runs(
    instance: dg.DagsterInstance, position: int, datasets: Mapping[str, Dataset]
) -> Iterator[tuple[int, dg.EventLogEntry, list[tuple[str, str]]]]:
    """The next runs that are over, each with the data sets and months that it was about."""
    types = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE)
    for event_id, event in events_after(instance, position, types, _RUNS_A_TICK):
        planned = instance.get_asset_partitions_for_run(
            event.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        )
        months = {
            (key.path[0], partition)
            for key, partitions in planned.items()
            if key.path[0] in datasets
            for partition in partitions
            if partition and len(partition) == _MONTH_LENGTH
        }
        yield event_id, event, sorted(months)


def _write(
    context: dg.SensorEvaluationContext,
    lake: Lake,
    settings: Settings,
    dataset: Dataset,
    month: str,
    event: dg.EventLogEntry,
) -> dg.AssetObservation:
    """Write the report of a month; gives what points to it in the UI."""
    reader = _Reader(context.instance, lake, settings.dagster_url.rstrip("/"))
    report = reader.report(dataset, month, event)
    path = settings.state / "reports" / dataset.name / f"{month}.html"
    _put(path, page(report))
    context.instance.add_run_tags(event.run_id, {REPORT_TAG: f"{dataset.name}/{path.name}"})
    said = [sentence for section in report.sections for sentence in changes(section)]
    return dg.AssetObservation(
        asset_key=_first_table(dataset, month).key,
        partition=month,
        description=" ".join(said) or f"The run made nothing of {month}.",
        metadata={
            "report": dg.MetadataValue.path(path),
            "run": dg.MetadataValue.dagster_run(event.run_id),
        },
    )


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _first_table(dataset: Dataset, month: str) -> dg.AssetSpec:
    """The first asset of a month that is made from another one.

    Observing one that is not would say that it was published again (see freshness.py).
    """
    return next(
        spec
        for stage in dataset.stages
        if month in stage.months
        for spec in stage.specs
        if spec.deps
    )


class _Reader:
    """Gathers what a report says from the event log and the rejects."""

    def __init__(self, instance: dg.DagsterInstance, lake: Lake, url: str) -> None:
        self._instance = instance
        self._lake = lake
        self._url = url

    def report(self, dataset: Dataset, month: str, event: dg.EventLogEntry) -> MonthReport:
        sections = [
            self._section(dataset, stage, month)
            for stage in dataset.stages
            if month in stage.months
        ]
        return MonthReport(
            dataset=dataset.name,
            month=month,
            run=Run(
                link=self._run_link(event.run_id),
                succeeded=event.dagster_event_type is dg.DagsterEventType.RUN_SUCCESS,
                ended=event.timestamp,
                errors=[
                    f"{asset_of_step(failure.step_key or '')}: {failure_sentence(failure)}"
                    for failure in step_failures(self._instance, event.run_id)
                ],
            ),
            sections=[
                section
                for section in sections
                if section.findings or any(table.made for table in section.tables)
            ],
        )

    def _section(self, dataset: Dataset, stage: Stage, month: str) -> Section:
        tables = [self._table(spec, month) for spec in stage.specs]
        main = next((table for table in tables if table.now.rows_in is not None), None)
        passed, findings = self._checks(dataset, stage, month)
        return Section(
            name=stage.name or " → ".join(dict.fromkeys(spec.key.path[1] for spec in stage.specs)),
            tables=tables,
            main=main,
            rejects=self._rejects(stage, month),
            checks_passed=passed,
            findings=findings,
            charts=self._charts(dg.AssetKey(main.asset.name.split("/")), month) if main else [],
        )

    def _table(self, spec: dg.AssetSpec, month: str) -> Table:
        records = self._instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=spec.key, asset_partitions=[month]), limit=2
        ).records
        asset = Link(spec.key.to_user_string(), self._asset_url(spec.key, f"partition={month}"))
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

    def _charts(self, key: dg.AssetKey, month: str) -> list[Chart]:
        months = [month]
        while len(months) <= _MONTHS_BACK:
            months.insert(0, month_before(months[0]))
        made = latest_materializations(self._instance, key, months)
        charts = []
        for title, name in (("Rows written", "rows_written"), ("Rows rejected", "rows_rejected")):
            values = {m: made[m].metadata.get(name) for m in made}
            if any(values.values()):
                charts.append(Chart(title, [Bar(m, values.get(m)) for m in months]))
        return charts

    def _checks(self, dataset: Dataset, stage: Stage, month: str) -> tuple[int, list[Finding]]:
        """How many checks pass on the month or the whole table, and those that do not."""
        specs = dataset.check_specs({spec.key for spec in stage.specs})
        passed = 0
        findings = []
        for partitions in ([month], None):
            keys = [
                spec.key for spec in specs if (spec.partitions_def is None) is (partitions is None)
            ]
            infos = self._instance.event_log_storage.get_asset_check_partition_info(
                keys, partition_keys=partitions
            )
            states = {
                info.check_key: info.latest_execution_status.value
                for info in infos
                # Of a check of the whole table, what was planned stands at the run's partitions.
                if (info.partition_key is None) is (partitions is None)
            }
            passed += sum(state == "SUCCEEDED" for state in states.values())
            failing = [key for key, state in states.items() if state == "FAILED"]
            findings += [
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
                for found in failing_checks(self._instance, failing, partitions)
            ]
        return passed, sorted(findings, key=lambda finding: not finding.stops)

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

    def count(name: str) -> int | None:
        found = metadata.get(name)
        return int(str(found.value)) if found is not None else None

    return Counts(
        rows_in=count("rows_in"),
        written=count("rows_written"),
        rejected=count("rows_rejected"),
        dropped=count("rows_dropped_as_duplicates"),
    )
