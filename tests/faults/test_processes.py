"""Several processes make the same months, and different ones, at once."""

import dataclasses
from pathlib import Path

import pytest
from faults.choice import choose, choose_datasets
from faults.rehearsal import Rehearsal
from faults.subjects import SUBJECTS
from homes import ended

SAME, DIFFERENT = "the same months", "different months"
FEW = {"drives": [(2, SAME), (2, DIFFERENT)], "taxi": [(2, SAME)], "retail": [(2, DIFFERENT)]}
MANY = dict.fromkeys(SUBJECTS, ((2, SAME), (2, DIFFERENT), (8, SAME), (8, DIFFERENT)))
EIGHT_MONTHS = {
    "drives": tuple(f"2018-{month:02d}" for month in range(1, 9)),
    "taxi": tuple(f"2020-{month:02d}" for month in range(1, 9)),
    "retail": ("2010-10", "2010-11", "2010-12", "2011-01", "2011-02"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    choose(metafunc, "at_once", FEW, MANY)
    choose_datasets(metafunc, {"test_published_again_while_it_is_made": ["drives"]})


def test_at_once(rehearsal: Rehearsal, at_once: tuple[int, str], tmp_path: Path) -> None:
    count, which = at_once
    if at_once == (8, DIFFERENT):
        properties, name = rehearsal.properties, rehearsal.subject.name
        subject = dataclasses.replace(SUBJECTS[name], months=EIGHT_MONTHS[name])
        rehearsal = Rehearsal(subject, tmp_path)
        rehearsal.properties = properties
        try:
            rehearsal.prepare()
            _make_at_once(rehearsal, count, which)
        finally:
            rehearsal.end()
    else:
        _make_at_once(rehearsal, count, which)


def _make_at_once(rehearsal: Rehearsal, count: int, which: str) -> None:
    subject = rehearsal.subject
    months = subject.months
    parts = [() if which == SAME else (months[n % len(months)],) for n in range(count)]
    rehearsal.publish_another()
    with rehearsal.disturbed(f"{count} processes, {which}"):
        processes = [rehearsal.home.start(*subject.backfill(*each), "--force") for each in parts]
        answers = [ended(process, 600) for process in processes]
        assert [answer.code for answer in answers] == [0] * count, answers


def test_published_again_while_it_is_made(rehearsal: Rehearsal) -> None:
    """One process began with one edition; the other one comes with the next."""
    subject, home = rehearsal.subject, rehearsal.home
    rehearsal.publish_another()
    with rehearsal.disturbed("published again while it is made"):
        first = home.start(*subject.backfill())
        home.wait_until_it_begins(first, next(iter(subject.steps["download"])))
        rehearsal.publish_another()
        second = home.start(*subject.backfill())
        assert "Traceback" not in str([ended(first), ended(second)])
