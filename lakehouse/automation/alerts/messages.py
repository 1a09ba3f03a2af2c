"""The words: what people get to read of failures and recoveries. Pure functions."""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import dagster as dg

from lakehouse.automation.alerts.findings import LINE_LENGTH, Failure, Finding, Well, capped
from lakehouse.partitions import spans
from lakehouse.resources.notifier import Kind

GOES_ON = "The backfill goes on; all that failed of it is told when it is over."

_LINES = 10
_NAMED_ALONE = 5
"""Partitions that are no months and cannot be named as `first to last`."""
_MONTH = re.compile(r"\d{4}-\d{2}")

_F = TypeVar("_F", bound=Finding)


class Message(NamedTuple):
    """What people get to read."""

    title: str
    body: str
    kind: Kind


def failures_message(failures: Sequence[Failure], url: str) -> Message:
    """The message of failures that are told together.

    Args:
        failures: One or more.
        url: Where people find Dagster's UI, without a slash at the end.
    """
    if len(failures) == 1 and failures[0].check:
        return _failed_check(failures[0], url)
    if len({failure.run_id for failure in failures}) == 1 and not any(f.check for f in failures):
        return _failed_run(failures, url)
    return _failed_many(failures, url)


def _failed_check(failure: Failure, url: str) -> Message:
    severity = failure.severity + (", blocking" if failure.blocking else "")
    return _message(
        _kind([failure]),
        f"Check failed: {_join(failure.what, failure.where)}: {failure.check}",
        f"Severity: {severity}",
        *capped(failure.sentence.splitlines(), _LINES),
        *failure.details,
        _check_link(failure, url),
        _run_link(failure, url),
    )


def _failed_run(failures: Sequence[Failure], url: str) -> Message:
    first = failures[0]
    return _message(
        _kind(failures),
        f"Run failed: {_join(job_in_words(first.job), first.where)}",
        "Severity: ERROR",
        *capped([f"{failure.what}: {failure.sentence}" for failure in failures], _LINES),
        _run_link(first, url),
    )


def job_in_words(job: str) -> str:
    """The name of a job, as people write it."""
    # The job that Dagster makes for assets chosen by hand or by a condition has no name of its own.
    return "materialization" if job.startswith("__") else job


def _failed_many(failures: Sequence[Failure], url: str) -> Message:
    errors = [failure for failure in failures if failure.severity == "ERROR"]
    warnings = [failure for failure in failures if failure.severity != "ERROR"]
    counts = " and ".join([*_counted(len(errors), "failure"), *_counted(len(warnings), "warning")])
    return _message(
        _kind(failures),
        f"{counts}: {_places(failures)}",
        f"Severity: {'ERROR' if errors else 'WARN'}",
        *capped([*_reasons(errors), *_reasons(warnings)], _LINES),
        _link(failures, url),
    )


def _reasons(failures: Sequence[Failure]) -> list[str]:
    """A line for each reason: how often, where, and what was said first; the most frequent first.

    Sentences that differ in their numbers alone give the same reason.
    """
    return [
        _counted_line(alike) + f": {alike[0].sentence.splitlines()[0]}"
        if alike[0].sentence
        else _counted_line(alike)
        for alike in _alike(failures, lambda f: (f.what, f.check, re.sub(r"\d+", "#", f.sentence)))
    ]


def recoveries_message(recoveries: Sequence[tuple[Well, float]], url: str) -> Message:
    """The message of what is well again, with the time since when each had failed."""
    found = [well for well, _ in recoveries]
    since = datetime.fromtimestamp(min(since for _, since in recoveries), UTC)
    if len(found) == 1:
        [well] = found
        state = "passes" if well.check else "is made"
        return _message(
            "success",
            f"Recovered: {_named(well)}",
            f"It {state} now, and was told to have failed on {since:%Y-%m-%d %H:%M} UTC.",
            _check_link(well, url),
            _run_link(well, url),
        )
    return _message(
        "success",
        f"{len(found)} recovered: {_places(found)}",
        f"Told to have failed since {since:%Y-%m-%d %H:%M} UTC.",
        *capped([_counted_line(a) for a in _alike(found, lambda f: (f.what, f.check))], _LINES),
        _link(found, url),
    )


def left_failed_message(
    partitions: Sequence[tuple[dg.AssetKey, str]],
    runs: Sequence[tuple[str, float]],
    unreadable: int,
    url: str,
) -> Message:
    """The message of the partitions that runs left failed.

    Args:
        partitions: The partitions.
        runs: The runs that left them, and when each failed.
        unreadable: How many of the runs cannot be told of in detail.
        url: Where people find Dagster's UI, without a slash at the end.
    """
    found: dict[str, set[str]] = {}
    for key, partition in partitions:
        found.setdefault(key.to_user_string(), set()).add(partition)
    names = [f"{what} {partition}" for what in sorted(found) for partition in sorted(found[what])]
    names += ["a run whose details cannot be told"] * unreadable
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    run_id, failed_at = runs[0]
    return _message(
        "failure",
        f"Left failed since yesterday: {names[0]}{more}",
        f"Severity: ERROR, failed at {datetime.fromtimestamp(failed_at, UTC):%Y-%m-%d %H:%M} UTC",
        *capped([f"{what} {_spans(found[what])}" for what in sorted(found)], _LINES),
        f"Run: {url}/runs/{run_id}",
    )


def bare_message(failures: int, run_id: str, url: str) -> Message:
    """The message of failures whose words cannot be found."""
    return _message(
        "failure",
        f"Failed, see Dagster for details: {' '.join(_counted(failures, 'failure'))}",
        "Severity: ERROR",
        f"Run: {url}/runs/{run_id}",
    )


def _message(kind: Kind, title: str, *lines: str) -> Message:
    return Message(title, "\n".join(line for line in lines if line), kind)


def _kind(failures: Iterable[Failure]) -> Kind:
    return "failure" if any(f.severity == "ERROR" for f in failures) else "warning"


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def _counted(count: int, word: str) -> list[str]:
    return [f"{count} {word}{'s' if count > 1 else ''}"] if count else []


def _named(finding: Finding) -> str:
    name = _join(finding.what, finding.where)
    return f"{name}: {finding.check}" if finding.check else name


def _counted_line(alike: Sequence[Finding]) -> str:
    """What findings that are alike are of: `3 times taxi/raw/green_trips 2018-01 to 2018-03`."""
    first = alike[0]
    times = f"{len(alike)} times " if len(alike) > 1 else ""
    name = _join(first.what, _spans(finding.where for finding in alike))
    return f"{times}{name}" + (f": {first.check}" if first.check else "")


def _alike(findings: Iterable[_F], reason: Callable[[_F], Hashable]) -> list[list[_F]]:
    groups: dict[Hashable, list[_F]] = {}
    for finding in findings:
        groups.setdefault(reason(finding), []).append(finding)
    return sorted(groups.values(), key=len, reverse=True)


def _places(findings: Sequence[Finding]) -> str:
    """The data sets, how many of each where there are several, and the partitions."""
    counts = Counter(finding.what.partition("/")[0] for finding in findings)
    names = [name if len(counts) == 1 else f"{name} {counts[name]}" for name in sorted(counts)]
    return _capped_line(", ".join(filter(None, [*names, _spans(f.where for f in findings)])))


def _spans(partitions: Iterable[str]) -> str:
    """Partitions in words, months that follow each other as `first to last`."""
    found = set(partitions) - {""}
    months = {partition for partition in found if _MONTH.fullmatch(partition)}
    others = sorted(found - months)
    more = [f"and {len(others) - _NAMED_ALONE} more"] if len(others) > _NAMED_ALONE else []
    return ", ".join(filter(None, [spans(months), *others[:_NAMED_ALONE], *more]))


def _capped_line(text: str) -> str:
    return text if len(text) <= LINE_LENGTH else text[: LINE_LENGTH - 2] + " …"


def _check_link(finding: Finding, url: str) -> str:
    if not finding.check:
        return ""
    path = "/".join(quote(part, safe="") for part in finding.what.split("/"))
    return f"Check: {url}/assets/{path}?view=checks&checkDetail={quote(finding.check)}"


def _run_link(finding: Finding, url: str) -> str:
    return f"Run: {url}/runs/{finding.run_id}" if finding.run_id else ""


def _link(findings: Sequence[Finding], url: str) -> str:
    """Where all of them are: their run, their backfill, or the runs of their job."""
    first = findings[0]
    kind, _, name = first.group.partition("=")
    if len({finding.run_id for finding in findings}) == 1:
        return _run_link(first, url)
    if kind == "dagster/backfill":
        return f"Backfill: {url}/runs/b/{quote(name)}"
    if kind == "job":
        return f"Runs: {url}/runs?q[0]={quote(f'job:{name}')}"
    return f"Runs: {url}/runs?q[0]={quote(f'tag:{kind}={name}')}"
