"""The reports of months: real runs, the real sensor, and the page that people open."""

import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console
from small_archives import DAYS, DRIVES, in_line, month_files, write_archive

from lakehouse.automation import reports
from lakehouse.automation.console import backfill_on
from lakehouse.automation.reports import write_reports
from lakehouse.partitions import drives_months, retail_months
from lakehouse.reports.month import (
    Bar,
    Chart,
    Counts,
    Finding,
    Link,
    MonthReport,
    Run,
    Section,
    Table,
)
from lakehouse.reports.page import changes, page

FEBRUARY, MARCH = "2018-02", "2018-03"
BRONZE = dg.AssetKey(["drives", "bronze", "drive_days"])
RAW = dg.AssetKey(["drives", "raw", "archive"])
BEGINNING = {RAW, BRONZE}
"""What takes a moment to make."""
SHORT_LINE = in_line(2, ",0,101", "")


class Page(HTMLParser):
    """A page as a browser takes it: its text, its links, and what it would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], "every element is closed"

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)


def publish(house, spoiled: bool = True) -> None:
    """Two months of drive stats; of the second one a line is short."""
    spoil = SHORT_LINE if spoiled else None
    write_archive(house.root, "data_Q1_2018.zip", month_files(FEBRUARY) | month_files(MARCH, spoil))


def path_of(house, month: str) -> Path:
    return house.settings.state / "reports" / house.name / f"{month}.html"


def read(house, month: str) -> Page:
    return Page(path_of(house, month).read_text())


def test_each_month_of_a_backfill_has_a_report_of_what_changed(house):
    publish(house)
    runs = house.backfill(FEBRUARY, MARCH)
    ticker = house.sensor("reports")

    assert ticker.tick().skip_message == "2 reports were written."
    february, march = read(house, FEBRUARY), read(house, MARCH)

    rows = DAYS * DRIVES
    assert f"{rows} rows were written, for the first time." in february.text
    assert f"{rows} rows in {rows} written" in reversed_terms(february)
    assert "Rejected rows" not in february.text
    assert f"Run {runs[MARCH].run_id[:8]} failed" in march.text
    assert "Rows written: 0.99 times those of 2018-02." in march.text
    assert "4 cells where the header has 6 1" in march.text
    assert re.search(
        r"failed drives/bronze/drive_days files_readable 2018-03: 1 of 100", march.text
    )
    assert f"http://127.0.0.1:3000/runs/{runs[MARCH].run_id}" in march.links
    assert (
        "http://127.0.0.1:3000/assets/drives/bronze/drive_days"
        "?view=checks&checkDetail=files_readable" in march.links
    )
    assert "2018-02: 100 2018-03: 99" in march.text  # the bars of a chart
    assert ticker.tick().skip_message == "0 reports were written."


def reversed_terms(page: Page) -> str:
    """Figures stand below their names in the text, and above them on the screen."""
    return re.sub(r"(rows in|written|rejected|dropped as duplicates) ([\d,]+)", r"\2 \1", page.text)


def test_the_report_is_found_in_dagster_and_makes_nothing_stale(house):
    publish(house, spoiled=False)
    run_id = house.backfill(FEBRUARY)[FEBRUARY].run_id
    house.sensor("reports").tick()

    [record] = house.instance.fetch_observations(BRONZE, limit=10).records
    observation = record.event_log_entry.asset_observation
    assert observation.partition == FEBRUARY
    assert observation.metadata["report"].value == str(path_of(house, FEBRUARY))
    assert observation.description == "100 rows were written, for the first time."
    tags = house.instance.get_run_by_id(run_id).tags
    assert tags["lakehouse/report"] == "drives/2018-02.html"
    assert not any(report.ran for report in house.backfill(FEBRUARY).values())


def test_a_month_that_was_mended_says_so_and_has_a_report_anew(house):
    publish(house)
    house.backfill(FEBRUARY, MARCH)
    ticker = house.sensor("reports")
    ticker.tick()
    publish(house, spoiled=False)

    house.run(dg.RunRequest(partition_key=MARCH))
    ticker.tick()

    march = read(house, MARCH)
    assert "100 rows were written; against the time before: +1 written, -1 rejected." in march.text
    assert "succeeded" in march.text
    assert "files_readable" not in march.text


def test_a_month_that_could_not_be_made_has_its_reason(house):
    write_archive(house.root, "data_Q1_2018.zip", month_files(MARCH))
    house.backfill(FEBRUARY)
    house.sensor("reports").tick()

    assert "drives/raw/archive: drives 2018-02 is not published" in read(house, FEBRUARY).text


@dg.asset(
    key=BRONZE,
    partitions_def=drives_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def two_months() -> dg.MaterializeResult:
    """Months that one run makes."""
    return dg.MaterializeResult(metadata={"rows_in": 1, "rows_written": 1})


def test_a_tick_that_is_out_of_time_leaves_the_rest_to_the_next(house, monkeypatch):
    months = {
        "dagster/asset_partition_range_start": FEBRUARY,
        "dagster/asset_partition_range_end": MARCH,
    }
    assert dg.materialize([two_months], instance=house.instance, tags=months).success
    ticker = house.sensor("reports")
    moments = iter([0, 1, 99])
    with monkeypatch.context() as slow:
        slow.setattr(reports.time, "monotonic", lambda: next(moments, 99))
        assert ticker.tick().skip_message == "1 reports were written."
    assert not path_of(house, MARCH).exists()

    assert ticker.tick().skip_message == "1 reports were written."
    assert path_of(house, MARCH).exists()
    assert ticker.tick().skip_message == "0 reports were written."
    [run] = house.instance.get_runs()
    assert run.tags["lakehouse/report"] == "drives/"  # one tag for all of its months


def test_a_backfill_writes_them_at_its_end_and_the_sensor_not_again(house):
    publish(house)
    runs = backfill_on(
        *(house.settings, house.dataset, [FEBRUARY, MARCH], None, Console(file=StringIO())),
        select='key:"drives/raw/archive" or key:"drives/bronze/drive_days"',
    )

    assert "100 rows were written, for the first time." in read(house, FEBRUARY).text
    assert f"Run {runs[1].run_id[:8]} failed" in read(house, MARCH).text
    for report in runs:
        run = house.instance.get_run_by_id(report.run_id)
        assert run.tags["lakehouse/report"] == f"drives/{report.partition}.html"
    [record] = house.instance.fetch_observations(BRONZE, limit=10).records[1:]
    assert record.event_log_entry.asset_observation.partition == FEBRUARY
    assert house.sensor("reports").tick().skip_message == "0 reports were written."
    house.backfill(FEBRUARY, selection=BEGINNING, force=True)
    assert house.sensor("reports").tick().skip_message == "1 reports were written."


def test_a_month_of_several_runs_is_written_once_after_the_last_one(house):
    publish(house, spoiled=False)
    first, last = (
        house.backfill(FEBRUARY, selection=BEGINNING, force=True)[FEBRUARY].run_id for _ in "ab"
    )
    write_reports(house.settings, house.instance, house.dataset, [first, last])

    assert f"Run {last[:8]} succeeded" in read(house, FEBRUARY).text
    assert len(house.instance.fetch_observations(BRONZE, limit=10).records) == 1
    assert house.sensor("reports").tick().skip_message == "0 reports were written."


def test_a_report_that_a_backfill_cannot_write_is_one_line(house, caplog):
    publish(house, spoiled=False)
    run_id = house.backfill(FEBRUARY, selection=BEGINNING)[FEBRUARY].run_id
    (house.settings.state / "reports").write_text("a file where the folder should be")
    write_reports(house.settings, house.instance, house.dataset, [run_id])

    assert "There is no report of drives 2018-02 (" in caplog.text
    assert "Traceback" not in caplog.text


def table_of(key: str, *months: dict[str, str | int]) -> dg.AssetsDefinition:
    """A table of retail that tells this of its months, one after the other."""
    told = iter(months)

    @dg.asset(key=key.split("/"), partitions_def=retail_months)
    def table() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=next(told))

    return table


def test_a_month_of_retail_tells_of_sales_vault_and_marts(retail_house):
    raw = {"rows_in": 370, "rows_written": 370, "rows_rejected": 5, "total_amount": "2000.50"}
    tables = [
        table_of(
            "retail/raw/online_retails", raw, raw | {"rows_rejected": 0, "total_amount": "1000.25"}
        ),
        table_of(
            "retail/marts/Fact_Sales",
            {"dagster/row_count": 200, "dagster/partition_row_count": 200},
            {"dagster/row_count": 300, "dagster/partition_row_count": 100},
        ),
        table_of("retail/marts/Dim_Product", *[{"dagster/row_count": 15}] * 2),
    ]
    for month in ("2011-01", "2011-02"):
        options = {"instance": retail_house.instance, "partition_key": month}
        assert dg.materialize(tables, **options).success
    retail_house.sensor("reports").tick()

    text = read(retail_house, "2011-02").text
    assert "Rows rejected: 0, before 5 in 2011-01." in text
    assert "Sales less returns, in pounds: 0.50 times those of 2011-01." in text
    assert "Rows of Fact_Sales: 0.50 times those of 2011-01." in text
    assert re.search(r"retail/marts/Fact_Sales 100 \d{4}", text)
    assert re.search(r"retail/marts/Dim_Product 15 in all \d{4}", text)


def test_a_month_that_was_made_often_hides_nothing_of_the_one_beside_it(retail_house):
    told = [{"rows_in": count, "rows_written": count} for count in (10, 11, 3, 4, 5, 6)]
    months = ["2011-01"] * 2 + ["2011-02"] * 4
    table = table_of("retail/raw/online_retails", *told)
    instance = retail_house.instance
    runs = [
        dg.materialize([table], instance=instance, partition_key=month).run_id for month in months
    ]
    write_reports(retail_house.settings, instance, retail_house.dataset, [runs[1], runs[-1]])

    january, february = (read(retail_house, month).text for month in ("2011-01", "2011-02"))
    assert "retail/raw/online_retails 11 11 10 " in january
    assert "retail/raw/online_retails 6 6 5 " in february


@pytest.mark.parametrize(
    ("before", "now", "sentence"),
    [
        (5, 0, ["Rows: 0, before 5 in 2011-01."]),
        (0, 5, ["Rows: 5, before 0 in 2011-01."]),
        (4, 5, ["Rows: 1.25 times those of 2011-01."]),
        (-4, 5, ["Rows: 5, before -4 in 2011-01."]),
        (0, 0, []),
        (None, 5, []),
    ],
)
def test_a_month_is_set_against_the_one_before(before, now, sentence):
    chart = Chart("Rows", [Bar("2010-12", 9), Bar("2011-01", before), Bar("2011-02", now)])
    assert changes(Section("raw", [], None, [], 0, [], [chart])) == sentence


def test_a_report_that_cannot_be_written_breaks_nothing(house):
    publish(house, spoiled=False)
    house.backfill(FEBRUARY, selection=BEGINNING)
    in_the_way = house.settings.state / "reports"
    in_the_way.write_text("a file where the folder should be")
    ticker = house.sensor("reports")

    assert ticker.tick().skip_message == "0 reports were written."
    in_the_way.unlink()
    house.backfill(FEBRUARY, selection=BEGINNING, force=True)
    ticker.tick()

    assert "as many as the time before" in read(house, FEBRUARY).text


def test_a_taxi_month_has_a_section_for_each_of_its_services(taxi_house):
    zones = dg.AssetKey(["taxi", "raw", "zones"])
    for service in ("green", "yellow"):
        raw, objects = (dg.AssetKey(["taxi", at, f"{service}_trips"]) for at in ("raw", "objects"))
        taxi_house.publish_trips(service, "2024-01", "2024-02")
        taxi_house.backfill("2024-01", "2024-02", service=service, selection={zones, raw, objects})
    taxi_house.sensor("reports").tick()

    text = read(taxi_house, "2024-02").text
    assert "UTC. yellow 999 rows were written" in text
    assert " green 999 rows were written" in text
    assert "fhv" not in text
    assert "warned taxi/objects/green_trips trips_plausible 2024-02: of 999 trips" in text
    assert "times those of 2024-01" in text


def figures(evil: str) -> MonthReport:
    """A report with the same text in the place of every text."""
    link = Link(evil, f"http://dagster.example/{evil}")
    table = Table(link, run=link, made=0.0, now=Counts(rows_in=1, written=1), before=Counts())
    section = Section(
        name=evil,
        tables=[table],
        main=table,
        rejects=[(evil, 2)],
        checks_passed=1,
        findings=[Finding(link, True, evil)],
        charts=[Chart(evil, [Bar(evil, None), Bar(evil, 3)])],
    )
    return MonthReport(evil, evil, Run(link, False, 0.0, [evil]), [section])


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", '" onload="alert(1)', "</style><img src=//evil.example>"]
)
def test_nothing_in_a_report_runs_or_fetches_anything(evil):
    text = page(figures(evil))

    shown = Page(text)
    assert evil in text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"')
    assert not {"script", "img", "link", "iframe", "object"} & shown.tags
    assert all(link.startswith("http://dagster.example/") for link in shown.links)
    assert 'onload="' not in text
    assert "default-src 'none'" in text
