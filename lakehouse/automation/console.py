"""How a backfill shows on a terminal: a progress bar, and a line for each partition."""

import logging
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from lakehouse.automation.dataset import Dataset
from lakehouse.automation.datasets import started_ahead
from lakehouse.errors import UsageError
from lakehouse.partitions import spans
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from lakehouse.automation.backfill import Report

# A connection that is closed while somebody presses Ctrl-C would print a traceback.
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

_WHAT = "Partitions"


def backfill_on(
    settings: Settings,
    dataset: Dataset,
    months: Sequence[str],
    out: Console | None,
    err: Console,
    *,
    service: str | None = None,
    select: str | None = None,
    force: bool = False,
) -> list["Report"]:
    """Run a backfill, showing it on these consoles.

    Args:
        settings: Where everything is.
        dataset: The data set.
        months: The months to bring up to date.
        out: Gets a line for each partition; none are printed where it is None.
        err: Shows the progress.
        service: Only this one of the data set's services.
        select: Only these assets, in Dagster's selection syntax.
        force: Materialize what is up to date as well.

    Raises:
        UsageError: The selection cannot be used.
        KeyboardInterrupt: It was stopped with Ctrl-C, or ended with SIGTERM.
    """
    selection = _selected(dataset, select) if select is not None else None
    reports = []
    partitions = sum(len(stage.partitions(months)) for stage in dataset.chosen(service))
    with ExitStack() as stack:
        stack.enter_context(started_ahead(settings, dataset.name))
        # To import these takes half a second, in which what is needed starts.
        from lakehouse.automation.backfill import Backfill
        from lakehouse.definitions import build_definitions
        from lakehouse.instance import open_instance

        instance = stack.enter_context(open_instance(settings))
        interrupts = stack.enter_context(_Interrupts())
        console = stack.enter_context(BackfillConsole(dataset.name, out, err, partitions))
        backfill = Backfill(
            settings,
            instance,
            build_definitions(settings, console.downloading, dataset),
            dataset,
            force=force,
            service=service,
            selection=selection,
            stopped=interrupts.came,
        )
        for report in backfill.run(months):
            if report.ok or not interrupts.came():
                reports.append(report)
                console.show(report)
        if interrupts.came():
            raise KeyboardInterrupt
        if runs := [report.run_id for report in reports if report.run_id]:
            from lakehouse.automation.reports import write_reports

            write_reports(settings, instance, dataset, runs)
    if out is not None and dataset.off:
        off = ", ".join(dataset.off)
        out.print(f"Switched off by LAKEHOUSE_WITHOUT: {off}.", highlight=False, soft_wrap=True)
    return reports


def _selected(dataset: Dataset, select: str) -> set[dg.AssetKey]:
    known = {asset.key for asset in dataset.specs}
    try:
        selection = dg.AssetSelection.from_string(select).resolve(dataset.assets) & known
    except dg.DagsterError:
        selection = set()
    if not selection:
        raise UsageError(
            f"--select {select!r} selects no asset of {dataset.name}; write it as in Dagster's UI,"
            f" such as 'key:\"{dataset.specs[-1].key.to_user_string()}\"' or"
            f" 'group:{dataset.name} and kind:clickhouse'"
        )
    return set(selection)


class _Interrupts:
    """Tells whether a signal came that asks to stop.

    While Dagster executes a run it handles these signals itself: it marks the run as failed, and
    nobody else would know.
    """

    def __init__(self) -> None:
        self._came = False

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._unraisable = sys.unraisablehook
        sys.unraisablehook = self._not_raised
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._unraisable
        signal.set_wakeup_fd(self._before)
        self._reader.close()
        self._writer.close()

    def _not_raised(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Keep quiet of an interrupt that came where Python can only print it: it was noticed."""
        if not issubclass(unraisable.exc_type, dg.DagsterExecutionInterruptedError):
            self._unraisable(unraisable)

    def came(self) -> bool:
        """Whether one came."""
        with suppress(BlockingIOError):
            received = self._reader.recv(4096)
            self._came |= signal.SIGINT in received or signal.SIGTERM in received
        return self._came


class BackfillConsole:
    """Progress on standard error, results on standard output."""

    def __init__(self, dataset: str, out: Console | None, err: Console, partitions: int):
        self._dataset = dataset
        self._out = out
        self._unpublished: list[Report] = []
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        )
        self._task = self._progress.add_task(_WHAT, total=partitions)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._say_what_is_not_published()
        self._progress.stop()

    def downloading(self, done: int, total: int | None) -> None:
        """Show how far a download is, in bytes."""
        size = f"{total / 1e6:,.0f}" if total else "?"
        self._progress.update(self._task, description=f"Downloading {done / 1e6:,.0f} of {size} MB")

    def show(self, report: "Report") -> None:
        """A line for a run: rows in, written, rejected, dropped, checks; then what failed.

        What the publisher does not have is said in one line for all months of a stage.
        """
        self._progress.update(self._task, advance=1, description=_WHAT)
        if self._unpublished and self._unpublished[0].stage != report.stage:
            self._say_what_is_not_published()
        if not report.published:
            self._unpublished.append(report)
            return
        self._say(_line(self._dataset, report))
        for error in report.errors:
            self._say(f"    [red]{escape(error)}[/]")
        for warning in report.warnings:
            self._say(f"    [yellow]{escape(warning)}[/]")

    def _say_what_is_not_published(self) -> None:
        missing, self._unpublished = self._unpublished, []
        if len(missing) == 1:
            self._say(f"[red]{self._dataset}  {escape(missing[0].errors[0])}[/]")
        elif missing:
            name = " ".join(word for word in (self._dataset, missing[0].stage) if word)
            self._say(f"[red]{name}  not published: {spans(r.partition for r in missing)}[/]")

    def _say(self, line: str) -> None:
        if self._out is not None:
            self._out.print(line, highlight=False, soft_wrap=True)


def _name(dataset: str, report: "Report") -> str:
    words = (dataset, report.stage, f"{report.partition:<7}")
    return " ".join(word for word in words if word)


def _line(dataset: str, report: "Report") -> str:
    name = _name(dataset, report)
    if not report.ran and report.ok:
        return f"[dim]{name}  up to date[/]"
    counts = [
        f"{count:>9,} {what}"
        for count, what in (
            (report.rows_in, "in"),
            (report.rows_written, "written"),
            (report.rows_rejected, "rejected"),
            (report.rows_dropped, "dropped"),
        )
        if count is not None
    ]
    counts += _checks(report)
    colour = "red" if not report.ok else "yellow" if report.warnings else "green"
    mark = "failed" if not report.ok else "ok"
    if report.ran:
        counts.append(f"{report.seconds:.1f} s")
    return f"[{colour}]{name}  {mark:<6}[/]  {'  '.join(counts)}".rstrip()


def _checks(report: "Report") -> list[str]:
    """How many checks passed, only warn, or stopped what follows."""
    warned = len(report.warnings)
    counts = (
        (report.checks_passed, "passed"),
        (warned, "warned"),
        (report.checks_failed - warned, "failed"),
    )
    said = ", ".join(f"{count} {what}" for count, what in counts if count)
    return [f"checks: {said}"] if said else []
