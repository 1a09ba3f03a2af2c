"""What an undisturbed run makes: all there is, and the same in any order and by force."""

from collections.abc import Callable
from pathlib import Path

import pytest
from faults.choice import choose_datasets
from faults.rehearsal import EDITIONS, Rehearsal, difference
from homes import Home

SAME = {
    *("marts.Dim_Country", "marts.Dim_Product", "quality.anomaly_invoice"),
    *("vault.hub_country", "vault.hub_product", "rejects"),
}
"""Tables of Online Retail that have the same rows in both editions."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = (
        "test_there_is_something_in_every_table_and_another_edition_changes_it",
        "test_by_force",
        "test_in_another_order_in_a_new_home",
    )
    few = dict.fromkeys(names, ("drives", "taxi"))
    choose_datasets(metafunc, few)


def test_there_is_something_in_every_table_and_another_edition_changes_it(
    rehearsal: Rehearsal,
) -> None:
    first, second = (rehearsal.in_peace(edition) for edition in EDITIONS)

    assert first.keys() == second.keys()
    assert not [name for name in first if not first[name]]
    assert {name for name in first if first[name] == second[name]} <= SAME


def test_by_force(rehearsal: Rehearsal) -> None:
    with rehearsal.disturbed("again by force"):
        for report in rehearsal.run("--force", "--json").json:
            assert report["ran"]


def test_in_another_order_in_a_new_home(
    rehearsal: Rehearsal, tmp_path: Path, make_home: Callable[[Path], Home]
) -> None:
    subject, edition = rehearsal.subject, EDITIONS[-1]
    subject.publish(tmp_path / "mirror", edition, subject.months)
    home = make_home(tmp_path / "mirror")
    for month in reversed(subject.months):
        answer = home.call(*subject.backfill(month))
        assert answer.code == 0, answer.out + answer.err

    found, expected = subject.tables(home), rehearsal.in_peace(edition)
    assert difference(found, expected) == difference(expected, found) == {}


@pytest.mark.parametrize("dataset", ["taxi"])
def test_another_edition_of_one_month_leaves_the_other_alone(rehearsal: Rehearsal) -> None:
    subject = rehearsal.subject
    with rehearsal.disturbed("one month published again"):
        subject.publish(rehearsal.home.mirror, rehearsal.other_edition, subject.months[:1])
        reports = rehearsal.run("--json").json

        # The zones were published again, too, though they are the same.
        assert [report["partition"] for report in reports if report["ran"]] == [
            "",
            subject.months[0],
        ]
        first, second = (f"data/green/green_tripdata_{month}.parquet" for month in subject.months)
        found = subject.tables(rehearsal.home)
        assert (found[first], found[second]) == (
            rehearsal.in_peace(rehearsal.other_edition)[first],
            rehearsal.in_peace()[second],
        )
        rehearsal.publish(rehearsal.edition)
