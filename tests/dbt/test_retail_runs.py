"""Runs of the dbt project: whatever months, order and mishaps, the tables are the same."""

import time
from collections.abc import Callable
from threading import Event, Thread

import pytest
from retail import DECEMBER, JANUARY, MONTHS, NOVEMBER, Line, Retail, failures

ALL = ["2010-11", "2010-12", "2011-01"]


@pytest.fixture(scope="module")
def expected(warehouse: Retail) -> dict[str, list[tuple]]:
    """What one undisturbed run leaves."""
    warehouse.empty()
    warehouse.stage(*MONTHS)
    warehouse.make()
    tables = warehouse.tables()
    warehouse.drop()
    return tables


def test_the_months_in_any_order_and_twice_leave_the_same_tables(
    expected: dict[str, list[tuple]], retail: Retail
) -> None:
    retail.stage(JANUARY)
    retail.make(["2011-01"])
    retail.stage(NOVEMBER, DECEMBER)
    retail.make(["2010-12", "2011-01"])
    retail.make(["2010-11"])
    assert retail.tables() == expected
    retail.make()
    assert retail.tables() == expected


def test_a_month_is_replaced_also_where_nothing_is_left_of_it(
    expected: dict[str, list[tuple]], retail: Retail
) -> None:
    # Published anew, November has no return and all its customers, and one month is withdrawn.
    retail.stage(*MONTHS, [Line("536600", "PLATE", "2011-02-01 08:00:00")])
    retail.stage([line._replace(CustomerID=12346, Quantity=9) for line in NOVEMBER])
    retail.make()
    assert retail.tables() != expected
    retail.stage(NOVEMBER)
    retail.unstage("2011-02")
    retail.make(["2010-11", "2011-02"])
    assert retail.tables() == expected


def test_a_killed_run_is_made_good_by_one_more(
    expected: dict[str, list[tuple]], retail: Retail
) -> None:
    retail.stage(*MONTHS)
    process = retail.start_dbt("run")
    while retail.rows("EXISTS vault.hub_invoice") == [(0,)]:
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.wait()
    retail.make(ALL)
    assert retail.tables() == expected


def test_two_runs_at_once_leave_the_same_tables(
    expected: dict[str, list[tuple]], retail: Retail
) -> None:
    retail.stage(*MONTHS)
    both = [retail.start_dbt("run", months=months) for months in (ALL[:2], ALL[1:])]
    assert [process.wait() for process in both] == [0, 0]
    assert retail.tables() == expected


# Of two that see each other the later by name gives way: dbt to the first here, not to the second.
@pytest.mark.parametrize(("name", "read_anew"), [("0" * 32, True), ("g" * 32, False)])
def test_a_table_that_another_run_is_making_is_waited_for(
    expected: dict[str, list[tuple]], retail: Retail, name: str, read_anew: bool
) -> None:
    retail.stage([line._replace(Quantity=9) for line in NOVEMBER], *MONTHS[1:])
    retail.make()
    before = retail.tables()
    theirs = f"staging.vault__sat_invoice__{name}"
    retail.client.command(f"CREATE TABLE {theirs} (n UInt8) ENGINE = MergeTree ORDER BY n")
    retail.stage([line._replace(Quantity=7) for line in NOVEMBER])
    process = retail.start_dbt("run", "--select", "sat_invoice+", months=ALL)
    asides = "SELECT count() FROM system.tables WHERE name LIKE 'vault__sat_invoice__%'"

    def go_on_making(until: Callable[[], bool]) -> None:
        while not until():
            retail.client.command(f"INSERT INTO {theirs} VALUES (1)")
            time.sleep(0.01)
            assert process.poll() is None

    go_on_making(lambda: retail.rows(asides) == [(2,)])
    enough = time.monotonic() + 3
    go_on_making(lambda: time.monotonic() > enough)
    assert retail.tables() == before
    retail.stage(NOVEMBER)
    enough = time.monotonic() + 3
    go_on_making(lambda: time.monotonic() > enough)
    retail.client.command(f"DROP TABLE {theirs} SYNC")
    assert process.wait() == 0
    assert retail.tables() != before
    assert (retail.tables() == expected) is read_anew


def test_what_a_killed_run_was_making_holds_nobody_up(
    expected: dict[str, list[tuple]], retail: Retail
) -> None:
    retail.stage(*MONTHS)
    theirs = f"staging.vault__sat_invoice__{'0' * 32}"
    retail.client.command(f"CREATE TABLE {theirs} (n UInt8) ENGINE = MergeTree ORDER BY n")
    start = time.monotonic()
    retail.make(ALL)
    retail.client.command(f"DROP TABLE {theirs} SYNC")
    assert time.monotonic() - start < 60
    assert retail.tables() == expected


def test_readers_see_whole_tables_while_they_are_made(
    expected: dict[str, list[tuple]], retail: Retail
) -> None:
    retail.stage(*MONTHS)
    retail.make()
    seen: dict[str, set[int]] = {name: set() for name in ("marts.Dim_Product", "marts.Fact_Sales")}
    done = Event()

    def read() -> None:
        while not done.is_set():
            for name, counts in seen.items():
                counts.add(retail.rows(f"SELECT count() FROM {name}")[0][0])

    reader = Thread(target=read)
    reader.start()
    try:
        retail.make(["2010-12"])
        retail.make()
    finally:
        done.set()
        reader.join()
    assert seen == {name: {len(expected[name])} for name in seen}


def test_a_changed_column_asks_for_a_run_of_all_months(
    expected: dict[str, list[tuple]], retail: Retail
) -> None:
    retail.stage(*MONTHS)
    retail.make()
    retail.client.command("ALTER TABLE quality.sales_summary ADD COLUMN colour String")
    result = retail.dbt("run", "--select", "sales_summary", months=["2010-11"])
    assert "run dbt without months" in failures(result)["sales_summary"]
    assert retail.dbt("run", "--select", "sales_summary").success
    assert retail.tables() == expected


def test_a_table_that_an_older_version_sorted_otherwise_takes_its_months(
    expected: dict[str, list[tuple]], retail: Retail
) -> None:
    retail.stage(*MONTHS)
    retail.make()
    for statement in (
        "CREATE TABLE marts.older AS marts.Fact_Sales ENGINE = MergeTree"
        " PARTITION BY toYYYYMM(invoice_date) ORDER BY (sale_id, line_number)",
        "INSERT INTO marts.older SELECT * FROM marts.Fact_Sales",
        "EXCHANGE TABLES marts.older AND marts.Fact_Sales",
        "DROP TABLE marts.older SYNC",
    ):
        retail.client.command(statement)
    aside = "SELECT name FROM system.tables WHERE database = 'staging' ORDER BY name"
    left_by_killed_runs = retail.rows(aside)

    assert retail.dbt("run", "--select", "Fact_Sales", months=["2010-11"]).success
    assert retail.tables() == expected
    sorted_by = "SELECT sorting_key FROM system.tables WHERE (database, name) = ('marts', '{}')"
    assert retail.rows(sorted_by.format("Fact_Sales")) == [("(invoice_date)",)]
    assert retail.rows(aside) == left_by_killed_runs


def test_a_query_that_gives_another_type_than_declared_leaves_the_table_as_it_was(
    expected: dict[str, list[tuple]], retail: Retail, monkeypatch: pytest.MonkeyPatch
) -> None:
    retail.stage(*MONTHS)
    retail.make()
    quantity = retail.manifest.nodes["model.retail.Fact_Sales"].columns["quantity"]
    monkeypatch.setattr(quantity, "data_type", "Int64")
    result = retail.dbt("run", "--select", "Fact_Sales", months=["2010-11"])
    message = failures(result)["Fact_Sales"]
    assert "does not keep its contract: quantity is declared as Int64 and is Int32" in message
    assert retail.tables() == expected


@pytest.mark.parametrize(
    ("name", "column"),
    [("Dim_Country", "country_name"), ("original_dashboard", "anomaly_quantity_count")],
    ids=["a table", "a view"],
)
def test_a_query_that_gives_a_column_that_is_not_declared_is_refused(
    expected: dict[str, list[tuple]],
    retail: Retail,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    column: str,
) -> None:
    retail.stage(*MONTHS)
    retail.make()
    model = retail.manifest.nodes[f"model.retail.{name}"]
    columns = dict(model.columns)
    columns.pop(column)
    monkeypatch.setattr(model, "columns", columns)
    result = retail.dbt("run", "--select", name)
    assert f"{column} is not declared" in failures(result)[name]
    assert retail.tables() == expected


def test_descriptions_are_kept_as_comments(retail: Retail) -> None:
    described = (
        "SELECT table, name, comment FROM system.columns WHERE database IN ('vault', 'marts')"
        " UNION ALL SELECT name, '', comment FROM system.tables"
        " WHERE database IN ('vault', 'marts')"
    )
    retail.stage(*MONTHS)
    retail.make()
    before = set(retail.rows(described))
    for table in ("vault.hub_country", "vault.sat_invoice"):
        changes = "MODIFY COMMENT 'old', COMMENT COLUMN RECORD_SOURCE 'old'"
        retail.client.command(f"ALTER TABLE {table} {changes}")
    assert set(retail.rows(described)) != before
    retail.make(["2010-11"])
    assert set(retail.rows(described)) == before


@pytest.mark.parametrize("months", ["2010-12", [], ["2010-13"], ["1) or (1"]])
def test_months_that_are_none_are_refused(retail: Retail, months: list[str]) -> None:
    result = retail.dbt("run", "--select", "hub_invoice", months=months)
    assert "It must be a list such as" in failures(result)["hub_invoice"]
