"""What is told in one message, and when: a backfill when it is over, a job's runs when they are."""

from collections.abc import Sequence
from typing import TypeAlias

import dagster as dg

from lakehouse.automation.alerts.findings import BACKFILL_TAGS
from lakehouse.automation.alerts.memory import HeldFailure, HeldRecovery, Memory

Held: TypeAlias = HeldFailure | HeldRecovery

_JOB_SECONDS = 60
"""The longest that a failure waits for others of its job."""
_BACKFILL_SECONDS = 15 * 60
"""The longest that a failure waits for others of its backfill."""
_WARNING_SECONDS = 60 * 60
"""The longest that warnings and recoveries wait for others; nobody has to act on them."""
_BETWEEN_RUNS_SECONDS = 30
"""`lakehouse backfill` starts a run when the one before has ended: it is over after this."""

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


def _patience(group: str, waiting: Sequence[Held]) -> float:
    urgent = any(
        isinstance(each, HeldFailure) and each.finding.severity == "ERROR" for each in waiting
    )
    if not urgent:
        return _WARNING_SECONDS
    return _BACKFILL_SECONDS if group.startswith(BACKFILL_TAGS) else _JOB_SECONDS


def _is_over(instance: dg.DagsterInstance, group: str, latest: float, now: float) -> bool:
    kind, _, name = group.partition("=")
    if kind == "outside":
        return True
    if kind == "job":
        runs = dg.RunsFilter(job_name=name, statuses=_UNFINISHED)
    else:
        runs = dg.RunsFilter(tags={kind: name}, statuses=_UNFINISHED)
        backfill = instance.get_backfill(name)
        if backfill and backfill.status.value in _BACKFILL_UNDER_WAY:
            return False
        if backfill is None and now - latest < _BETWEEN_RUNS_SECONDS:
            return False
    return not instance.get_runs(runs, limit=1)
