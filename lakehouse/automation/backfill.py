"""Backfills in this process: what is not up to date of these months, and of their years.

One bad month stops no other: it is a run of its own in Dagster's history, at least where a run of
several has failed. Runs share the process, since starting one costs seconds.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg

from lakehouse.automation.dataset import Dataset, Publisher, Runs, Stage
from lakehouse.automation.freshness import (
    DatasetState,
    dataset_state,
    held_back,
    needed,
    sources,
)
from lakehouse.history import CheckResult
from lakehouse.partitions import WHOLE, without_gaps
from lakehouse.processes import process_tags, report_killed_runs
from lakehouse.settings import Settings

BACKFILL_TAG = "lakehouse/backfill"
"""The tag of the runs that one backfill in a process made."""

TRIED_APART_TAG = "lakehouse/tried-apart"
"""The tag of a run that failed, and whose partitions are tried each by itself right after it."""

_SEVERAL = 36


@dataclass(frozen=True)
class Report:
    """What became of a partition, or of a range of them.

    Counts are of the stage's first table, in rows. Of a run that made several partitions, `seconds`
    is a partition's share. `published` is False where the publisher has nothing for it, so that
    there was nothing to run.
    """

    stage: str
    partition: str
    ok: bool
    ran: bool
    published: bool = True
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
    """A backfill of some months of a data set, and of what else they belong to."""

    def __init__(
        self,
        settings: Settings,
        instance: dg.DagsterInstance,
        definitions: dg.Definitions,
        dataset: Dataset,
        *,
        force: bool = False,
        service: str | None = None,
        selection: set[dg.AssetKey] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ):
        """Prepare a backfill.

        Args:
            settings: Where the sources are.
            instance: Where runs are recorded.
            definitions: All definitions.
            dataset: The data set.
            force: Materialize what is up to date as well.
            service: Only this one of the data set's services; all where not given.
            selection: Only these assets; all where not given.
            stopped: Asked between runs whether to make no more.
        """
        self._instance = instance
        self._job = definitions.resolve_implicit_global_asset_job_def()
        self._dataset = dataset
        self._publisher: Publisher = dataset.publisher(settings)
        self._force = force
        self._stages = dataset.chosen(service)
        self._selection = selection
        self._stopped = stopped
        # What fails of one backfill is told in one message.
        self._tags = {BACKFILL_TAG: str(uuid4())}

    def run(self, months: Sequence[str]) -> Iterator[Report]:
        """Materialize these months stage by stage; gives reports of each run, as it ends."""
        report_killed_runs(self._instance)
        for stage in self._stages:
            upstream = self._upstream(stage)
            assets = [*upstream, *stage.specs]
            partitions = stage.partitions(months)
            state = dataset_state(
                self._instance,
                assets,
                self._dataset.check_specs({asset.key for asset in assets}),
                {source for partition in partitions for source in sources(partition)},
                self._publisher.is_current,
            )
            for batch in self._batches(stage, state, upstream, partitions):
                if self._stopped():
                    return
                yield from self._bring_up_to_date(stage, state, batch)

    def _upstream(self, stage: Stage) -> list[dg.AssetSpec]:
        """The assets of earlier stages that a stage is made from."""
        deps = {dep.asset_key for asset in stage.specs for dep in asset.deps}
        deps -= {asset.key for asset in stage.specs}
        return [asset for asset in self._dataset.specs if asset.key in deps]

    def _batches(
        self,
        stage: Stage,
        state: DatasetState,
        upstream: Sequence[dg.AssetSpec],
        partitions: Sequence[str],
    ) -> list[list[str]]:
        """What each run makes: a partition, or a range without gaps.

        Left out is what there is nothing of upstream, such as a year without a month.
        """
        partitioned = [asset.key for asset in upstream if asset.partitions_def is not None]
        there = [
            partition
            for partition in partitions
            if not partitioned
            or any(s in state.made[key] for key in partitioned for s in sources(partition))
        ]
        if stage.runs is Runs.OF_ONE:
            return [[partition] for partition in there]
        needing = [partition for partition in there if self._keys(stage, state, [partition])]
        if stage.runs is Runs.OF_SEVERAL:
            makable = [p for p in needing if not self._publisher.lacks(stage.name, p)]
            several = [
                found[start : start + _SEVERAL]
                for found in without_gaps(makable)
                for start in range(0, len(found), _SEVERAL)
            ]
            return sorted([*several, *([p] for p in there if p not in makable)])
        if needing:
            there = [partition for partition in there if needing[0] <= partition <= needing[-1]]
        return without_gaps(there)

    def _keys(
        self, stage: Stage, state: DatasetState, partitions: Sequence[str]
    ) -> list[dg.AssetKey]:
        """The assets to make for these partitions, each behind what it is made from."""
        keys = {key for p in partitions for key in needed(stage.specs, state, p)}
        return [
            asset.key
            for asset in stage.specs
            if (self._force or asset.key in keys)
            and (self._selection is None or asset.key in self._selection)
        ]

    def _bring_up_to_date(
        self, stage: Stage, state: DatasetState, batch: list[str]
    ) -> Iterator[Report]:
        first, last = batch[0], batch[-1]
        name = first if first == last else f"{first} to {last}"
        keys = self._keys(stage, state, batch)
        held: dict[dg.AssetKey, list[CheckResult]] = {}
        for partition in batch:
            held |= held_back(stage.specs, state, partition, keys)
        withheld = [
            f"{key.to_user_string()} is not made from what failed a check: {check.sentence}"
            for key, checks in held.items()
            for check in checks
        ]
        keys = [key for key in keys if key not in held]
        if not keys:
            yield Report(stage.name, name, ok=not withheld, ran=False, errors=withheld)
            return
        if first == last and (reason := self._publisher.lacks(stage.name, first)):
            yield Report(stage.name, name, ok=False, ran=False, published=False, errors=[reason])
            return
        result, seconds = self._execute(keys, first, last)
        if stage.runs is not Runs.OF_SEVERAL or first == last:
            report = _report(result, stage.name, name, seconds)
            errors = [*report.errors, *withheld]
            yield replace(report, ok=report.ok and not withheld, errors=errors)
        elif result.success:
            for partition in batch:
                yield _report(result, stage.name, partition, seconds / len(batch), partition)
        elif not self._stopped():
            self._instance.add_run_tags(result.run_id, {TRIED_APART_TAG: "true"})
            for partition in batch:
                if self._stopped():
                    return
                yield from self._bring_up_to_date(stage, state, [partition])

    def _execute(
        self, keys: Sequence[dg.AssetKey], first: str, last: str
    ) -> tuple[dg.ExecuteInProcessResult, float]:
        """What came of a run that makes these partitions, and the seconds that it took."""
        run_id = str(uuid4())
        started = time.monotonic()
        # dbt prints as it goes, and a program may read what this prints.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            result = self._job.execute_in_process(
                partition_key=first if first == last and first != WHOLE else None,
                instance=self._instance,
                asset_selection=keys,
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                run_id=run_id,
                tags=self._tags
                | process_tags(run_id)
                | (_range_tags(first, last) if first != last else {}),
            )
        return result, time.monotonic() - started


def _range_tags(first: str, last: str) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


def _report(
    result: dg.ExecuteInProcessResult,
    stage: str,
    name: str,
    seconds: float,
    partition: str | None = None,
) -> Report:
    """The report of a run, or of one of its partitions."""
    metadata: dict[str, Any] = {}
    for event in result.get_asset_materialization_events():
        if partition in (None, event.materialization.partition):
            for label, value in event.materialization.metadata.items():
                metadata.setdefault(label, value.value)
    evaluations = [
        e for e in result.get_asset_check_evaluations() if partition in (None, e.partition)
    ]
    failed = [e for e in evaluations if not e.passed]
    stops = [e for e in failed if e.severity is dg.AssetCheckSeverity.ERROR]
    return Report(
        stage=stage,
        partition=name,
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
