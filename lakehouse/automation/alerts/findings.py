"""What the event log says of failures, and of what is well again."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import dagster as dg
from pydantic import BaseModel

from lakehouse.automation.backfill import BACKFILL_TAG, TRIED_APART_TAG
from lakehouse.automation.events import (
    all_step_failures,
    asset_of_step,
    check_sentence,
    failure_sentence,
    partition_of,
    step_failures,
)

TYPES = (
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.STEP_SUCCESS,
)
"""The events that findings are made of."""

BACKFILL_TAGS = ("dagster/backfill", BACKFILL_TAG)

_TRIED_AGAIN_TAGS = ("dagster/will_retry", TRIED_APART_TAG)

LINE_LENGTH = 300
_DETAILS = 10


def subject(what: str, check: str = "") -> str:
    """The name of something that can fail: a check of an asset, or a step."""
    return f"{what}|{check}"


class Finding(BaseModel):
    """Something failed, or is well.

    Attributes:
        what: The asset or the step.
        check: The check of the asset; empty where it is the step itself.
        scope: What it was evaluated on: a partition, a range as `first to last`; empty for all.
        partition: The partition of the run, where the scope is empty.
        run_id: Empty for what was reported from outside.
        group: What it is told with: the backfill, or the job.
    """

    what: str
    check: str = ""
    scope: str = ""
    partition: str = ""
    run_id: str = ""
    job: str = ""
    group: str = ""

    @property
    def subject(self) -> str:
        """What failed, wherever it was evaluated."""
        return subject(self.what, self.check)

    @property
    def where(self) -> str:
        """The partition to name to people; empty where there is none."""
        return self.scope or self.partition


class Failure(Finding):
    """A failed check, or a failed step."""

    severity: Literal["ERROR", "WARN"] = "ERROR"
    blocking: bool = False
    sentence: str = ""
    details: list[str] = []


class Well(Finding):
    """A check that passed, or a step that succeeded."""


class Reader:
    """Makes findings of events; it looks a run up once."""

    def __init__(self, instance: dg.DagsterInstance, concerns: Callable[[str], bool]) -> None:
        """Prepare to read.

        Args:
            instance: Whose events they are.
            concerns: Whether it matters to anybody that a subject is well.
        """
        self._instance = instance
        self._concerns = concerns
        self._runs: dict[str, dg.DagsterRun | None] = {}

    def findings(self, event: dg.EventLogEntry) -> Iterator[Failure | Well]:
        """What an event says; nothing where it says nothing new."""
        if event.dagster_event_type is dg.DagsterEventType.RUN_FAILURE:
            yield from self._of_failed_run(event)
        elif event.dagster_event_type is dg.DagsterEventType.STEP_SUCCESS:
            what = asset_of_step(event.step_key or "")
            if self._concerns(subject(what)):
                run = self._run(event.run_id)
                yield Well(what=what, scope=partition_of(run), **_origin(run))
        else:
            yield from self._of_check(event)

    def unreadable(self, event: dg.EventLogEntry) -> Failure:
        """What stands for a failure whose details cannot be told."""
        return Failure(
            what=event.job_name or "an asset",
            scope=event.run_id,
            run_id=event.run_id,
            job=event.job_name or "",
            group=f"job={event.job_name}",
            sentence="Its details cannot be told: see Dagster.",
        )

    def _run(self, run_id: str) -> dg.DagsterRun | None:
        if run_id not in self._runs:
            self._runs[run_id] = self._instance.get_run_by_id(run_id)
        return self._runs[run_id]

    def _of_check(self, event: dg.EventLogEntry) -> Iterator[Failure | Well]:
        evaluation = event.get_dagster_event().asset_check_evaluation_data
        what = evaluation.asset_key.to_user_string()
        if evaluation.passed and not self._concerns(subject(what, evaluation.check_name)):
            return
        run = self._run(event.run_id)
        finding = {
            "what": what,
            "check": evaluation.check_name,
            # dbt's tests look at the whole table, whatever months the run is of.
            "scope": evaluation.partition or "",
            "partition": partition_of(run),
        } | _origin(run)
        if evaluation.passed:
            yield Well(**finding)
        else:
            yield Failure(
                **finding,
                severity=evaluation.severity.value,
                blocking=bool(evaluation.blocking),
                sentence=check_sentence(evaluation)[: _DETAILS * LINE_LENGTH],
                details=capped(_readable(evaluation.metadata), _DETAILS),
            )

    def _of_failed_run(self, event: dg.EventLogEntry) -> Iterator[Failure]:
        run = self._run(event.run_id)
        # Of what is tried again, the last attempt is told.
        if run is None or "true" in (run.tags.get(tag) for tag in _TRIED_AGAIN_TAGS):
            return
        failures = step_failures(self._instance, run.run_id)
        for failure in failures:
            yield Failure(
                what=asset_of_step(failure.step_key or ""),
                scope=partition_of(run),
                sentence=_first_line(failure_sentence(failure)),
                **_origin(run),
            )
        # A failed check has said it itself.
        if not failures and not all_step_failures(self._instance, run.run_id):
            failed = event.get_dagster_event()
            data = failed.job_failure_data
            # A run that could not start brings its error; one that was killed only a message.
            told = data.error.message if data and data.error else failed.message
            yield Failure(
                what=self._broke_off_at(run),
                scope=partition_of(run),
                sentence=_first_line(told or "The run failed before any of its steps."),
                **_origin(run),
            )

    def _broke_off_at(self, run: dg.DagsterRun) -> str:
        """The step that a run was at, or else the first asset that it did not make."""
        began, ended = (
            {event.step_key for event in self._instance.all_logs(run.run_id, of_type=event_type)}
            for event_type in (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS)
        )
        if began - ended:
            return asset_of_step(min(str(step) for step in began - ended))
        planned, made = (
            self._instance.get_asset_keys_for_run(run.run_id, event_type)
            for event_type in (
                dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
                dg.DagsterEventType.ASSET_MATERIALIZATION,
            )
        )
        left = planned - made
        return min(left).to_user_string() if left else run.job_name


def _origin(run: dg.DagsterRun | None) -> dict[str, str]:
    if run is None:
        return {"group": "outside"}
    return {"run_id": run.run_id, "job": run.job_name, "group": _group(run)}


def _group(run: dg.DagsterRun) -> str:
    """What the findings of a run are told with."""
    for tag in BACKFILL_TAGS:
        if tag in run.tags:
            return f"{tag}={run.tags[tag]}"
    return f"job={run.job_name}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:LINE_LENGTH]


def capped(texts: list[str], most: int) -> list[str]:
    """The first line of each text, as many and as long as one wants to read in a message."""
    lines = [_first_line(text) for text in texts]
    return [*lines[:most], f"… and {len(lines) - most} more"] if len(lines) > most else lines


def _readable(metadata: Mapping[str, dg.MetadataValue]) -> list[str]:
    """Numbers and short texts; tables and the like are for the UI."""
    return [
        f"{name}: {value.value}"
        for name, value in metadata.items()
        if isinstance(value.value, int | float | str) and len(str(value.value)) <= LINE_LENGTH
    ]
