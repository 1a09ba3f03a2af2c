"""The sensors: `alerts` tells within seconds, `left_failed` a day later what nobody tried again."""

import time
from collections.abc import Callable, Sequence

import dagster as dg
from pydantic import BaseModel

from lakehouse.automation.alerts.findings import TYPES, Failure, Reader
from lakehouse.automation.alerts.groups import begun_groups, due_groups
from lakehouse.automation.alerts.left import left_partitions
from lakehouse.automation.alerts.memory import Memory
from lakehouse.automation.alerts.messages import (
    GOES_ON,
    Message,
    bare_message,
    failures_message,
    left_failed_message,
    recoveries_message,
)
from lakehouse.automation.events import events_after, newest_event
from lakehouse.resources.notifier import DeliveryError, Notifier

_EVENTS_A_TICK = 500
_SECONDS_A_TICK = 20
"""No delivery starts later: Dagster ends a tick after 60 s, and its cursor would be lost."""

_DAY = 24 * 60 * 60


class _Cursor(BaseModel):
    """How far the event log was read; the rest is in the sensor's memory."""

    position: int


def build_alerts(
    dagster_url: str, now: Callable[[], float] = time.time
) -> list[dg.SensorDefinition]:
    """The sensors `alerts` and `left_failed`; they need the resource `notifier`.

    Args:
        dagster_url: Where people find Dagster's UI; the messages link to it.
        now: The clock that tells how long something waits, and when a failure is a day old.
    """
    url = dagster_url.rstrip("/")

    @dg.sensor(minimum_interval_seconds=15, default_status=dg.DefaultSensorStatus.RUNNING)
    def alerts(
        context: dg.SensorEvaluationContext, notifier: dg.ResourceParam[Notifier]
    ) -> dg.SensorResult:
        """Tells of failed checks and failed runs, and when they are mended."""

        def compose(memory: Memory) -> None:
            caught_up = _note_events(context, memory, now())
            for group in due_groups(context.instance, memory, now(), caught_up):
                _tell(context, memory, group, now(), url)
            for group in begun_groups(memory, now()):
                failures = memory.first_failures(group, now())
                message = _words(context, failures, group, url)
                memory.post(message._replace(body=f"{message.body}\n{GOES_ON}"), now())

        return _tick(context, notifier, "alerts", compose)

    @dg.sensor(minimum_interval_seconds=3600, default_status=dg.DefaultSensorStatus.RUNNING)
    def left_failed(
        context: dg.SensorEvaluationContext, notifier: dg.ResourceParam[Notifier]
    ) -> dg.SensorResult:
        """Tells of partitions that failed a day ago and were not tried again since."""

        def compose(memory: Memory) -> None:
            _tell_left_failed(context, memory, now(), url)

        return _tick(context, notifier, "left_failed", compose)

    return [alerts, left_failed]


def _tick(
    context: dg.SensorEvaluationContext,
    notifier: Notifier,
    name: str,
    compose: Callable[[Memory], None],
) -> dg.SensorResult:
    """Reads what is new, puts messages into the memory, and delivers what waits there."""
    deadline = time.monotonic() + _SECONDS_A_TICK
    if context.cursor is None:
        memory = Memory(position=newest_event(context.instance))
        memory.save(context.instance, name)
        return _result(memory, "Started: tells of what happens from now on.")
    memory = Memory.load(context.instance, name)
    # The memory is ahead where the daemon was killed before it stored the cursor.
    memory.position = max(memory.position, _Cursor.model_validate_json(context.cursor).position)
    before = memory.model_copy(deep=True)
    compose(memory)
    new = len(memory.letters) - len(before.letters)
    memory.merge_oldest_letters()
    if memory != before:
        memory.save(context.instance, name)
    sent = _deliver(context, notifier, memory, name, new, deadline)
    told = f"{sent} told, {len(memory.letters)} to be tried again."
    held = len(memory.failures) + len(memory.recoveries)
    return _result(memory, told + (f" {held} wait for others." if held else ""))


def _result(memory: Memory, reason: str) -> dg.SensorResult:
    cursor = _Cursor(position=memory.position)
    return dg.SensorResult(skip_reason=reason, cursor=cursor.model_dump_json())


def _deliver(
    context: dg.SensorEvaluationContext,
    notifier: Notifier,
    memory: Memory,
    name: str,
    new: int,
    deadline: float,
) -> int:
    """Sends what waits in the memory, as far as time permits; how many were sent."""
    sent = 0
    # New ones first: an address that is down for long must not keep the others from the news.
    waiting = max(len(memory.letters) - new, 0)
    for letter in [*memory.letters[waiting:], *memory.letters[:waiting]]:
        if time.monotonic() > deadline:
            break
        memory.letters.remove(letter)
        try:
            notifier.send(letter.title, letter.body, letter.targets, letter.kind)
            sent += 1
        except DeliveryError as error:
            context.log.warning(f"{error} It is tried again at the next tick.")
            # Put back at the end, so that all get their turn.
            memory.letters.append(letter.model_copy(update={"targets": error.undelivered}))
        memory.save(context.instance, name)
    return sent


def _note_events(context: dg.SensorEvaluationContext, memory: Memory, now: float) -> bool:
    """Notes what the next events say; whether these were the last ones."""
    reader = Reader(context.instance, memory.concerns)
    events = events_after(context.instance, memory.position, TYPES, _EVENTS_A_TICK)
    for event_id, event in events:
        try:
            findings = list(reader.findings(event))
        except Exception:
            # Told without details rather than not at all, and without holding up the others.
            context.log.exception(f"The details of event {event_id} cannot be told.")
            findings = [reader.unreadable(event)]
        for finding in findings:
            if isinstance(finding, Failure):
                memory.note_failure(finding, now)
            else:
                memory.note_well(finding, now)
        memory.position = event_id
    return len(events) < _EVENTS_A_TICK


def _tell(
    context: dg.SensorEvaluationContext, memory: Memory, group: str, now: float, url: str
) -> None:
    """Puts the messages of a group into the memory."""
    failures = memory.take_failures(group, now)
    recoveries = memory.take_recoveries(group)
    if failures:
        memory.post(_words(context, failures, group, url), now)
    if recoveries:
        memory.post(recoveries_message(recoveries, url), now)


def _words(
    context: dg.SensorEvaluationContext, failures: Sequence[Failure], group: str, url: str
) -> Message:
    try:
        return failures_message(failures, url)
    except Exception:
        context.log.exception(f"There are no words for the failures of {group}.")
        return bare_message(len(failures), failures[0].run_id, url)


def _tell_left_failed(
    context: dg.SensorEvaluationContext, memory: Memory, now: float, url: str
) -> None:
    """Puts one message into the memory: of all that failed a day ago and was left so."""
    partitions: list[tuple[dg.AssetKey, str]] = []
    runs: dict[str, float] = {}
    unreadable = 0
    types = (dg.DagsterEventType.RUN_FAILURE,)
    for event_id, event in events_after(context.instance, memory.position, types, _EVENTS_A_TICK):
        if event.timestamp > now - _DAY:
            break
        try:
            left = left_partitions(context.instance, event.run_id, event_id)
        except Exception:
            context.log.exception(f"What the run {event.run_id} left failed cannot be told.")
            left = []
            unreadable += 1
            runs[event.run_id] = event.timestamp
        if left:
            partitions += left
            runs[event.run_id] = event.timestamp
        memory.position = event_id
    if runs:
        message = left_failed_message(partitions, list(runs.items()), unreadable, url)
        memory.post(message, now)
