"""Dagster's daemon, as far as one sensor goes: ticks, a cursor, runs by their key; it may die."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg
from faults.rehearsal import Rehearsal
from retail_homes import history

from lakehouse.automation.datasets import dataset
from lakehouse.definitions import build_definitions
from lakehouse.settings import Settings


class Daemon:
    """Evaluates one sensor, and carries out what it asks for."""

    def __init__(
        self, instance: dg.DagsterInstance, definitions: dg.Definitions, sensor: str
    ) -> None:
        self._instance, self._definitions = instance, definitions
        self._sensor = definitions.resolve_sensor_def(sensor)
        self._cursor: str | None = None

    def tick(self, *, dies: bool = False) -> Sequence[dg.RunRequest]:
        """What a tick asks for; where the daemon dies after it, its cursor is not kept."""
        context = dg.build_sensor_context(
            self._instance,
            cursor=self._cursor,
            resources=self._definitions.resources,
            repository_def=self._definitions.get_repository_def(),
        )
        found = self._sensor.evaluate_tick(context)
        for event in found.asset_events:
            self._instance.report_runless_asset_event(event)
        if not dies:
            self._cursor = found.cursor
        return found.run_requests or []

    def launch(self, requests: Sequence[dg.RunRequest]) -> int:
        """Carry out what was asked for, a key only once; how many runs that made."""
        launched = 0
        for request in requests:
            tags = {"dagster/sensor_name": self._sensor.name, "dagster/run_key": request.run_key}
            if self._instance.get_runs(dg.RunsFilter(tags=tags), limit=1):
                continue
            job = self._definitions.resolve_job_def(request.job_name or self._sensor.job_name)
            launched += job.execute_in_process(
                partition_key=request.partition_key,
                instance=self._instance,
                tags=request.tags | tags,
                raise_on_error=False,
            ).success
        return launched


@contextmanager
def daemon(rehearsal: Rehearsal, sensor: str) -> Iterator[Daemon]:
    """A daemon that has just started, in the home of a rehearsal."""
    with history(rehearsal.home) as instance:
        only = dataset(Settings(), rehearsal.subject.name)
        yield Daemon(instance, build_definitions(only=only), sensor)
