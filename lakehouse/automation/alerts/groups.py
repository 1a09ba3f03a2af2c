"""What is told in one message, and when: a backfill when it is over, a job's runs when they are.

Of a backfill that goes on, what failed first is told before: its end may be hours away.
"""

from collections.abc import Sequence
from typing import TypeAlias

import dagster as dg

from lakehouse.automation.alerts.findings import BACKFILL_TAGS
from lakehouse.automation.alerts.memory import HeldFailure, HeldRecovery, Memory
from lakehouse.processes import process_is_gone

Held: TypeAlias = HeldFailure | HeldRecovery

_JOB_SECONDS = 60
"""The longest that a failure waits for others of its job."""
_WARNING_SECONDS = 60 * 60
"""The longest that warnings and recoveries wait for others; nobody has to act on them."""
_FIRST_SECONDS = 15 * 60
"""How long a backfill goes on until what has failed of it is told before its end."""
_BACKFILL_SECONDS = 24 * 60 * 60
"""The longest that all of a backfill waits for its end, which may never be seen."""
_BETWEEN_RUNS_SECONDS = 30
"""A backfill counts as over after this, where only its runs can tell whether it goes on."""

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_BACKFILL_UNDER_WAY = {"REQUESTED", "CANCELING", "FAILING"}


def due_groups(
    instance: dg.DagsterInstance, memory: Memory, now: float, caught_up: bool
) -> list[str]:
    """The groups whose findings are to be told now, in the order in which they began.

    Args:
        instance: Asked whether a group has runs under way.
        memory: What is held.
        now: The time.
        caught_up: Whether the event log was read to its end.
    """
    everything: list[Held] = [*memory.failures, *memory.recoveries]
    held: dict[str, list[Held]] = {}
    for each in everything:
        held.setdefault(each.finding.group, []).append(each)
    return [
        group
        for group, waiting in held.items()
        if memory.is_full
        or now - min(each.seen for each in waiting) >= _patience(group, waiting)
        or (caught_up and _is_over(instance, group, max(each.seen for each in waiting), now))
    ]


def begun_groups(memory: Memory, now: float) -> list[str]:
    """The backfills that go on, and of which an error waits for long while nothing was told."""
    told = {held.finding.group for held in memory.failures if held.told}
    waiting = {
        held.finding.group: None
        for held in memory.failures
        if held.finding.severity == "ERROR" and now - held.seen >= _FIRST_SECONDS
    }
    return [group for group in waiting if group.startswith(BACKFILL_TAGS) and group not in told]


def _patience(group: str, waiting: Sequence[Held]) -> float:
    if group.startswith(BACKFILL_TAGS):
        return _BACKFILL_SECONDS
    urgent = any(
        isinstance(each, HeldFailure) and each.finding.severity == "ERROR" for each in waiting
    )
    return _JOB_SECONDS if urgent else _WARNING_SECONDS


def _is_over(instance: dg.DagsterInstance, group: str, latest: float, now: float) -> bool:
    kind, _, name = group.partition("=")
    if kind == "outside":
        return True
    if kind == "job":
        runs = dg.RunsFilter(job_name=name, statuses=_UNFINISHED)
    elif _backfill_is_over(instance, kind, name, now - latest):
        runs = dg.RunsFilter(tags={kind: name}, statuses=_UNFINISHED)
    else:
        return False
    return not instance.get_runs(runs, limit=1)


def _backfill_is_over(
    instance: dg.DagsterInstance, tag: str, name: str, silent_seconds: float
) -> bool:
    """Whether no more runs of a backfill will begin, as its process or Dagster's daemon tells."""
    if backfill := instance.get_backfill(name):
        return backfill.status.value not in _BACKFILL_UNDER_WAY
    runs = instance.get_runs(dg.RunsFilter(tags={tag: name}), limit=1)
    gone = process_is_gone(runs[0]) if runs else None
    return gone if gone is not None else silent_seconds >= _BETWEEN_RUNS_SECONDS
