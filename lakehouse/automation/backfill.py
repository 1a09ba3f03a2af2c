"""Backfills in this process: what is not up to date of these months, and of their years.

Every month is a run of its own in Dagster's history, so that one bad month stops no other; runs
share the process, since starting one costs seconds.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import dagster as dg

from lakehouse.automation.datasets import Dataset
from lakehouse.automation.freshness import DatasetState, dataset_state, held_back, needed
from lakehouse.partitions import months_of
from lakehouse.processes import process_tags, report_killed_runs
from lakehouse.settings import Settings


@dataclass(frozen=True)
class Report:
    """What became of one partition; counts are of the data set's first table, in rows."""

    partition: str
    ok: bool
    ran: bool
    seconds: float = 0.0
    run_id: str | None = None
    rows_in: int | None = None
    rows_written: int | None = None
    rows_rejected: int | None = None
    rows_dropped: int | None = None
    checks_passed: int = 0
    checks_failed: int = 0
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Backfill:
    """A backfill of some months of a data set, and of the years that they belong to."""

    def __init__(
        self,
        settings: Settings,
        instance: dg.DagsterInstance,
        definitions: dg.Definitions,
        dataset: Dataset,
        *,
        force: bool = False,
        selection: set[dg.AssetKey] | None = None,
    ):
        """Prepare a backfill.

        Args:
            settings: Where the sources are.
            instance: Where runs are recorded.
            definitions: All definitions.
            dataset: The data set.
            force: Materialize what is up to date as well.
            selection: Only these assets; all where not given.
        """
        self._settings = settings
        self._instance = instance
        self._job = definitions.resolve_implicit_global_asset_job_def()
        self._dataset = dataset
        self._force = force
        self._selection = selection

    def run(self, months: Sequence[str]) -> Iterator[Report]:
        """Materialize the months, then those of their years that there is a month of.

        Gives a report for each, as it ends.
        """
        report_killed_runs(self._instance)
        dataset, instance = self._dataset, self._instance
        is_current = dataset.source_is_current(self._settings)
        state = dataset_state(instance, dataset.assets, dataset.check_keys, months, is_current)
        for month in months:
            yield self._bring_up_to_date(dataset.monthly, state, month)
        years = sorted({month[:4] for month in months})
        of_years = [month for year in years for month in months_of(year)]
        state = dataset_state(instance, dataset.assets, dataset.check_keys, [*years, *of_years])
        for year in years:
            if any(month.startswith(year) for month in self._months_for_years(state)):
                yield self._bring_up_to_date(dataset.yearly, state, year)

    def _months_for_years(self, state: DatasetState) -> set[str]:
        """The months that there are of what years are made from."""
        upstream = {dep.asset_key for a in self._dataset.yearly for dep in a.get_asset_spec().deps}
        monthly = upstream & {asset.key for asset in self._dataset.monthly}
        return {month for key in monthly for month in state.made[key]}

    def _bring_up_to_date(
        self, assets: Sequence[dg.AssetsDefinition], state: DatasetState, partition: str
    ) -> Report:
        keys = [a.key for a in assets] if self._force else needed(assets, state, partition)
        if self._selection is not None:
            keys = [key for key in keys if key in self._selection]
        held = held_back(assets, state, partition, keys)
        withheld = [
            f"{key.to_user_string()} is not made from what failed a check: {check.sentence}"
            for key, checks in held.items()
            for check in checks
        ]
        keys = [key for key in keys if key not in held]
        if not keys:
            return Report(partition, ok=not withheld, ran=False, errors=withheld)
        run_id = str(uuid4())
        started = time.monotonic()
        result = self._job.execute_in_process(
            partition_key=partition,
            instance=self._instance,
            asset_selection=keys,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            run_id=run_id,
            tags=process_tags(run_id),
        )
        report = _report(result, partition, time.monotonic() - started)
        return replace(report, ok=report.ok and not withheld, errors=[*report.errors, *withheld])


def _report(result: dg.ExecuteInProcessResult, partition: str, seconds: float) -> Report:
    metadata: dict[str, Any] = {}
    for event in result.get_asset_materialization_events():
        for name, value in event.materialization.metadata.items():
            metadata.setdefault(name, value.value)
    evaluations = result.get_asset_check_evaluations()
    failed = [e for e in evaluations if not e.passed]
    stops = [e for e in failed if e.severity is dg.AssetCheckSeverity.ERROR]
    return Report(
        partition=partition,
        ok=result.success,
        ran=True,
        seconds=seconds,
        run_id=result.run_id,
        rows_in=metadata.get("rows_in"),
        rows_written=metadata.get("rows_written"),
        rows_rejected=metadata.get("rows_rejected"),
        rows_dropped=metadata.get("rows_dropped_as_duplicates"),
        checks_passed=len(evaluations) - len(failed),
        checks_failed=len(failed),
        warnings=[_sentence(e) for e in failed if e not in stops],
        errors=[_sentence(e) for e in stops] + _step_errors(result),
    )


def _sentence(evaluation: dg.AssetCheckEvaluation) -> str:
    return (
        f"{evaluation.asset_key.to_user_string()} {evaluation.check_name}: {evaluation.description}"
    )


def _step_errors(result: dg.ExecuteInProcessResult) -> list[str]:
    """What failed besides checks: our own sentence where there is one."""
    sentences = []
    for event in result.all_events:
        if event.event_type is not dg.DagsterEventType.STEP_FAILURE:
            continue
        failure = event.step_failure_data
        if failure.error and failure.error.cls_name == "DagsterAssetCheckFailedError":
            continue
        step = str(event.step_key).replace("__", "/")
        if failure.user_failure_data and failure.user_failure_data.description:
            sentences.append(f"{step}: {failure.user_failure_data.description}")
        else:
            cause = failure.error
            while cause and cause.cause:
                cause = cause.cause
            sentences.append(f"{step}: {cause.message.strip() if cause else 'it broke off'}")
    return sentences
