"""Which partitions are up to date: small assets, real runs, the rule of `make`."""

from collections.abc import Iterator

import dagster as dg
import pytest

from lakehouse.automation.freshness import State, dataset_state, held_back, needed
from lakehouse.partitions import drives_months, drives_years, months_of_year

MONTH, OTHER_MONTH, YEAR = "2018-02", "2018-03", "2018"


def asset(name: str, *upstream: dg.AssetsDefinition, code_version: str = "1"):
    """An asset of months, that fails on a run that is tagged with its name."""

    @dg.asset(
        name=name,
        deps=upstream,
        partitions_def=drives_months,
        code_version=code_version,
        output_required=False,
    )
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        if context.run.tags.get("break") == name:
            raise dg.Failure("It broke.")
        return dg.MaterializeResult()

    return made


raw = asset("raw")
silver = asset("silver", raw)
gold = asset("gold", silver)


@dg.asset(
    deps=[dg.AssetDep(silver, partition_mapping=months_of_year)],
    partitions_def=drives_years,
    code_version="1",
)
def yearly() -> None: ...


@dg.asset_check(asset=silver, partitions_def=drives_months, blocking=True)
def readable(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    verdict = context.run.tags.get("check", "passed")
    severity = dg.AssetCheckSeverity.WARN if verdict == "warned" else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        passed=verdict == "passed", severity=severity, description=f"It {verdict}."
    )


MONTHLY = [raw, silver, gold]
ALL = [*MONTHLY, yearly]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def make(instance, *assets, partition=MONTH, checks=(readable,), **tags: str) -> None:
    made = [asset for asset in ALL if asset in assets]
    chosen = [check for check in checks if silver in assets]
    dg.materialize(
        [*made, *chosen, *(a for a in ALL if a not in made)],
        selection=dg.AssetSelection.assets(*made)
        if not chosen
        else dg.AssetSelection.assets(*made) | dg.AssetSelection.checks(*chosen),
        instance=instance,
        partition_key=partition,
        tags=tags,
        raise_on_error=False,
    )


def state(instance, assets=ALL, **options):
    return dataset_state(instance, specs(assets), list(readable.check_specs), **options)


def states(instance, partition=MONTH, assets=MONTHLY, **options) -> list[State]:
    found = state(instance, assets, **options)
    return [found.of(asset.key, partition) for asset in assets]


def specs(assets) -> list[dg.AssetSpec]:
    return [spec for asset in assets for spec in asset.specs]


def names(keys) -> list[str]:
    return [key.to_user_string() for key in keys]


def test_what_was_never_made_is_missing_and_all_of_it_is_needed(instance):
    assert states(instance) == [State.MISSING] * 3
    assert names(needed(specs(MONTHLY), state(instance), MONTH)) == ["raw", "silver", "gold"]


def test_what_was_made_in_one_run_is_fresh_and_nothing_is_needed(instance):
    make(instance, *MONTHLY)

    assert states(instance) == [State.FRESH] * 3
    assert states(instance, OTHER_MONTH) == [State.MISSING] * 3
    assert needed(specs(MONTHLY), state(instance), MONTH) == []


def test_what_follows_is_stale_after_something_upstream_was_made_again(instance):
    make(instance, *MONTHLY)
    make(instance, silver)

    assert states(instance) == [State.FRESH, State.FRESH, State.STALE]
    assert names(needed(specs(MONTHLY), state(instance), MONTH)) == ["gold"]


def test_all_that_follows_what_is_needed_is_needed(instance):
    make(instance, *MONTHLY)
    make(instance, raw)

    assert names(needed(specs(MONTHLY), state(instance), MONTH)) == ["silver", "gold"]


def test_a_new_code_version_makes_an_asset_stale(instance):
    make(instance, *MONTHLY)
    changed = [raw, asset("silver", raw, code_version="2"), gold]

    assert states(instance, assets=changed) == [State.FRESH, State.STALE, State.FRESH]
    assert names(needed(specs(changed), state(instance, changed), MONTH)) == ["silver", "gold"]


def test_a_year_is_stale_after_one_of_its_months_was_made_again(instance):
    make(instance, *MONTHLY)
    make(instance, yearly, partition=YEAR)
    assert state(instance).of(yearly.key, YEAR) is State.FRESH

    make(instance, *MONTHLY, partition=OTHER_MONTH)

    assert state(instance).of(yearly.key, YEAR) is State.STALE


def test_a_failed_check_that_stops_makes_its_asset_failed_until_it_passes(instance):
    make(instance, *MONTHLY, check="failed")

    assert states(instance) == [State.FRESH, State.FAILED, State.FAILED]
    assert names(needed(specs(MONTHLY), state(instance), MONTH)) == ["silver", "gold"]
    assert [check.sentence for check in state(instance).failing] == ["It failed."]

    make(instance, *MONTHLY)

    assert states(instance) == [State.FRESH] * 3
    assert state(instance).failing == []


def test_a_failed_check_that_only_warns_leaves_its_asset_fresh(instance):
    make(instance, *MONTHLY, check="warned")

    assert states(instance) == [State.FRESH] * 3
    assert [check.stops for check in state(instance).failing] == [False]


def test_an_attempt_that_made_nothing_is_failed_though_an_older_one_succeeded(instance):
    make(instance, *MONTHLY)
    make(instance, silver, gold, **{"break": "silver"})

    assert states(instance) == [State.FRESH, State.FAILED, State.FAILED]
    assert states(instance, OTHER_MONTH) == [State.MISSING] * 3


def test_what_was_published_again_is_stale_until_it_is_made_again(instance):
    make(instance, *MONTHLY)
    instance.report_runless_asset_event(dg.AssetObservation(raw.key, partition=MONTH))
    assert states(instance) == [State.STALE, State.FRESH, State.FRESH]
    assert names(needed(specs(MONTHLY), state(instance), MONTH)) == ["raw", "silver", "gold"]

    make(instance, *MONTHLY)

    assert states(instance) == [State.FRESH] * 3


def test_what_is_fresh_is_stale_when_its_source_is_another_now(instance):
    make(instance, *MONTHLY)
    make(instance, raw)

    def is_current(key, partition, made) -> bool:
        assert partition == MONTH
        asked.append(key.to_user_string())
        return key != raw.key

    asked: list[str] = []
    found = states(instance, is_current=is_current)

    assert found == [State.STALE, State.STALE, State.FRESH]
    assert asked == ["raw", "gold"]


def test_a_year_is_held_back_while_a_check_fails_on_one_of_its_months(instance):
    make(instance, *MONTHLY)
    make(instance, *MONTHLY, partition=OTHER_MONTH, check="failed")

    held = held_back(specs([yearly]), state(instance), YEAR, [yearly.key])

    assert [check.sentence for check in held[yearly.key]] == ["It failed."]
    assert held_back(specs([yearly]), state(instance), "2019", [yearly.key]) == {}


def test_what_is_made_anew_with_its_upstream_is_not_held_back_by_an_old_verdict(instance):
    make(instance, *MONTHLY, check="failed")

    assert held_back(specs(MONTHLY), state(instance), MONTH, [silver.key, gold.key]) == {}
    assert names(held_back(specs(MONTHLY), state(instance), MONTH, [gold.key])) == ["gold"]
