"""The sensor that takes files dropped into a data set's inbox and materializes their months."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
from pydantic import BaseModel

from lakehouse.automation.dataset import Job
from lakehouse.errors import SourceRefusedError
from lakehouse.resources.inbox import Dropped, Inbox, Taken
from lakehouse.resources.notifier import DeliveryError, Notifier


class _Watched(BaseModel):
    """A file in the inbox, and since when it has not changed."""

    file: Dropped
    since: float
    untold: tuple[int, ...] | None = None
    """The addresses that did not take the message that it is refused; the others know."""


class _Cursor(BaseModel):
    """The files that may still be written, and the last taken file that runs were asked for."""

    watched: list[_Watched] = []
    position: str = ""


def build_inbox_sensor(
    dataset: str,
    jobs: Sequence[Job],
    partitions_of: Callable[[Taken], list[str]],
    job_of: Callable[[Taken], str],
    settle_seconds: float,
    now: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """The sensor of a data set's inbox; it needs the resources `inboxes` and `notifier`.

    A file is taken once it has not changed for `settle_seconds`, over two ticks at least. What was
    taken and not asked for yet, because the daemon stopped in between, is asked for at the next
    tick; run keys carry the time of taking, so the same file may be dropped again.

    Args:
        dataset: The data set; the inbox is the folder of that name.
        jobs: The jobs that materialize a partition.
        partitions_of: The partitions that a file serves; raises SourceRefusedError where none.
        job_of: The name of the job for a file.
        settle_seconds: How long a file must not have changed.
        now: The clock.
    """

    @dg.sensor(
        name=f"{dataset}_inbox",
        jobs=jobs,
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Takes what is dropped into the inbox of {dataset}, materializes its months.",
    )
    def inbox_sensor(
        context: dg.SensorEvaluationContext,
        inboxes: dg.ResourceParam[dict[str, Inbox]],
        notifier: dg.ResourceParam[Notifier],
    ) -> dg.SensorResult:
        inbox = inboxes[dataset]
        cursor = _Cursor.model_validate_json(context.cursor or "{}")
        known = {watched.file: watched for watched in cursor.watched}
        watched = []
        for file in inbox.look():
            seen = known.get(file)
            if seen is None:
                watched.append(_Watched(file=file, since=now()))
            elif now() - seen.since < settle_seconds:
                watched.append(seen)
            elif not _take(context, inbox, notifier, seen, partitions_of):
                watched.append(seen.model_copy(update={"since": now()}))
        taken = [file for file in inbox.taken() if file.id > cursor.position]
        position = taken[-1].id if taken else cursor.position
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=f"{file.id}:{partition}",
                    partition_key=partition,
                    job_name=job_of(file),
                    tags={"lakehouse/file": file.name},
                )
                for file in taken
                for partition in file.partitions
            ],
            cursor=_Cursor(watched=watched, position=position).model_dump_json(),
            skip_reason=None if taken else f"{len(watched)} files may still be written.",
        )

    return inbox_sensor


def _take(
    context: dg.SensorEvaluationContext,
    inbox: Inbox,
    notifier: Notifier,
    seen: _Watched,
    partitions_of: Callable[[Taken], list[str]],
) -> bool:
    """Take a file, or refuse it and tell people; False where it has to wait for the next tick."""
    file = seen.file
    try:
        copy = inbox.fetch(file)
    except OSError as error:
        # Others must not wait for a file that cannot be read.
        context.log.error(f"{file.name} cannot be copied out of the inbox: {error}")
        return False
    if copy is None:
        return False
    try:
        partitions = partitions_of(inbox.preview(file, copy))
    except SourceRefusedError as error:
        return _refuse(context, inbox, notifier, seen, copy, str(error))
    inbox.take(file, copy, partitions)
    return True


def _refuse(
    context: dg.SensorEvaluationContext,
    inbox: Inbox,
    notifier: Notifier,
    seen: _Watched,
    copy: Path,
    reason: str,
) -> bool:
    file = seen.file
    try:
        notifier.send(
            f"File refused: {file.name}",
            f"{reason}\nIt lies in the inbox's refused/.",
            seen.untold,
        )
    except DeliveryError as error:
        context.log.warning(f"{error} The file stays in the inbox until then.")
        copy.unlink()
        seen.untold = error.undelivered
        return False
    context.log.warning(reason)
    inbox.refuse(file, copy, reason)
    return True
