"""A rule that is broken turns its check red, says in which rows, and stops what follows.

Staged rows are doubled in ClickHouse itself, behind the back of the lakehouse, so that its own
checks of what it stages have nothing to say.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from homes import Home
from retail_homes import DBT, MONTHS, backfill, history, publish, tables

from lakehouse.automation.datasets import dataset
from lakehouse.history import latest_materializations
from lakehouse.resources.clickhouse import ClickHouse

MONTH, OTHER = MONTHS[1], MONTHS[2]
DOUBLED = "vault/sat_invoice unique_sat_invoice: "


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Two months of the sample."""
    root = tmp_path_factory.mktemp("checks")
    publish(root / "mirror")
    home = Home(root / "home", root / "mirror")
    try:
        home.backfill(MONTH, OTHER, dataset="retail")
        yield home
    finally:
        home.down()


def materialization(home: Home, name: str, month: str) -> dict[str, Any]:
    """What the latest materialization of a table's month reports."""
    (key,) = (
        spec.key for spec in dataset(home.settings, "retail").specs if spec.key.path[-1] == name
    )
    with history(home) as instance:
        return dict(latest_materializations(instance, key)[month].metadata)


def test_every_model_reports_its_rows(built: Home) -> None:
    for table in ("marts.Fact_Sales", "vault.sat_invoice", "quality.anomaly_customer_invoices"):
        day = "EFFECTIVE_FROM" if "vault" in table else "invoice_date"
        counts = {
            row["month"]: row["rows"]
            for row in built.query(
                f"SELECT formatDateTime({day}, '%Y-%m') AS month, count() AS rows"
                f" FROM {table} GROUP BY month"
            )
        }
        for month in (MONTH, OTHER):
            reported = materialization(built, table.partition(".")[2], month)
            assert reported["dagster/partition_row_count"] == counts[month]
            assert reported["dagster/row_count"] == sum(counts.values())
    (hub,) = built.query("SELECT count() AS rows FROM vault.hub_product")
    assert materialization(built, "hub_product", MONTH)["dagster/row_count"] == hub["rows"]


def test_every_model_has_columns_and_where_they_are_from(built: Home) -> None:
    specs = {spec.key.path[-1]: spec for spec in dataset(built.settings, "retail").specs}
    models = [spec for spec in specs.values() if spec.key.path[1] in ("vault", "marts", "quality")]

    for spec in models:
        columns = spec.metadata["dagster/column_schema"].columns
        deps = spec.metadata["dagster/column_lineage"].deps_by_column
        assert [column.name for column in columns] == list(deps)
        assert all(column.type and column.description for column in columns)
        assert spec.kinds == {"dbt", "clickhouse"}
    assert len(models) == 27
    sales = specs["Fact_Sales"].metadata["dagster/column_lineage"].deps_by_column
    invoices = specs["sat_invoice"].metadata["dagster/column_lineage"].deps_by_column
    assert [(dep.asset_key.path, dep.column_name) for dep in sales["total_amount"]] == [
        (["retail", "vault", "bridge_invoice"], "TotalAmount")
    ]
    assert [(dep.asset_key.path, dep.column_name) for dep in invoices["TotalAmount"]] == [
        (["retail", "raw", "psa_online_retails"], "TotalAmount")
    ]


def test_a_test_that_fails_shows_its_rows_and_stops_what_follows_until_it_is_mended(
    built: Home,
) -> None:
    before = tables(built)
    doubled = "INSERT INTO raw.psa_online_retails SELECT * FROM raw.psa_online_retails"
    with ClickHouse(built.settings).client() as client:
        client.command(f"{doubled} WHERE toYYYYMM(InvoiceDate) = 201011 AND Row % 10 = 0")
        (count,) = client.query(
            "SELECT count() / 2 FROM raw.psa_online_retails"
            " WHERE toYYYYMM(InvoiceDate) = 201011 AND Row % 10 = 0"
        ).first_row

    answer = built.call("backfill", "retail", "--from", MONTH, "--force", "--select", DBT)

    # The lines of the command say which rule, how many rows, and where they are.
    assert answer.code == 1
    (line,) = [line for line in answer.out.splitlines() if DOUBLED in line]
    assert f"{count:.0f} rows in quality_failures.unique_sat_invoice, such as hub_invoice" in line
    assert "Traceback" not in answer.out + answer.err
    assert "n_records 2" in line
    kept = built.query("SELECT * FROM quality_failures.unique_sat_invoice")
    assert len(kept) == count
    assert {row["n_records"] for row in kept} == {2}

    # What was made of the vault stands as it stood.
    def published() -> dict[str, str]:
        return {name: rows for name, rows in tables(built).items() if name[0] in "mq"}

    assert published() == {name: rows for name, rows in before.items() if name[0] in "mq"}
    (status,) = built.call("status", "retail", "--json").json
    failing = {(check["asset"], check["check"]): check for check in status["failing_checks"]}
    assert failing["retail/vault/sat_invoice", "unique_sat_invoice"]["stops"]
    assert MONTH in {m for months in status["failed_partitions"].values() for m in months}

    # Another month passes the same test; that does not make the rows of this one good.
    backfill(built, "--force", "--select", DBT, month=OTHER)
    answer = built.call("backfill", "retail", "--from", MONTH)
    assert answer.code == 1
    assert DOUBLED in answer.out
    assert published() == {name: rows for name, rows in before.items() if name[0] in "mq"}

    backfill(built, "--force", month=MONTH)
    assert tables(built) == before
    assert built.query("SELECT name FROM system.tables WHERE database = 'quality_failures'") == []
    (status,) = built.call("status", "retail", "--json").json
    assert (status["failing_checks"], status["failed_partitions"]) == (
        [check for check in status["failing_checks"] if not check["stops"]],
        {},
    )


def test_a_workbook_that_nobody_looks_at_is_told(built: Home) -> None:
    """Dagster shows its freshness, which the schedule at midnight keeps."""
    workbook = dataset(built.settings, "retail").specs[0]

    assert workbook.freshness_policy == dg.FreshnessPolicy.time_window(
        warn_window=timedelta(days=2), fail_window=timedelta(days=366)
    )
