"""The tests of the dbt project: each turns red when its rule is broken, and stops what follows."""

from pathlib import Path

import pytest
from retail import MONTHS, Retail, failures, skipped

PSA = "raw.psa_online_retails"
BROKEN = {
    "unique_hub_product_StockCode": "INSERT INTO vault.hub_product (StockCode) VALUES ('CUP')",
    "unique_hub_customer_hub_customer_hash_key": (
        "INSERT INTO vault.hub_customer SELECT * FROM vault.hub_customer"
    ),
    "not_null_hub_country_hub_country_hash_key": (
        "INSERT INTO vault.hub_country (Country) VALUES ('Norway')"
    ),
    "relationships_link_invoice_time_hub_time_hash_key": (
        "ALTER TABLE vault.hub_time DELETE WHERE InvoiceDate = '2010-12-01 08:00:00'"
    ),
    "total_amount_sat_invoice": (
        "ALTER TABLE vault.sat_invoice UPDATE TotalAmount = 7 WHERE Invoice = '536400'"
    ),
    "return_status_sat_invoice": (
        "ALTER TABLE vault.sat_invoice UPDATE ReturnStatus = 'Return' WHERE Invoice = '536400'"
    ),
    "unique_sat_product": ("INSERT INTO vault.sat_product SELECT * FROM vault.sat_product"),
    "reconciled_with_staging_bridge_invoice": (
        "ALTER TABLE vault.bridge_invoice DELETE WHERE InvoiceNo = '536400'"
    ),
    "reconciled_with_staging_Fact_Sales": (
        "ALTER TABLE marts.Fact_Sale_Returns UPDATE total_amount = -5.1001 WHERE true"
    ),
    "relationships_Fact_Sales_customer_key": (
        "ALTER TABLE marts.Fact_Sales UPDATE customer_key = generateUUIDv4() WHERE quantity = 1001"
    ),
    "unique_data_quality_check_date": (
        "INSERT INTO quality.data_quality SELECT * FROM quality.data_quality"
    ),
}


@pytest.fixture
def broken(retail: Retail) -> Retail:
    retail.stage(*MONTHS)
    retail.make()
    for statement in BROKEN.values():
        retail.client.command(statement, settings={"mutations_sync": 2})
    return retail


def test_a_broken_rule_turns_its_test_red(broken: Retail) -> None:
    # Only the months of the run are looked at, where a table has months.
    result = broken.dbt("test", months=["2010-11", "2010-12"])
    assert not set(BROKEN) - set(failures(result))
    january = broken.dbt("test", "--select", "bridge_invoice", months=["2011-01"])
    assert january.success, failures(january)


def test_a_broken_rule_stops_what_follows_and_its_rows_are_kept(retail: Retail) -> None:
    retail.stage(*MONTHS)
    retail.make()
    before = retail.tables()
    retail.client.command(f"INSERT INTO {PSA} SELECT * FROM {PSA} WHERE InvoiceNo = '536400'")
    result = retail.dbt("build", months=["2010-12"])
    assert "unique_sat_invoice" in failures(result)
    assert {"bridge_invoice", "Fact_Sales", "sales_summary"} <= skipped(result)
    after = retail.tables()
    assert {name for name in before if before[name] != after[name]} <= {
        name for name in before if name.startswith("vault.")
    }
    rows = "SELECT LineNumber, n_records FROM quality_failures.unique_sat_invoice"
    assert retail.rows(rows) == [(1, 2)]
    # Rows of 90 days ago go by themselves.
    kept = "quality_failures.unique_sat_invoice"
    retail.client.command(
        f"INSERT INTO {kept} SELECT * REPLACE (now() - toIntervalDay(91) AS kept_at) FROM {kept}"
    )
    retail.client.command(f"OPTIMIZE TABLE {kept} FINAL")
    assert retail.rows(rows) == [(1, 2)]
    retail.stage(*MONTHS)
    assert retail.dbt("build", "--exclude-resource-type", "unit_test", months=["2010-12"]).success
    assert retail.rows("SELECT count() FROM system.tables WHERE database = 'quality_failures'") == [
        (0,)
    ]


def test_staging_that_nobody_loaded_for_a_year_is_told(retail: Retail, tmp_path: Path) -> None:
    def status(age: str) -> str:
        retail.client.command(
            f"ALTER TABLE {PSA} UPDATE LOAD_DATETIME = now() - INTERVAL {age} WHERE true",
            settings={"mutations_sync": 2},
        )
        result = retail.dbt("source", "freshness", "--output", str(tmp_path / "sources.json"))
        (source,) = result.result.results
        return str(source.status)

    retail.stage(*MONTHS)
    assert status("360 DAY") == "pass"
    assert status("370 DAY") == "warn"
