"""Workbooks that are not as they should be: refused with a reason, or made with one."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from homes import Answer, Home
from retail_homes import (
    AT,
    LINE,
    publish_bytes,
    publish_lines,
    publish_sheets,
)

from lakehouse.samples.retail import HEADER, RETAIL_FILE
from lakehouse.services.clickhouse import ClickHouseService

MONTH = "2010-12"
RAW = 'key:"retail/raw/*"'
OLD_HEADER = ("InvoiceNo", *HEADER[1:5], "UnitPrice", "CustomerID", "Country")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One lakehouse, whose publisher puts up one bad workbook after the other."""
    root = tmp_path_factory.mktemp("bad")
    home = Home(root / "home", root / "mirror")
    try:
        yield home
    finally:
        home.down()


def raw(home: Home, month: str = MONTH, *options: str) -> Answer:
    """Backfill a month, without what dbt makes of it."""
    return home.call("backfill", "retail", "--from", month, "--select", RAW, *options)


def lines(home: Home, month: str = MONTH) -> list[tuple[str, int]]:
    """Invoice and pieces of a month's lines."""
    rows = home.query(
        "SELECT InvoiceNo, Quantity FROM raw.online_retails"
        f" WHERE formatDateTime(InvoiceDate, '%Y-%m') = '{month}' ORDER BY ALL"
    )
    return [(row["InvoiceNo"], row["Quantity"]) for row in rows]


def a_web_page(mirror: Path) -> None:
    path = mirror / RETAIL_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"<!DOCTYPE html><title>Sorry</title>")


def renamed(mirror: Path) -> None:
    publish_lines(mirror, LINE, header=[*HEADER[:5], "Preis", *HEADER[6:]])


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a web page": (a_web_page, "is not a zip archive but an HTML page"),
    "text called a workbook": (
        lambda mirror: publish_bytes(mirror, b"hello"),
        "is not a workbook: get a sound copy",
    ),
    "sheets of something else": (
        lambda mirror: publish_sheets(mirror, {"Notes": [["hello"]], "Empty": []}),
        "has no sheet with the columns InvoiceNo, StockCode",
    ),
    "a renamed column": (renamed, "the header has no column UnitPrice; it begins Invoice"),
    "a sheet without lines": (
        lambda mirror: publish_sheets(
            mirror, {"Year 2009-2010": [HEADER, LINE], "Year 2010-2011": [HEADER]}
        ),
        "the sheet 'Year 2010-2011'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_workbook_that_is_refused_changes_nothing(home: Home, name: str) -> None:
    publish_lines(home.mirror, LINE)
    assert raw(home, MONTH, "--force").code == 0
    spoil, reason = REFUSED[name]
    spoil(home.mirror)

    answer = raw(home)

    assert answer.code == 1
    assert "Traceback" not in answer.out + answer.err
    (said,) = [line for line in answer.out.splitlines() if "retail/raw/workbook: " in line]
    assert reason in said
    assert lines(home) == [("536365", 6)]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({3: "a dozen"}, "the quantity 'a dozen' is no whole number of at most 32 bits"),
        ({3: 1.5}, "the quantity '1.5' is no whole number"),
        ({4: "yesterday"}, "the time 'yesterday' cannot be read"),
        ({4: None}, "the time is missing"),
        ({1: None}, "the stock code is missing"),
        ({5: 1e12}, "the price '1000000000000' is no number below 1,000,000"),
        ({5: "free"}, "the price 'free' is no number"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_line_that_cannot_serve_goes_to_the_rejects_with_its_reason(
    home: Home, cells: dict[int, object], reason: str
) -> None:
    bad = [cells.get(column, cell) for column, cell in enumerate(LINE)]
    publish_lines(home.mirror, LINE, bad)

    answer = raw(home)

    assert answer.code == 0
    assert "2 in          1 written          1 rejected" in answer.out
    assert "1 of 2 lines were rejected. See `lakehouse rejects retail" in answer.out
    (reject,) = home.call("rejects", "retail", "--json").json
    assert (reject["month"], reject["line"]) == (MONTH, 3)
    assert reject["file"].endswith("online+retail+ii.zip/Year 2009-2010")
    assert reason in reject["reason"]
    assert lines(home) == [("536365", 6)]


def test_too_many_lines_that_cannot_serve_stop_what_follows(home: Home) -> None:
    good = (*LINE[:4], AT.replace(month=6), *LINE[5:])
    publish_lines(home.mirror, *[good] * 30, *[(*good[:3], "many", *good[4:])] * 30)

    answer = home.call("backfill", "retail", "--from", "2010-06")

    assert answer.code == 1
    assert "retail/raw/online_retails lines_readable: 2010-06: 30 of 60 lines" in answer.out
    assert home.query("SELECT * FROM raw.psa_online_retails WHERE toMonth(InvoiceDate) = 6") == []
    assert home.query("SELECT name FROM system.tables WHERE database = 'vault'") == []


def test_lines_of_one_key_with_two_customers_stop_what_follows(home: Home) -> None:
    good = (*LINE[:4], AT.replace(month=7), *LINE[5:])
    publish_lines(home.mirror, good, (*good[:6], 12346, good[7]))

    answer = home.call("backfill", "retail", "--from", "2010-07")

    assert answer.code == 1
    assert "retail/raw/psa_online_retails lines_agree: 2010-07: of 1 invoice lines" in answer.out
    assert "536365 85123A at 2010-07-01 08:26" in answer.out
    assert "is not made from what failed a check" in answer.out
    assert home.query("SELECT name FROM system.tables WHERE database = 'vault'") == []


@pytest.mark.parametrize(
    "time", ["2010-12-01 08:26:00", "2010/12/1 8:26", "12/1/2010 8:26", "2010-12-01T08:26:00"]
)
def test_times_that_are_text_are_read(home: Home, time: str) -> None:
    publish_lines(home.mirror, (*LINE[:4], time, *LINE[5:]))

    assert raw(home).code == 0
    assert home.query(
        "SELECT toString(InvoiceDate) AS at FROM raw.online_retails"
        " WHERE toYYYYMM(InvoiceDate) = 201012"
    ) == [{"at": "2010-12-01 08:26:00"}]


def test_a_workbook_of_other_years(home: Home) -> None:
    """People shift its dates, so that the latest are of this year."""
    shifted = datetime(2024, 2, 29, 8, 26)
    publish_lines(home.mirror, (*LINE[:4], shifted, *LINE[5:]))

    assert raw(home, "2024-02").code == 0
    assert home.query(
        "SELECT count() AS lines FROM raw.psa_online_retails WHERE toYYYYMM(InvoiceDate) = 202402"
    ) == [{"lines": 1}]
    answer = raw(home, "2011-05")
    assert answer.code == 1
    assert (
        "retail 2011-05 is not published: the workbook has lines of 2024-02 to 2024-02"
        in answer.out
    )


def test_months_that_are_not_over_are_told(home: Home) -> None:
    publish_lines(home.mirror, LINE, (536366, *LINE[1:4], datetime(2250, 1, 5), *LINE[5:]))

    answer = raw(home)

    assert answer.code == 0
    assert "2250-01 cannot be made: not over, or too early." in answer.out


def test_the_older_workbook_of_one_sheet(home: Home) -> None:
    publish_sheets(home.mirror, {"Online Retail": [OLD_HEADER, LINE, ("C536366", *LINE[1:])]})

    assert raw(home).code == 0
    assert lines(home) == [("536365", 6), ("C536366", 6)]


def test_a_workbook_without_its_second_sheet_has_its_months_only(home: Home) -> None:
    publish_sheets(
        home.mirror,
        {
            "Year 2009-2010": [HEADER, LINE],
            "Year 2010-2011": [HEADER, (540000, *LINE[1:4], AT.replace(2011, 1), *LINE[5:])],
        },
    )
    assert raw(home, "2011-01").code == 0

    publish_lines(home.mirror, LINE)
    answer = raw(home, "2011-01")

    assert answer.code == 1
    assert (
        "retail 2011-01 is not published: the workbook has lines of 2010-12 to 2010-12"
        in answer.out
    )
    assert lines(home, "2011-01") == [("540000", 6)]


def test_rejects_are_gone_once_the_workbook_is_mended(make_home: Callable[..., Home]) -> None:
    home = make_home()
    publish_lines(home.mirror, LINE, (536366, LINE[1], LINE[2], "a dozen", *LINE[4:]))
    assert home.call("backfill", "retail", "--from", MONTH).code == 0
    shown = home.call("rejects", "retail").out
    still = home.call("replay", "retail").out

    assert "a dozen" in shown
    assert "1 of 1 rejected rows." in shown
    assert "Of 1 rejected rows, 1 are rejected still." in still

    publish_lines(home.mirror, LINE, (536366, LINE[1], LINE[2], 12, *LINE[4:]))

    assert home.call("replay", "retail", "--json").json == {"before": 1, "left": 0}
    assert home.call("rejects", "retail").out == "Nothing was rejected.\n"
    assert home.query("SELECT sum(quantity) AS pieces FROM marts.Fact_Sales") == [{"pieces": 18}]


def test_a_landed_workbook_that_somebody_altered(home: Home) -> None:
    publish_lines(home.mirror, LINE, (536367, *LINE[1:]))
    assert raw(home).code == 0
    (landed,) = (home.folder / "landing").rglob("online+retail+ii.zip")
    for staged in (home.folder / "landing" / "retail" / "staged").rglob("manifest.json"):
        staged.unlink()
    landed.chmod(0o644)
    altered = bytearray(landed.read_bytes())
    altered[1000] ^= 1
    landed.write_bytes(altered)

    only = 'key:"retail/raw/online_retails"'
    answer = home.call("backfill", "retail", "--from", MONTH, "--force", "--select", only)

    assert answer.code == 1
    assert "Traceback" not in answer.out + answer.err
    assert "is not what was landed, its bytes have changed: delete it" in answer.err
    landed.unlink()
    assert raw(home, MONTH, "--force").code == 0
    assert lines(home) == [("536365", 6), ("536367", 6)]


def test_clickhouse_that_does_not_answer(home: Home, free_port: Callable[[], int]) -> None:
    publish_lines(home.mirror, LINE, (536368, *LINE[1:]))
    assert home.call("up").code == 0
    port = free_port()

    answer = home.call(
        *("backfill", "retail", "--from", MONTH, "--force"),
        LAKEHOUSE_CLICKHOUSE_URL=f"http://127.0.0.1:{port}",
    )

    assert answer.code == 1
    assert "Traceback" not in answer.out + answer.err
    assert f"127.0.0.1:{port}" in answer.out
    assert ClickHouseService(home.settings).status().running
    assert raw(home).code == 0
