"""Health: how the data stands, month by month, and what is wrong with it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from html import escape

from lakehouse.automation.datasets import NAMES
from lakehouse.serving.dashboard.formatting import NONE, age, number
from lakehouse.serving.dashboard.frame import Page
from lakehouse.serving.dashboard.parts import (
    Content,
    Filter,
    Month,
    Section,
    Tile,
    calendar,
    legend,
    table,
)
from lakehouse.serving.dashboard.ranges import choices, chosen
from lakehouse.serving.health import Health
from lakehouse.serving.readings import Row

_STATES = {
    "fresh": Month("good", "✓", "up to date"),
    "stale": Month("warn", "!", "stale, made in part, or a check warns"),
    "failed": Month("bad", "✕", "failed, or a check stops it"),
    "missing": Month("none", "·", "missing"),
}


def page(health: Health, dagster_url: str) -> Page:
    """The page of the data's health."""
    return Page(
        path="/health",
        title="Health",
        about="Which months are there and sound, which checks fail, and what was rejected.",
        filters=frozenset({"dataset"}),
        read=partial(_read, health, dagster_url),
        to_fill="lakehouse backfill drives --from 2018-01 --to 2018-03",
    )


def _read(health: Health, dagster_url: str, values: Mapping[str, str]) -> Content | None:
    only = chosen(values, "dataset", list(NAMES))
    overview = [row for row in health.overview() if only in (None, row["dataset"])]
    failing = health.failing(only)
    if not only and not failing and all(row["last_success"] is None for row in overview):
        return None
    rejects = [row for row in health.rejects() if only in (None, row["dataset"])]
    names = [row["dataset"] for row in overview]
    return Content(
        filters=[Filter("dataset", "Data set", choices("All data sets", list(NAMES)))],
        note=f"As of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        tiles=[tile for row in overview for tile in _tiles(row)],
        parts=[
            _calendars(health, names, failing),
            _failing(failing, dagster_url),
            _rejects(rejects),
            _freshness([row for row in health.datasets() if row["dataset"] in names]),
        ],
        wide=frozenset(["Months", "Failing checks", "Rejected rows", "Tables"]),
    )


def _tiles(row: Row) -> list[Tile]:
    name, days = row["dataset"].capitalize(), row["newest_data_age_days"]
    bad = row["checks_failed"]
    warned = row["checks_warned"]
    checks = f"{number(row['checks_passed'])} checks pass, {warned} warn, {bad} fail"
    if row["last_success"] is None:
        return [Tile(name, NONE, "nothing is built yet")]
    return [
        Tile(
            f"{name}: newest month",
            row["newest_data"] or NONE,
            f"{number(days)} days old; {checks}",
        )
    ]


def _calendars(health: Health, names: Sequence[str], failing: Sequence[Row]) -> Section:
    grids = "".join(_calendar_of(health, name, failing) for name in names)
    return Section(
        "Months",
        "The state of each month, the worst of all tables made from it.",
        legend(_STATES.values()) + f'<div class="calendars">{grids}</div>',
    )


def _calendar_of(health: Health, name: str, failing: Sequence[Row]) -> str:
    services = {row["asset"]: row["service"] for row in health.months(name)}
    warned = {
        (services[check["asset"]], check["partition"])
        for check in failing
        if check["asset"] in services
    }
    months: dict[str, dict[str, Month]] = defaultdict(dict)
    for row in health.calendar(name):
        service, month, state = row["service"], row["month"], row["state"]
        if state == "fresh" and (service, month) in warned:
            state = "stale"
        months[service][month] = _STATES[state]
    if not months:
        return f"<div><h3>{name.capitalize()}</h3><p>Nothing is built yet.</p></div>"
    return "".join(
        calendar(f"{name} {service}".strip().capitalize(), states)
        for service, states in sorted(months.items())
    )


def _failing(failing: Sequence[Row], dagster_url: str) -> Section:
    if not failing:
        return Section(
            "Failing checks", "Every check's latest evaluation.", _good("None of them fails.")
        )
    rows = [
        (
            check["asset"],
            check["check"],
            check["partition"] or "all",
            "Stops what follows" if check["stops"] else "Warns",
            check["sentence"],
        )
        for check in sorted(failing, key=lambda check: not check["stops"])
    ]
    header = ("Table", "Check", "Partition", "Severity", "What was found")
    return Section(
        "Failing checks",
        f"{number(len(failing))} by their latest evaluation, those that stop what follows first.",
        _records("Failing checks", header, rows, texts=len(header))
        + f'<p class="more"><a href="{escape(dagster_url)}/runs">The runs in Dagster</a></p>',
    )


def _rejects(rejects: Sequence[Row]) -> Section:
    if not rejects:
        return Section("Rejected rows", "Rows that could not be used.", _good("There are none."))
    rows = [
        (f"{row['dataset']} {row['service']}".strip(), row["month"], number(row["rows"]))
        for row in rejects
    ]
    total = sum(row["rows"] for row in rejects)
    return Section(
        "Rejected rows",
        f"{number(total)} rows that could not be used; “lakehouse rejects” shows them and why.",
        table("Rejected rows", ("Data set", "Month", "Rows"), rows, texts=2),
    )


def _freshness(assets: Sequence[Row]) -> Section:
    rows = [
        (
            row["asset"],
            row["newest"] or NONE,
            age(row["last_success"]),
            number(row["rows"]),
            *(number(row[state]) for state in _STATES),
            number(row["checks_passed"]),
            number(row["checks_warned"] + row["checks_failed"]),
        )
        for row in assets
        if row["partitions"] or row["failed"]
    ]
    header = (
        *("Table", "Newest partition", "Last made", "Rows"),
        *("Up to date", "Stale", "Failed", "Missing", "Checks that pass", "That do not"),
    )
    return Section(
        "Tables",
        "Each table and file: its newest partition, its partitions by state, its checks.",
        _records("Tables", header, rows, texts=3),
    )


def _records(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """A table of so many columns that narrow screens show them one below the other."""
    return f'<div class="records">{table(caption, header, rows, texts)}</div>'


def _good(sentence: str) -> str:
    return f'<p class="badge good">✓ {escape(sentence)}</p>'
