"""When Online Retail runs: at midnight, when its workbook changed, and when a file was dropped."""

import gzip
from datetime import UTC, datetime
from decimal import Decimal

import dagster as dg
import pytest
from retail_homes import AT, LINE, MONTHS, publish, publish_lines, workbook

RAW = {dg.AssetKey(["retail", "raw", name]) for name in ("online_retails", "psa_online_retails")}
DAY = "2010-12-03"
OLD_HEADER = (
    *("InvoiceNo", "StockCode", "Description", "Quantity"),
    *("InvoiceDate", "UnitPrice", "CustomerID", "Country"),
)


def csv(day: str = DAY, quantity: int = 5, separator: str = ",") -> str:
    """A dropped file with one line."""
    line = ("536370", "22423", "CAKESTAND", quantity, f"{day} 10:00:00", "12.75", 12345, "France")
    return "\n".join(separator.join(map(str, cells)) for cells in (OLD_HEADER, line)) + "\n"


def one_sheet(*lines: tuple) -> bytes:
    """The older workbook."""
    return workbook({"Online Retail": [OLD_HEADER, *lines]})


def look_at_the_workbook(house) -> None:
    """What the schedule does at midnight."""
    job = house.definitions.resolve_job_def("retail_workbook")
    assert job.execute_in_process(instance=house.instance).success


@pytest.fixture
def months(retail_house):
    """The sensor, at the first tick of which nothing was landed."""
    sensor = retail_house.sensor("retail_months")
    assert sensor.tick().skip_message == "There is no new workbook."
    return sensor


@pytest.fixture
def inbox(retail_house):
    """The sensor, at the first tick of which the inbox was empty."""
    inbox = retail_house.sensor("retail_inbox")
    inbox.tick()
    return inbox


def test_at_midnight_the_workbook_is_looked_at(retail_house):
    publish(retail_house.root)
    schedule = retail_house.definitions.resolve_schedule_def("retail_daily")
    context = dg.build_schedule_context(
        retail_house.instance, scheduled_execution_time=datetime(2026, 11, 20, tzinfo=UTC)
    )
    (request,) = schedule.evaluate_tick(context).run_requests

    assert schedule.cron_schedule == "0 0 * * *"
    assert schedule.job_name == "retail_workbook"
    assert request.partition_key is None


def test_the_months_of_a_workbook_are_asked_for_once(retail_house, months):
    publish(retail_house.root)
    look_at_the_workbook(retail_house)

    assert months.requested() == list(MONTHS)
    assert months.requested() == []


def test_a_workbook_that_has_not_changed_asks_for_nothing(retail_house, months):
    publish(retail_house.root)
    retail_house.backfill(*MONTHS, selection=RAW | {dg.AssetKey(["retail", "raw", "workbook"])})
    months.tick()
    look_at_the_workbook(retail_house)

    assert months.requested() == []


def test_only_the_months_whose_lines_have_changed_are_asked_for(retail_house, months):
    november = (536000, *LINE[1:4], datetime(2010, 11, 5, 9), *LINE[5:])
    publish_lines(retail_house.root, november, LINE)
    look_at_the_workbook(retail_house)
    assert months.requested() == ["2010-11", "2010-12"]
    retail_house.backfill("2010-11", "2010-12", selection=RAW)

    publish_lines(retail_house.root, november, (*LINE[:3], 7, *LINE[4:]))
    look_at_the_workbook(retail_house)

    assert months.requested() == ["2010-12"]


def test_a_workbook_that_comes_back_is_asked_for_again(retail_house, months):
    keys = []
    for quantity in (6, 7, 6):
        publish_lines(retail_house.root, (*LINE[:3], quantity, *LINE[4:]))
        look_at_the_workbook(retail_house)
        (request,) = months.tick().run_requests
        keys.append(request.run_key)
        retail_house.backfill("2010-12", selection=RAW)

    assert len(set(keys)) == 3


def test_a_tick_that_is_repeated_asks_for_the_very_same_runs(retail_house, months):
    """The daemon died before it stored the cursor: Dagster launches a run key only once."""
    publish(retail_house.root)
    look_at_the_workbook(retail_house)
    before = months.cursor
    first = months.tick().run_requests
    months.cursor = before

    assert [r.run_key for r in months.tick().run_requests] == [r.run_key for r in first]


@pytest.mark.parametrize(
    ("name", "content", "asked"),
    [
        (f"{DAY}.csv", csv(), ["2010-12"]),
        (f"sales {DAY}.csv.gz", gzip.compress(csv().encode()), ["2010-12"]),
        ("two months.csv", csv("2010-11-30") + csv().partition("\n")[2], ["2010-11", "2010-12"]),
        ("Online Retail.xlsx", one_sheet(LINE), ["2010-12"]),
    ],
    ids=["a day", "gzip", "no day in its name", "the older workbook"],
)
def test_a_dropped_file_is_taken_once_and_its_months_asked_for(
    retail_house, inbox, name, content, asked
):
    file = retail_house.drop(name, content)

    assert inbox.requested() == []
    assert inbox.requested() == asked
    assert not file.exists()
    assert inbox.requested() == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (f"{DAY}.csv", csv(separator=";"), "its cells are separated by ';' and should be by ','"),
        (f"{DAY}.csv", "a,b\n1,2\n", "the header has no column InvoiceNo"),
        (f"{DAY}.csv", ",".join(OLD_HEADER) + "\n", "none of its lines can be used: it has none"),
        (f"{DAY}.csv.gz", gzip.compress(csv().encode())[:-9], "is no whole gzip file"),
        ("book.xlsx", b"hello", "book.xlsx"),
        ("book.xlsx", workbook({"Notes": [["hello"]]}), "has no sheet with the columns"),
        ("book.pdf", b"hello", "is neither a workbook nor a CSV"),
        ("2999-01-01.csv", csv("2999-01-01"), "none of its lines can be used: the time"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else "",
)
def test_what_cannot_be_used_is_set_aside_with_the_reason(
    retail_house, inbox, webhook, name, content, reason
):
    retail_house.drop(name, content)

    assert [inbox.requested() for _ in range(3)] == [[], [], []]
    refused = retail_house.inbox / "refused"
    assert (refused / name).exists()
    assert reason in (refused / f"{name}.reason.txt").read_text()
    (message,) = webhook.messages
    assert message["title"] == f"File refused: {name}"
    assert reason in message["message"]


def test_a_dropped_day_takes_the_place_of_the_workbooks(retail_house, inbox):
    """And the job that the sensor asks for makes it, from the lines to the marts."""
    another_day = (536400, *LINE[1:4], AT.replace(day=3), *LINE[5:])
    publish_lines(retail_house.root, LINE, another_day)
    look_at_the_workbook(retail_house)
    retail_house.drop(f"{DAY}.csv", csv())
    inbox.tick()
    (request,) = inbox.tick().run_requests

    assert request.job_name == "retail_month"
    assert retail_house.run(request).success
    sales = retail_house.query(
        "SELECT invoice_no, toDate(invoice_date)::String, total_amount FROM marts.Fact_Sales"
        " ORDER BY invoice_no"
    )
    assert sales == [
        ("536365", "2010-12-01", Decimal("15.3")),
        ("536370", DAY, Decimal("63.75")),
    ]


def test_a_dropped_workbook_is_enough_where_the_publisher_has_none(retail_house, inbox):
    retail_house.drop("Online Retail.xlsx", one_sheet(LINE))
    inbox.tick()
    assert inbox.requested() == ["2010-12"]

    assert all(r.ok for r in retail_house.backfill("2010-12", selection=RAW).values())
    assert retail_house.query("SELECT InvoiceNo, Quantity FROM raw.online_retails") == [
        ("536365", 6)
    ]
