"""People are told what failed: once, with where, how badly, and a link.

Two sensors read the event log in its order and send a message for each event that people should
know of. `alerts` tells of failed checks and failed runs within seconds; `left_failed` looks at
every failed run again a day later, and tells which partitions nobody has tried again since.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

import dagster as dg
from pydantic import BaseModel

from lakehouse.resources.notifier import DeliveryError, Notifier

_EVENTS_A_TICK = 500
_SECONDS_A_TICK = 20
"""No delivery starts later: Dagster ends a tick after 60 s, and its cursor would be lost."""

_DAY = 24 * 60 * 60
_LINES = 10
_LINE_LENGTH = 300


class Message(NamedTuple):
    """What people get to read."""

    title: str
    body: str


def build_alerts(
    dagster_url: str, now: Callable[[], float] = time.time
) -> list[dg.SensorDefinition]:
    """The sensors `alerts` and `left_failed`; they need the resource `notifier`.

    Args:
        dagster_url: Where people find Dagster's UI; the messages link to it.
        now: The clock that tells when a failure is a day old.
    """
    url = dagster_url.rstrip("/")

    @dg.sensor(minimum_interval_seconds=15, default_status=dg.DefaultSensorStatus.RUNNING)
    def alerts(
        context: dg.SensorEvaluationContext, notifier: dg.ResourceParam[Notifier]
    ) -> dg.SensorResult:
        """Tells of every failed check and every failed run."""

        def describe(_: int, event: dg.EventLogEntry) -> Message | None:
            if event.dagster_event_type is dg.DagsterEventType.RUN_FAILURE:
                return _describe_failed_run(context.instance, event, url)
            return _describe_failed_check(context.instance, event, url)

        types = (dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.RUN_FAILURE)
        return _tell(context, notifier, types, math.inf, url, describe)

    @dg.sensor(minimum_interval_seconds=3600, default_status=dg.DefaultSensorStatus.RUNNING)
    def left_failed(
        context: dg.SensorEvaluationContext, notifier: dg.ResourceParam[Notifier]
    ) -> dg.SensorResult:
        """Tells of partitions that failed a day ago and were not tried again since."""

        def describe(event_id: int, event: dg.EventLogEntry) -> Message | None:
            partitions = _left_failed(context.instance, event.run_id, event_id)
            return left_failed_message(partitions, event.timestamp, event.run_id, url)

        types = (dg.DagsterEventType.RUN_FAILURE,)
        return _tell(context, notifier, types, now() - _DAY, url, describe)

    return [alerts, left_failed]


class _Cursor(BaseModel):
    """How far the event log was told, and which events some addresses have yet to be told of."""

    position: int
    undelivered: dict[int, tuple[int, ...]] = {}


def _tell(
    context: dg.SensorEvaluationContext,
    notifier: Notifier,
    types: Sequence[dg.DagsterEventType],
    until: float,
    url: str,
    describe: Callable[[int, dg.EventLogEntry], Message | None],
) -> dg.SensorResult:
    """Sends a message for each new event until a time, then tries the undelivered ones again."""
    if context.cursor is None:
        start = _Cursor(position=_newest(context.instance))
        return _result(start, "Started: tells of what happens from now on.")
    cursor = _Cursor.model_validate_json(context.cursor)
    deadline = time.monotonic() + _SECONDS_A_TICK
    sent = 0

    def deliver(event_id: int, event: dg.EventLogEntry, targets: tuple[int, ...] | None) -> None:
        nonlocal sent
        try:
            message = describe(event_id, event)
        except Exception:
            # Told without details rather than not at all, and without holding up the others.
            context.log.exception(f"The details of event {event_id} cannot be told.")
            message = bare_message(event, url)
        if message is None:
            return
        try:
            notifier.send(message.title, message.body, targets)
            sent += 1
        except DeliveryError as error:
            context.log.warning(f"{error} It is tried again at the next tick.")
            cursor.undelivered[event_id] = error.undelivered

    # New events first: an address that is down for long must not keep the others from the news.
    waiting = list(cursor.undelivered.items())
    for event_id, event in _events_after(context.instance, cursor.position, types, _EVENTS_A_TICK):
        if event.timestamp > until or time.monotonic() > deadline:
            break
        deliver(event_id, event, None)
        cursor.position = event_id
    for event_id, targets in waiting:
        if time.monotonic() > deadline:
            break
        # Put back at the end if it fails again, so that all get their turn.
        del cursor.undelivered[event_id]
        found = dict(_events_after(context.instance, event_id - 1, types, limit=1))
        if event_id in found:
            deliver(event_id, found[event_id], targets)
    return _result(cursor, f"{sent} told, {len(cursor.undelivered)} to be tried again.")


def _result(cursor: _Cursor, reason: str) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=cursor.model_dump_json())


def _newest(instance: dg.DagsterInstance) -> int:
    return instance.event_log_storage.get_maximum_record_id() or 0


def _events_after(
    instance: dg.DagsterInstance,
    position: int,
    types: Sequence[dg.DagsterEventType],
    limit: int,
) -> list[tuple[int, dg.EventLogEntry]]:
    # The public get_event_records has no order across runs on SQLite, and nothing else public
    # reads evaluations of all checks. This is what Dagster's own daemons read.
    storage = instance.event_log_storage
    # Each type is read by itself; an event that arrives in between must not be passed over.
    newest = _newest(instance)
    events: dict[int, dg.EventLogEntry] = {}
    for event_type in types:
        events |= storage.get_logs_for_all_runs_by_log_id(position, event_type, limit)
    return [item for item in sorted(events.items())[:limit] if item[0] <= newest]


def _describe_failed_check(
    instance: dg.DagsterInstance, event: dg.EventLogEntry, url: str
) -> Message | None:
    evaluation = event.get_dagster_event().asset_check_evaluation_data
    if evaluation.passed:
        return None
    return failed_check_message(evaluation, instance.get_run_by_id(event.run_id), url)


def _describe_failed_run(
    instance: dg.DagsterInstance, event: dg.EventLogEntry, url: str
) -> Message | None:
    run = instance.get_run_by_id(event.run_id)
    # Of a run that is retried, the last attempt is told.
    if run is None or run.tags.get("dagster/will_retry") == "true":
        return None
    failures = _step_failures(instance, run.run_id)
    told = [failure for failure in failures if not _is_failed_check(failure)]
    if failures and not told:
        return None  # the message of the check has said it
    failed = event.get_dagster_event()
    data = failed.job_failure_data
    reasons = [f"{failure.step_key}: {_sentence(failure)}" for failure in told]
    if not told:
        # A run that could not start brings its error; one that was killed only a message.
        told_by_run = data.error.message if data and data.error else failed.message
        reasons = [told_by_run or "The run failed before any of its steps."]
    return failed_run_message(run, reasons, url)


def _step_failures(instance: dg.DagsterInstance, run_id: str) -> list[dg.DagsterEvent]:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    return [record.event_log_entry.get_dagster_event() for record in records]


def _is_failed_check(failure: dg.DagsterEvent) -> bool:
    error = failure.step_failure_data.error
    return error is not None and error.cls_name == "DagsterAssetCheckFailedError"


def _sentence(failure: dg.DagsterEvent) -> str:
    """What the asset said when it failed, without Dagster's wrapping."""
    data = failure.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    if data.error is None:
        return failure.message or ""
    error = data.error.cause or data.error
    # Without the modules in front of the name of the class.
    return error.message[max(error.message.find(error.cls_name or ""), 0) :]


def _left_failed(
    instance: dg.DagsterInstance, run_id: str, failure_id: int
) -> list[tuple[dg.AssetKey, str]]:
    """The partitions that a failed run did not make well, and no later run has tried."""
    planned = instance.get_asset_partitions_for_run(
        run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    made = instance.get_asset_partitions_for_run(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    blocked = _blocked_assets(instance, run_id)
    left = []
    for key, partitions in planned.items():
        failed = {
            partition
            for partition in partitions
            if partition and (key in blocked or partition not in made.get(key, ()))
        }
        if not failed:
            continue
        tried = instance.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, failed
        )
        mended = instance.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION, failed
        )
        left += [
            (key, partition)
            for partition in failed
            if max(tried.get(partition, 0), mended.get(partition, 0)) < failure_id
        ]
    return sorted(left)


def _blocked_assets(instance: dg.DagsterInstance, run_id: str) -> set[dg.AssetKey]:
    """The assets that were made but failed a blocking check."""
    records = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ).records
    evaluations = [
        record.event_log_entry.get_dagster_event().asset_check_evaluation_data for record in records
    ]
    return {
        evaluation.asset_key
        for evaluation in evaluations
        if evaluation.blocking
        and not evaluation.passed
        and evaluation.severity is dg.AssetCheckSeverity.ERROR
    }


def failed_check_message(
    evaluation: dg.AssetCheckEvaluation, run: dg.DagsterRun | None, url: str
) -> Message:
    """The message of a failed check; evaluations that were reported from outside have no run."""
    asset = evaluation.asset_key.to_user_string()
    partition = evaluation.partition or (_partition(run) if run else "")
    path = "/".join(quote(part, safe="") for part in evaluation.asset_key.path)
    severity = evaluation.severity.value + (", blocking" if evaluation.blocking else "")
    return _message(
        f"Check failed: {_join(asset, partition)}: {evaluation.check_name}",
        f"Severity: {severity}",
        *_capped((evaluation.description or "").splitlines()),
        *_capped(_readable(evaluation.metadata)),
        f"Check: {url}/assets/{path}?view=checks&checkDetail={quote(evaluation.check_name)}",
        f"Run: {url}/runs/{run.run_id}" if run else "",
    )


def failed_run_message(run: dg.DagsterRun, reasons: Sequence[str], url: str) -> Message:
    """The message of a failed run."""
    # The job that Dagster makes for assets chosen by hand or by a condition has no name of its own.
    job = "materialization" if run.job_name.startswith("__") else run.job_name
    return _message(
        f"Run failed: {_join(job, _partition(run))}",
        "Severity: ERROR",
        *_capped(reasons),
        f"Run: {url}/runs/{run.run_id}",
    )


def left_failed_message(
    partitions: Sequence[tuple[dg.AssetKey, str]], failed_at: float, run_id: str, url: str
) -> Message | None:
    """The message of the partitions that a run left failed, if there are any."""
    if not partitions:
        return None
    lines = [f"{key.to_user_string()} {partition}" for key, partition in partitions]
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return _message(
        f"Left failed since yesterday: {lines[0]}{more}",
        f"Severity: ERROR, failed at {datetime.fromtimestamp(failed_at, UTC):%Y-%m-%d %H:%M} UTC",
        *_capped(lines),
        f"Run: {url}/runs/{run_id}",
    )


def bare_message(event: dg.EventLogEntry, url: str) -> Message:
    """The message of an event whose details cannot be told."""
    return _message(
        f"Failed, see Dagster for details: {event.job_name or 'an asset'}",
        "Severity: ERROR",
        f"Run: {url}/runs/{event.run_id}",
    )


def _message(title: str, *lines: str) -> Message:
    return Message(title, "\n".join(line for line in lines if line))


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def _partition(run: dg.DagsterRun) -> str:
    first = run.tags.get("dagster/asset_partition_range_start")
    last = run.tags.get("dagster/asset_partition_range_end")
    if first and last:
        return f"{first} to {last}"
    return run.tags.get("dagster/partition", "")


def _readable(metadata: Mapping[str, dg.MetadataValue]) -> Iterable[str]:
    """Numbers and short texts; tables and the like are for the UI."""
    for name, value in metadata.items():
        if isinstance(value.value, int | float | str) and len(str(value.value)) <= _LINE_LENGTH:
            yield f"{name}: {value.value}"


def _capped(texts: Iterable[str]) -> list[str]:
    """The first line of each text, as many and as long as one wants to read in a message."""
    lines = [text.strip().partition("\n")[0] for text in texts]
    short = [line[:_LINE_LENGTH] for line in lines[:_LINES]]
    return [*short, f"… and {len(lines) - _LINES} more"] if len(lines) > _LINES else short
