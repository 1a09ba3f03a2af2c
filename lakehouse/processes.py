"""Which process carries out a run: what a process that was killed left behind can be told by it.

Dagster's own launcher tells when a run's process dies, but not when all of `dagster dev` is killed
or the machine goes down; its runs would count as running for ever, and keep others from starting.
"""

import os
import socket
from functools import lru_cache

import dagster as dg
import psutil

_TAG = "lakehouse/process"

_ROUNDED = 2.0
"""Seconds that two readings of when a process began may lie apart."""


def process_tags(run_id: str) -> dict[str, str]:
    """The tag of a run that this process carries out."""
    began = _began(psutil.Process())
    return {_TAG: f"{run_id}:{socket.gethostname()}:{os.getpid()}:{began}"}


def _began(process: psutil.Process) -> float:
    """When a process began, in seconds since the machine did: the clock may be set meanwhile."""
    return process.create_time() - psutil.boot_time()


@lru_cache(maxsize=1)
def claim(instance: dg.DagsterInstance, run_id: str) -> None:
    """Tag a run that is executed in one process, from within."""
    instance.add_run_tags(run_id, process_tags(run_id))


def report_killed_runs(instance: dg.DagsterInstance) -> int:
    """Mark the runs whose process on this machine was killed as failed; how many there were."""
    begun = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED]
    killed = [
        run for run in instance.get_runs(dg.RunsFilter(statuses=begun)) if process_is_gone(run)
    ]
    for run in killed:
        instance.report_run_failed(run, "The process of this run was killed; run it again.")
    return len(killed)


def process_is_gone(run: dg.DagsterRun) -> bool | None:
    """Whether the process that carried out a run has ended; None where this machine cannot tell."""
    of, _, process = run.tags.get(_TAG, "").partition(":")
    # A run that repeats another one has that one's tags until it says better.
    if of != run.run_id:
        return None
    host, pid, began = process.rsplit(":", 2)
    if host != socket.gethostname():
        return None
    try:
        return abs(_began(psutil.Process(int(pid))) - float(began)) > _ROUNDED
    except psutil.NoSuchProcess:
        return True
