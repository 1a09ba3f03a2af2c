"""Dagster is told of a model once its tests have passed, and not before what it is made from."""

from collections import defaultdict

import dagster as dg
import pytest

from lakehouse.resources.dbt import Made


@pytest.fixture
def made() -> Made:
    """Sales with two tests and their sum with one, both just made."""
    tests = defaultdict(set, {"sales": {"unique", "related"}, "sum": {"positive"}})
    return Made(tests, {name: dg.Output(None, output_name=name) for name in ("sales", "sum")})


def test_a_model_is_told_of_after_its_last_test(made: Made) -> None:
    made.was_tested("sales", "unique", failed=False)
    assert made.passed() == []
    made.was_tested("sales", "related", failed=False)
    assert made.passed() == ["sales"]


def test_what_is_made_from_a_model_waits_for_it(made: Made) -> None:
    made.was_tested("sum", "positive", failed=False)
    made.was_tested("sales", "unique", failed=False)
    assert made.passed() == []
    made.was_tested("sales", "related", failed=False)
    assert made.passed() == ["sales", "sum"]


def test_nobody_waits_for_a_model_that_failed(made: Made) -> None:
    made.was_tested("sales", "unique", failed=True)
    assert made.passed() == []
    made.was_tested("sum", "positive", failed=False)
    assert made.passed() == ["sum"]


def test_at_the_end_tests_that_were_skipped_hold_up_none(made: Made) -> None:
    made.was_tested("sales", "related", failed=False)
    assert made.not_failed() == ["sales", "sum"]


def test_a_model_without_tests_waits_for_none_of_its_own(made: Made) -> None:
    made.outputs = {"view": dg.Output(None, output_name="view")} | made.outputs
    assert made.passed() == ["view"]
