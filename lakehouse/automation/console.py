"""How a backfill shows on a terminal: a progress bar, and a line for each partition."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

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

from lakehouse.automation.backfill import Backfill, Report
from lakehouse.automation.datasets import Dataset
from lakehouse.definitions import build_definitions
from lakehouse.errors import UsageError
from lakehouse.instance import open_instance
from lakehouse.resources.drive_files import DriveFiles
from lakehouse.settings import Settings


def backfill_on(
    settings: Settings,
    dataset: Dataset,
    months: Sequence[str],
    out: Console | None,
    err: Console,
    *,
    select: str | None = None,
    force: bool = False,
) -> list[Report]:
    """Run a backfill, showing it on these consoles.

    Args:
        settings: Where everything is.
        dataset: The data set.
        months: The months to bring up to date.
        out: Gets a line for each partition; none are printed where it is None.
        err: Shows the progress.
        select: Only these assets, in Dagster's selection syntax.
        force: Materialize what is up to date as well.

    Raises:
        UsageError: The selection cannot be used.
    """
    selection = _selected(dataset, select) if select is not None else None
    reports = []
    with open_instance(settings) as instance, BackfillConsole(out, err, len(months)) as console:
        definitions = build_definitions(
            settings, drive_files=DriveFiles(settings, console.downloading)
        )
        backfill = Backfill(
            settings, instance, definitions, dataset, force=force, selection=selection
        )
        for report in backfill.run(months):
            reports.append(report)
            console.show(dataset.name, report)
    return reports


def _selected(dataset: Dataset, select: str) -> set[dg.AssetKey]:
    try:
        selection = dg.AssetSelection.from_string(select).resolve(dataset.assets)
    except dg.DagsterError as error:
        raise UsageError(f"--select {select!r} cannot be used: {error}") from error
    if not selection:
        raise UsageError(f"--select {select!r} selects no asset of {dataset.name}")
    return set(selection)


class BackfillConsole:
    """Progress on standard error, results on standard output."""

    def __init__(self, out: Console | None, err: Console, months: int):
        self._out = out
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        )
        self._task = self._progress.add_task("Months", total=months)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def downloading(self, done: int, total: int | None) -> None:
        """Show how far a download is, in bytes."""
        size = f"{total / 1e6:,.0f}" if total else "?"
        self._progress.update(self._task, description=f"Downloading {done / 1e6:,.0f} of {size} MB")

    def show(self, dataset: str, report: Report) -> None:
        """A line for a partition: rows in, written, rejected, dropped, checks; then what failed."""
        self._progress.update(self._task, advance=1, description="Months")
        if self._out is None:
            return
        lines = [_line(dataset, report)]
        lines += [f"    [red]{escape(error)}[/]" for error in report.errors]
        lines += [f"    [yellow]{escape(warning)}[/]" for warning in report.warnings]
        for line in lines:
            self._out.print(line, highlight=False, soft_wrap=True)


def _line(dataset: str, report: Report) -> str:
    name = f"{dataset} {report.partition:<7}"
    if not report.ran:
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
    failed = f", {report.checks_failed} failed" if report.checks_failed else ""
    counts.append(f"{report.checks_passed} checks passed{failed}")
    colour = "red" if not report.ok else "yellow" if report.warnings else "green"
    mark = "failed" if not report.ok else "ok"
    return f"[{colour}]{name}  {mark:<6}[/]  {'  '.join(counts)}  {report.seconds:.1f} s"
