"""Backfills whose runs make several months: each month is told, checked and mended by itself."""

import signal
import socket
import threading
from datetime import datetime

import dagster as dg
from retail_homes import MONTHS, publish, publish_lines

from lakehouse.automation.backfill import TRIED_APART_TAG
from lakehouse.history import latest_materializations

LINES = dg.AssetKey(["retail", "raw", "online_retails"])
STAGED = dg.AssetKey(["retail", "raw", "psa_online_retails"])
WORKBOOK = dg.AssetKey(["retail", "raw", "workbook"])
RAW = {WORKBOOK, LINES, STAGED}


def line(month: str, number: int = 1, customer: int = 17850) -> tuple:
    """A line of a month; those of one number have one key."""
    at = datetime.fromisoformat(f"{month}-03 08:26")
    return (int(month.replace("-", "")) + number, "85123A", "HEART", 6, at, 2.55, customer, "EIRE")


def evaluated(house, asset: dg.AssetKey) -> dict[tuple[str, str | None], str]:
    """By check and partition, what came of it last."""
    keys = [check.key for check in house.dataset.check_specs({asset})]
    infos = house.instance.event_log_storage.get_asset_check_partition_info(keys)
    return {(i.check_key.name, i.partition_key): i.latest_execution_status.value for i in infos}


def runs(house) -> list[tuple[str, bool]]:
    """The months of each run of a range, first to last, and whether its months were tried again."""
    found = [
        run
        for run in house.instance.get_runs()
        if "dagster/asset_partition_range_start" in run.tags
    ]
    return [
        (
            f"{run.tags['dagster/asset_partition_range_start']}"
            f" to {run.tags['dagster/asset_partition_range_end']}",
            TRIED_APART_TAG in run.tags,
        )
        for run in reversed(found)
    ]


def damage(house, month: str) -> None:
    """Alter what was staged of a month."""
    [file] = (house.settings.state / "landing").rglob(f"{month}.lines.parquet")
    file.write_bytes(b"damaged")


def test_months_that_one_run_makes_are_told_and_checked_each_by_itself(retail_house):
    truth = publish(retail_house.root)

    reports = retail_house.backfill(*MONTHS, selection=RAW)

    assert len({reports[month].run_id for month in MONTHS}) == 1
    assert {month: reports[month].rows_in for month in MONTHS} == {
        month: truth.months[month].rows_in for month in MONTHS
    }
    assert {month: reports[month].rows_dropped for month in MONTHS} == {
        month: truth.months[month].on_both_sheets for month in MONTHS
    }
    rejecting = {month for month in MONTHS if truth.months[month].rejected}
    assert {month for month in MONTHS if reports[month].warnings} == rejecting
    assert {reports[month].checks_passed for month in rejecting} == {5}
    assert {reports[month].checks_passed for month in set(MONTHS) - rejecting} == {6}
    assert evaluated(retail_house, LINES) == {
        (name, month): (
            "FAILED" if name == "lines_readable" and month in rejecting else "SUCCEEDED"
        )
        for name in ("contract", "rows_conserved", "lines_readable")
        for month in MONTHS
    }
    made = latest_materializations(retail_house.instance, STAGED)
    assert len({made[month].metadata["source_version"] for month in MONTHS}) == len(MONTHS)


def test_a_check_of_a_range_points_to_the_rows_that_it_looked_at(retail_house):
    publish(retail_house.root)
    retail_house.backfill(*MONTHS, selection=RAW)

    made = latest_materializations(retail_house.instance, LINES)
    told = retail_house.instance.fetch_materializations(LINES, limit=len(MONTHS)).records
    records = [
        record.event_log_entry.get_dagster_event().asset_check_evaluation_data
        for record in retail_house.instance.get_records_for_run(
            told[0].run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ).records
    ]

    looked_at = {
        e.partition: e.target_materialization_data.storage_id
        for e in records
        if e.asset_key == LINES
    }
    assert looked_at == {month: made[month].event for month in MONTHS}


def test_more_than_three_years_are_made_by_several_runs_and_gaps_are_left_out(retail_house):
    months = [f"{2010 + n // 12}-{n % 12 + 1:02d}" for n in range(40)]
    there = [month for month in months if month != "2010-03"]
    publish_lines(retail_house.root, *map(line, there))

    reports = retail_house.backfill(*months, selection=RAW)

    assert runs(retail_house) == [
        ("2010-01 to 2010-02", False),
        ("2010-04 to 2013-03", False),
    ]
    assert [name for name in reports if " to " not in name] == ["", *months]
    assert [month for month in months if not reports[month].published] == ["2010-03"]
    assert all(reports[month].ok for month in there)
    # The last month is alone behind three years.
    assert reports["2013-04"].rows_in == 1


def test_a_month_with_a_failing_check_stops_no_other(retail_house):
    bad, *good = MONTHS
    lines = [line(month) for month in good]
    publish_lines(retail_house.root, line(bad), line(bad, customer=13085), *lines)

    reports = retail_house.backfill(*MONTHS, selection=RAW)

    assert runs(retail_house) == [(f"{MONTHS[0]} to {MONTHS[-1]}", True)]
    assert {month: reports[month].ok for month in MONTHS} == {
        month: month in good for month in MONTHS
    }
    assert "lines_agree" in reports[bad].errors[0]
    assert len({reports[month].run_id for month in MONTHS}) == len(MONTHS)
    assert evaluated(retail_house, STAGED) == {
        (name, month): "FAILED" if (name, month) == ("lines_agree", bad) else "SUCCEEDED"
        for name in ("contract", "rows_conserved", "lines_agree")
        for month in MONTHS
    }


def test_a_month_that_cannot_be_made_stops_no_other_and_is_told_once(retail_house, webhook):
    publish(retail_house.root)
    retail_house.backfill(*MONTHS, selection={WORKBOOK})
    alerts = retail_house.sensor("alerts")
    alerts.tick()
    damage(retail_house, MONTHS[1])

    reports = retail_house.backfill(*MONTHS, selection=RAW)
    # What this process does counts as under way; the backfill of one that has ended is over.
    for run in retail_house.instance.get_runs():
        gone = f"{run.run_id}:{socket.gethostname()}:{2**22 + 1}:0"
        retail_house.instance.add_run_tags(run.run_id, {"lakehouse/process": gone})
    alerts.tick()

    assert {month: reports[month].ok for month in MONTHS} == {
        month: month != MONTHS[1] for month in MONTHS
    }
    assert "is not what was staged" in reports[MONTHS[1]].errors[0]
    [body] = [message["message"] for message in webhook.messages]
    assert MONTHS[1] in body
    assert f"{MONTHS[0]} to" not in body


def test_a_range_that_is_interrupted_is_not_tried_month_by_month(retail_house):
    publish(retail_house.root)
    retail_house.backfill(*MONTHS, selection={WORKBOOK})
    before = len(retail_house.instance.get_runs())
    came = threading.Event()

    def interrupt() -> None:
        came.set()
        signal.raise_signal(signal.SIGINT)

    waiting = threading.Timer(0.2, interrupt)
    waiting.start()
    reports = retail_house.backfill(*MONTHS, selection=RAW, stopped=came.is_set)
    waiting.join()

    assert [report.partition for report in reports.values() if report.ran] == []
    assert len(retail_house.instance.get_runs()) == before + 1
