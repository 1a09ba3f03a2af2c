"""The command `lakehouse`.

Commands import what they need when they run, so that `--help` answers at once.
"""

import atexit
import gc
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from lakehouse.errors import DISK_FULL, LakehouseError, UsageError, is_disk_full, written_out

if TYPE_CHECKING:
    from lakehouse.automation.dataset import Dataset
    from lakehouse.automation.verification import Verification
    from lakehouse.settings import Settings

app = typer.Typer(
    help="A lakehouse of public data sets: see docs/ for how things are done.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
out = Console(width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True)

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_INTERRUPTED = 130
_LEAST_FREE_BYTES = 1 << 20
_GARBAGE_OBJECTS = 50_000
_SHOWN = 12
"""Differences of a data set that fit on a screen."""


class Format(StrEnum):
    """How the answer to a query is shown."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="drives, taxi or retail")]
Service = Annotated[
    str | None, typer.Option("--service", help="One of taxi's: yellow, green, fhv, fhvhv.")
]
From = Annotated[str | None, typer.Option("--from", help="First month, as 2018-01.")]
To = Annotated[str | None, typer.Option("--to", help="Last month, as 2018-03.")]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]


@app.command()
def demo(
    keep: Annotated[bool, typer.Option(help="Leave the services running.")] = False,
) -> None:
    """Make sample sources, build all data sets from them, run all checks, show where to look."""
    with _loading():
        from lakehouse.demo import run_demo

    run_demo(keep=keep, out=out, err=err)


@app.command()
def up() -> None:
    """Start the local services; those that run already are left alone."""
    from lakehouse.services.local import local_services

    failed = False
    settings = _settings()
    for service in local_services(settings):
        try:
            with err.status(f"Starting {service.name} (the first time, its program is fetched) …"):
                status = service.start()
        except LakehouseError as error:
            failed = True
            err.print(f"[red]{service.name}[/]: {escape(str(error))}", highlight=False)
        else:
            out.print(f"{status.name} runs at {status.address}", highlight=False)
    for name in settings.without.split():
        _say(f"{name} is switched off by LAKEHOUSE_WITHOUT")
    if failed:
        raise typer.Exit(1)


@app.command()
def down() -> None:
    """Stop the local services; their data stays."""
    from lakehouse.services.local import local_services

    for service in local_services(_settings()):
        out.print(f"{service.name} {'stopped' if service.stop() else 'was not running'}")


@app.command()
def ps(as_json: Json = False) -> None:
    """Show the local services: whether they run, where, their data and their log."""
    from lakehouse.services.local import local_services

    statuses = [service.status() for service in local_services(_settings())]
    if as_json:
        _print_json([asdict(status) for status in statuses])
        return
    rows = [
        (s.name, "running" if s.running else "stopped", s.pid or "", s.address, s.data, s.log)
        for s in statuses
    ]
    _print_table(("service", "state", "pid", "address", "data", "log"), rows)


@app.command()
def backfill(
    dataset: DatasetName,
    first: From = None,
    last: To = None,
    service: Service = None,
    select: Annotated[
        str | None, typer.Option(help="Only these assets, in Dagster's selection syntax.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Materialize what is up to date as well.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Materialize months of a data set with all that depends on them, as far as not up to date."""
    with _loading():
        from lakehouse.automation.datasets import started_ahead

        settings = _settings()
    with started_ahead(settings, dataset):
        known = _dataset(settings, dataset)
        months = _months(known, first, last, service, default_all=False)
        with _loading():
            from lakehouse.automation.console import backfill_on

        reports = backfill_on(
            *(settings, known, months, None if as_json else out, err),
            service=service,
            select=select,
            force=force,
        )
    _push(settings)
    if as_json:
        _print_json([asdict(report) for report in reports])
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@app.command()
def status(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]")] = None,
    as_json: Json = False,
    show_cost: Annotated[
        bool,
        typer.Option("--cost", help="Bytes, growth, run time and money instead, as estimated."),
    ] = False,
) -> None:
    """Show how many partitions are there, missing, failed or stale, and which checks fail."""
    if show_cost:
        _show_cost(dataset, as_json)
        return
    with _loading():
        from lakehouse.automation.datasets import datasets
        from lakehouse.automation.overview import overview
        from lakehouse.instance import open_instance

    settings = _settings()
    chosen = [_dataset(settings, dataset)] if dataset else datasets(settings).values()
    with open_instance(settings) as instance:
        found = [overview(instance, known, settings) for known in chosen]
    if as_json:
        _print_json(found)
        return
    for data in found:
        _print_table(
            ("asset", "fresh", "stale", "failed", "missing", "newest"),
            [
                (a["asset"], a["fresh"], a["stale"], a["failed"], a["missing"], a["newest"] or "")
                for a in data["assets"]
            ],
            title=f"{data['dataset']}, in partitions",
        )
        age = data["newest_data_age_days"]
        if age is not None:
            _say(f"The newest data is of {data['newest_data']}, {age:,} days old.")
        for asset, partitions in data["failed_partitions"].items():
            _say(
                f"[red]{asset}[/]: failed for {', '.join(partitions)}; backfill them again to see"
                " why."
            )
        for check in data["failing_checks"]:
            colour = "red" if check["stops"] else "yellow"
            sentence = escape(check["sentence"])
            _say(f"[{colour}]{check['asset']} {check['check']}[/]: {sentence}")
        if data["rows_rejected"]:
            _say(
                f"{data['rows_rejected']:,} rejected rows: `lakehouse rejects {data['dataset']}`"
                " shows them."
            )


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
) -> None:
    """Serve the dashboard, the API and the metrics until Ctrl-C."""
    given = {"serve_host": host, "serve_port": port}
    settings = _settings().model_copy(update={k: v for k, v in given.items() if v is not None})
    with _loading(), err.status("Starting …"):
        from lakehouse.serving.app import serve as serve_all

    address = f"http://{settings.serve_host}:{settings.serve_port}"

    def started() -> None:
        _say(
            f"Dashboard {address}, API {address}/api/openapi.json, metrics {address}/metrics;"
            " Ctrl-C ends it."
        )
        if settings.demo.is_dir():
            _say(
                "The demo has a home of its own: after Ctrl-C, lakehouse down &&"
                f" LAKEHOUSE_HOME={settings.demo} lakehouse serve"
            )

    serve_all(settings, started)


def _show_cost(dataset: str | None, as_json: bool) -> None:
    with _loading():
        from lakehouse.automation.cost import cost
        from lakehouse.automation.datasets import datasets
        from lakehouse.instance import open_instance

    settings = _settings()
    chosen = [_dataset(settings, dataset)] if dataset else list(datasets(settings).values())
    with open_instance(settings) as instance, err.status("Measuring …"):
        found = cost(settings, instance, chosen)
    if as_json:
        _print_json(asdict(found))
        return
    _print_table(
        ("data set", "layer", "files", "MB", "MB of former versions", "$ a month"),
        [
            (
                *(each.dataset, each.layer, each.files, round(each.bytes / 1e6, 1)),
                *(round(each.former_bytes / 1e6, 1), round(each.dollars_a_month, 2)),
            )
            for each in found.layers
        ],
    )
    months = list(found.growth.items())[-_SHOWN:]
    if months:
        _say("MB by month: " + ", ".join(f"{month} {size / 1e6:,.1f}" for month, size in months))
    for of, hours in found.run_hours.items():
        _say(f"Runs of {of} took {hours:,.2f} hours in the last 30 days.")
    for line in (*found.saved, *found.unknown):
        _say(escape(line))
    _say(f"About {found.dollars_a_month:,.2f} dollars a month.")


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help='Such as "SELECT * FROM …".')],
    output: Annotated[Format, typer.Option("--format", help="How to show it.")] = Format.TABLE,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="TIME",
            help="The gold tables of drives and taxi as they were then, such as 2026-01-01 or"
            " 2026-01-01T12:00 (UTC), in the SQL of Polars; what was replaced is kept for 30 days.",
        ),
    ] = None,
) -> None:
    """Ask ClickHouse, with the account that can only read, what is published."""
    columns, rows = _rows_as_of(sql, as_of) if as_of else _published_rows(sql)
    if output is Format.JSON:
        _print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif output is Format.CSV:
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    else:
        _print_table(columns, rows)


def _published_rows(sql: str) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    from lakehouse.resources.clickhouse import ClickHouse

    with err.status("Asking ClickHouse …"):
        answer = ClickHouse(_settings()).query(sql)
    return answer.columns, answer.rows


def _rows_as_of(sql: str, as_of: str) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    with _loading():
        from lakehouse.automation.time_travel import query_as_of

    with err.status("Reading the lake …"):
        answer = query_as_of(_settings(), sql, _moment(as_of))
    return answer.columns, answer.rows()


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time; write it as 2026-01-01 or 2026-01-01T12:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@app.command()
def verify(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]")] = None,
    as_json: Json = False,
) -> None:
    """Read all files again and count along the chain of tables; exit code 1 if anything differs."""
    with _loading():
        from lakehouse.automation.datasets import datasets
        from lakehouse.automation.verification import verify as verify_dataset
        from lakehouse.instance import open_instance

    settings = _settings()
    chosen = [_dataset(settings, dataset)] if dataset else datasets(settings).values()
    with open_instance(settings) as instance, err.status("Verifying …") as shown:
        found = [
            verify_dataset(settings, instance, each, lambda what: shown.update(f"Reading {what} …"))
            for each in chosen
        ]
    if as_json:
        _print_json([asdict(each) | {"ok": each.ok} for each in found])
    else:
        _show_verified(found)
    if not all(each.ok for each in found):
        raise typer.Exit(1)


def _show_verified(found: "Sequence[Verification]") -> None:
    rows = [
        (each.dataset, what, size.files, round(size.bytes / 1e6, 1) if size.bytes else None)
        for each in found
        for what, size in each.examined.items()
    ]
    _print_table(("data set", "examined", "how many", "MB"), rows)
    for each in found:
        for difference in each.differences[:_SHOWN]:
            sentence = escape(difference.sentence)
            _say(f"[red]{escape(difference.place)}[/]: {sentence}")
        if len(each.differences) > _SHOWN:
            _say(f"… and {len(each.differences) - _SHOWN:,} more of {each.dataset}: see --json.")
        for note in each.notes[:_SHOWN]:
            _say(f"[yellow]{escape(note)}[/]")
    differing = sum(len(each.differences) for each in found)
    _say(f"[red]{differing:,} differ.[/]" if differing else "[green]Nothing differs.[/]")


TableName = Annotated[
    str, typer.Argument(metavar="TABLE", help="Of the lake, such as drives/gold/daily_summary.")
]


@app.command()
def history(table: TableName, as_json: Json = False) -> None:
    """Show the versions of a table of the lake: when, which partition, rows, files, run, source."""
    with _loading():
        from lakehouse.automation.time_travel import table_history
    from lakehouse.resources.lake import Lake

    versions = table_history(Lake(_settings()), table)
    if as_json:
        _print_json([asdict(version) for version in versions])
        return
    _print_table(
        ("version", "time (UTC)", "operation", "partition", "rows", "files", "run", "source"),
        [
            (
                *(v.version, f"{v.time:%Y-%m-%d %H:%M:%S}"),
                f"{v.operation} {v.restored}" if v.restored is not None else v.operation,
                *(v.partition, v.rows, v.files),
                *((v.run_id or "")[:8], (v.source_hash or "")[:12]),
            )
            for v in versions
        ],
        title=table,
    )


@app.command()
def restore(
    table: TableName,
    version: Annotated[int, typer.Option(min=0, help="As `lakehouse history` shows it.")],
    as_json: Json = False,
) -> None:
    """Put a table of the lake back to a version; what is made from it is stale from then on."""
    with _loading():
        from lakehouse.automation.datasets import datasets
        from lakehouse.automation.time_travel import restore_table
        from lakehouse.instance import open_instance

    settings = _settings()
    with open_instance(settings) as instance, err.status(f"Restoring {table} …"):
        restored = restore_table(
            *(settings, instance, list(datasets(settings).values())), table, version
        )
    if as_json:
        _print_json(asdict(restored))
        return
    partitions = sorted(restored.partitions)
    if not partitions:
        _say(f"{table} is what it was in version {version}; nothing was changed.")
        return
    _say(f"{table} is that of version {version} again, as version {restored.version}.")
    _say(
        f"Changed: {', '.join(partitions)}. What is made from them is stale: `lakehouse backfill"
        f" {table.partition('/')[0]}` over these months makes it."
    )


@app.command()
def rejects(
    dataset: DatasetName,
    first: From = None,
    last: To = None,
    service: Service = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Rows at most; a table shows 100, JSON all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the rows that were rejected: file, line, reason and the raw text."""
    import polars as pl

    from lakehouse.resources.lake import Lake

    settings = _settings()
    known = _dataset(settings, dataset)
    months = _months(known, first, last, service, default_all=True)
    lake = Lake(settings)
    found = pl.concat(
        lake.scan(stage.rejects)
        .filter(pl.col("month").is_between(pl.lit(months[0]), pl.lit(months[-1])))
        .sort("month", "file", "line")
        .collect()
        for stage in known.chosen(service)
        if stage.rejects
    )
    if as_json:
        _print_json((found if limit is None else found.head(limit)).to_dicts())
        return
    if found.is_empty():
        _say("Nothing was rejected.")
        return
    limit = limit or 100
    raw = pl.col("raw").str.head(60) + pl.when(pl.col("raw").str.len_chars() > 60).then(
        pl.lit(" …")
    ).otherwise(pl.lit(""))
    shown = found.head(limit).select("month", "file", "line", "reason", raw)
    _print_table(shown.columns, shown.rows())
    _say(f"{shown.height:,} of {found.height:,} rejected rows.")


@app.command()
def replay(dataset: DatasetName, as_json: Json = False) -> None:
    """Try the months with rejected rows again, once the cause is mended."""
    with _loading():
        from lakehouse.automation.console import backfill_on
    from lakehouse.resources.lake import Lake

    settings = _settings()
    known = _dataset(settings, dataset)
    lake = Lake(settings)
    console = None if as_json else out
    reports = []
    rows = left = 0
    for stage in known.stages:
        if stage.rejects is None:
            continue
        before = {month: n for month, n in lake.row_counts(stage.rejects).items() if n}
        if before:
            reports += backfill_on(
                *(settings, known, sorted(before), console, err),
                service=stage.name or None,
                force=True,
            )
        after = lake.row_counts(stage.rejects)
        rows += sum(before.values())
        left += sum(after.get(month, 0) for month in before)
    if reports:
        _push(settings)
    if as_json:
        _print_json({"before": rows, "left": left})
    elif rows:
        _say(f"Of {rows:,} rejected rows, {left:,} are rejected still.")
    else:
        _say("Nothing was rejected.")
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def _push(settings: "Settings") -> None:
    if settings.pushgateway_url:
        from lakehouse.serving.metrics import push

        push(settings)


def program() -> NoReturn:
    """Run the command as all that a process is for, and end that with it.

    Python itself would first take all modules apart, for a third of a second.
    """
    code: str | int | None = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    if isinstance(code, str):
        sys.exit(code)
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    atexit._run_exitfuncs()
    os._exit(code or 0)


def main() -> None:
    """Run the command; a mistake is one sentence on standard error, and exit code 1 or 2."""
    try:
        app()
    except LakehouseError as error:
        _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        _stopped()
    except SystemExit as end:
        # Typer makes this of a KeyboardInterrupt.
        if end.code == _INTERRUPTED:
            _stopped()
        raise
    except Exception as error:
        _explain(error)
        raise


def _explain(error: Exception) -> None:
    """End with one sentence where the settings or the machine are to blame."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    if isinstance(error, ValidationError):
        problem = error.errors(include_input=False, include_url=False)[0]
        name = "_".join(str(part) for part in problem["loc"]).upper()
        _fail(f"LAKEHOUSE_{name} cannot be used: {problem['msg'].removeprefix('Value error, ')}", 2)
    if isinstance(error, SettingsError):
        field = re.search(r'field "(\w+)"', str(error))
        name = f"LAKEHOUSE_{field[1].upper()}" if field else "a LAKEHOUSE_ variable"
        _fail(f"{name} cannot be used: it is not JSON", 2)
    home = str(_settings().state)
    # SQLite calls a full disk an I/O error.
    if is_disk_full(error) or _free_bytes(home) < _LEAST_FREE_BYTES:
        _fail(DISK_FULL, 1)
    if isinstance(error, OSError) and str(error.filename or "").startswith(home):
        _fail(
            f"{error.filename} cannot be used ({error.strerror}): set LAKEHOUSE_HOME to a folder"
            " that can be written",
            1,
        )


def _free_bytes(home: str) -> int:
    import shutil

    try:
        return shutil.disk_usage(home).free
    except OSError:
        return _LEAST_FREE_BYTES


def _fail(sentence: str, code: int) -> None:
    err.print(f"[red]Error:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
    sys.exit(code)


def _stopped() -> None:
    sentence = "Stopped. What was finished is kept; run the same command again to go on."
    err.print(f"[yellow]{sentence}[/]", highlight=False, soft_wrap=True)
    sys.exit(_INTERRUPTED)


@contextmanager
def _loading() -> Iterator[None]:
    """Imports within are a quarter faster, and so is the end of the program.

    The garbage collector looks at all modules again and again, and finds nothing in them; what is
    made later it looks at less often than every 700 objects.
    """
    # Read when Polars is imported. By default it gives memory back after half a second, and asking
    # for it anew from day to day of a file takes a twentieth of the time.
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,muzzy_decay_ms:-1")
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(_GARBAGE_OBJECTS)


def _settings() -> "Settings":
    from lakehouse.settings import Settings

    return Settings()


def _dataset(settings: "Settings", name: str) -> "Dataset":
    with _loading():
        from lakehouse.automation.datasets import NAMES, dataset

        if name not in NAMES:
            raise UsageError(f"there is no data set {name!r}; there is {', '.join(NAMES)}")
        return dataset(settings, name)


def _months(
    dataset: "Dataset",
    first: str | None,
    last: str | None,
    service: str | None = None,
    *,
    default_all: bool,
) -> list[str]:
    """The months that were asked for, or a sentence that says why they cannot be."""
    if service is not None and service not in dataset.services:
        there = ", ".join(dataset.services) or "none"
        raise UsageError(f"{dataset.name} has no service {service!r}; there is {there}")
    name = f"{dataset.name} {service}" if service else dataset.name
    known = sorted({month for stage in dataset.chosen(service) for month in stage.months})
    if first is None and not default_all:
        raise UsageError("name the months: --from 2018-01 --to 2018-03")
    first, last = first or known[0], last or first or known[-1]
    for month in (first, last):
        if not _MONTH.fullmatch(month):
            raise UsageError(f"{month!r} is not a month; write it as 2018-01")
        if month < known[0]:
            raise UsageError(f"there is no {month}: the first month of {name} is {known[0]}")
        if month > known[-1]:
            raise UsageError(f"{month} is not over; the last whole month is {known[-1]}")
    if first > last:
        raise UsageError(f"--from {first} lies after --to {last}")
    return [month for month in known if first <= month <= last]


def _say(line: str) -> None:
    out.print(line, highlight=False, soft_wrap=True)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    """The value as JSON knows it; what is no number becomes null, as in ClickHouse's own JSON."""
    from collections.abc import Mapping
    from decimal import Decimal

    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set) and not isinstance(value, bytes):
        return [_plain(item) for item in value]
    return str(value)


def _print_table(columns: Any, rows: Any, title: str | None = None) -> None:
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        numeric = all(_is_number(row[number]) for row in rows)
        table.add_column(Text(str(column)), overflow="fold", justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(Text("" if cell is None else written_out(str(cell))) for cell in row))
    out.print(table)


def _is_number(cell: Any) -> bool:
    from numbers import Number

    return cell is None or isinstance(cell, Number)


if __name__ == "__main__":
    program()
