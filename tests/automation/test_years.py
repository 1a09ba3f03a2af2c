"""Years follow their months by themselves: the condition of the real years, on small assets."""

import dagster as dg
import pytest

from lakehouse.assets.drives import yearly_summary
from lakehouse.automation.drives import yearly_assets
from lakehouse.partitions import drives_months, drives_years, months_of_year


@dg.asset(partitions_def=drives_months)
def bronze() -> None: ...


@dg.asset(partitions_def=drives_months, deps=[bronze])
def silver() -> None: ...


@dg.asset(
    partitions_def=drives_years,
    deps=[dg.AssetDep(silver, partition_mapping=months_of_year)],
    automation_condition=yearly_summary.get_asset_spec().automation_condition,
)
def yearly() -> None: ...


@dg.asset(
    partitions_def=drives_years,
    deps=[yearly],
    automation_condition=yearly_summary.get_asset_spec().automation_condition,
)
def published() -> None: ...


def check(asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    """A blocking check that fails in runs that are tagged with the asset's name."""
    name = asset.key.to_user_string()

    @dg.asset_check(name="sound", asset=asset, partitions_def=drives_months, blocking=True)
    def sound(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=context.run.tags.get("spoil") != name)

    return sound


class Years:
    """The sensor that asks for years, evaluated as the daemon does it."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._definitions = dg.Definitions(
            assets=[bronze, silver, yearly, published], asset_checks=[check(bronze), check(silver)]
        )
        self._cursor = None

    def run(self, *assets: dg.AssetsDefinition, partition: str, spoil: str = "nothing") -> None:
        self._definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            partition_key=partition,
            instance=self._instance,
            asset_selection=[asset.key for asset in assets],
            tags={"spoil": spoil},
            raise_on_error=False,
        )

    def requested(self) -> set[tuple[str, str]]:
        result = dg.evaluate_automation_conditions(
            self._definitions, self._instance, cursor=self._cursor
        )
        self._cursor = result.cursor
        return {
            (asset.key.to_user_string(), partition)
            for asset in (yearly, published)
            for partition in result.get_requested_partitions(asset.key)
        }


def all_of(year: str) -> set[tuple[str, str]]:
    return {("yearly", year), ("published", year)}


@pytest.fixture
def years():
    with dg.DagsterInstance.ephemeral() as instance:
        years = Years(instance)
        assert years.requested() == set()
        yield years


def test_all_years_follow_by_the_same_condition():
    conditions = {asset.get_asset_spec().automation_condition for asset in yearly_assets}

    assert conditions == {yearly_summary.get_asset_spec().automation_condition}


def test_a_year_is_asked_for_once_after_its_months(years):
    years.run(bronze, silver, partition="2018-02")
    years.run(bronze, silver, partition="2018-03")

    assert years.requested() == all_of("2018")
    assert years.requested() == set()

    years.run(yearly, published, partition="2018")
    assert years.requested() == set()


def test_a_month_that_is_made_again_asks_for_its_year_again(years):
    for _ in range(2):
        years.run(bronze, silver, partition="2018-02")
        assert years.requested() == all_of("2018")
        years.run(yearly, published, partition="2018")
        assert years.requested() == set()


def test_a_month_that_ends_while_its_year_is_made_is_not_passed_over(years):
    """Between two ticks of the sensor the year is made, and then one more month."""
    years.run(bronze, silver, partition="2018-02")
    assert years.requested() == all_of("2018")
    years.run(yearly, published, partition="2018")
    years.run(bronze, silver, partition="2018-03")

    assert years.requested() == all_of("2018")
    assert years.requested() == set()


def test_a_month_that_was_stopped_before_it_reached_silver_asks_for_nothing(years):
    years.run(bronze, silver, partition="2018-02", spoil="bronze")

    assert years.requested() == set()


def test_a_year_waits_while_a_check_fails_on_what_it_is_made_from(years):
    years.run(bronze, silver, partition="2018-02", spoil="silver")
    assert years.requested() == set()

    years.run(bronze, silver, partition="2018-03")
    years.run(bronze, silver, partition="2019-03")
    assert years.requested() == all_of("2019")

    years.run(bronze, silver, partition="2018-02")
    assert years.requested() == all_of("2018")
