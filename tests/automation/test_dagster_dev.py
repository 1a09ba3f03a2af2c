"""`dagster dev` as people use it: a backfill from the UI, then files dropped into the inbox."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
from dagster._core.execution.backfill import BulkActionStatus

from lakehouse.automation.datasets import dataset
from lakehouse.settings import Settings

DRIVES = dataset(Settings(), "drives")
CHECKOUT = Path(__file__).resolve().parents[2]
FEBRUARY, SPOILED, MENDED, YEAR = "2018-02", "2018-03", "2018-05", "2018"

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@contextmanager
def dagster_dev(port: int, log: Path) -> Iterator[str]:
    """`dagster dev` in the checkout, with the settings of now; gives its address."""
    command = [Path(sys.executable).with_name("dagster"), "dev", "-h", "127.0.0.1", "-p", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, stdout=output, stderr=output, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_up(address) or process.poll() is not None, 120, "dagster dev is up")
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/server_info").is_success
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"It did not come about that {what}."
        time.sleep(0.5)


def launch_backfill(address: str, *months: str) -> str:
    """What the button in the UI does, for all assets of drive stats; gives the backfill's id."""
    params = {
        "assetSelection": [{"path": list(asset.key.path)} for asset in DRIVES.assets],
        "partitionNames": months,
    }
    question = {"query": LAUNCH, "variables": {"params": params}}
    answer = httpx.post(f"{address}/graphql", json=question, timeout=60).json()
    launched = answer["data"]["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return launched["backfillId"]


def daily_csv(day: str, failure: int) -> str:
    header = "date,serial_number,model,capacity_bytes,failure"
    return f"{header}\n{day},DROPPED,ST4000DM000,4000787030016,{failure}\n"


def published_days(house) -> dict[str, tuple[int, int]]:
    """Drives and failures of each day, as readers see them."""
    return dict(
        house.query(
            "SELECT toString(date), (drive_count, drive_failures) FROM drives.daily_summary"
        )
    )


def published_year(house) -> int:
    """Drive days of the year, as readers see them."""
    [(drive_days,)] = house.query("SELECT sum(drive_days) FROM drives.yearly_summary")
    return drive_days


def runs_of_sensor(house, sensor: str) -> dict[str, list[str]]:
    """How the runs that a sensor asked for stand, by partition."""
    runs = house.instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": sensor}))
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(run.tags["dagster/partition"], []).append(run.status.value)
    return found


def ticks_since(house, sensor: str, moment: float) -> int:
    [state] = [s for s in house.instance.all_instigator_state() if s.instigator_name == sensor]
    ticks = house.instance.get_ticks(
        state.instigator_origin_id, state.selector_id, after=moment, limit=10
    )
    return len(ticks)


def test_a_backfill_turns_green_then_a_broken_file_turns_its_check_red_and_stops_the_rest(
    house, webhook, free_port, tmp_path
):
    truth = house.publish(FEBRUARY, SPOILED, MENDED)
    drive_days = sum(sum(month.drive_days.values()) for month in truth.months.values())
    with dagster_dev(free_port(), tmp_path / "dagster.log") as address:
        backfill = launch_backfill(address, FEBRUARY, SPOILED, MENDED)
        wait_until(
            lambda: house.instance.get_backfill(backfill).status is not BulkActionStatus.REQUESTED,
            300,
            "the backfill ends",
        )
        before = published_days(house)

        assert house.instance.get_backfill(backfill).status is BulkActionStatus.COMPLETED_SUCCESS
        assert len(before) == 28 + 31 + 31
        assert published_year(house) == sum(drives for drives, _ in before.values()) == drive_days
        assert webhook.titles == []

        house.drop("2018-05-10.csv", daily_csv("2018-05-10", failure=1))
        house.drop("2018-03-10.csv", daily_csv("2018-03-10", failure=2))
        wait_until(
            lambda: (
                runs_of_sensor(house, "drives_inbox") == {SPOILED: ["FAILURE"], MENDED: ["SUCCESS"]}
            ),
            180,
            "the months of both files are run",
        )
        wait_until(
            lambda: published_year(house) == sum(d for d, _ in published_days(house).values()),
            180,
            "the year follows by itself",
        )
        ended = time.time()
        wait_until(lambda: ticks_since(house, "alerts", ended) > 1, 90, "alerts were told")

    after = published_days(house)
    assert after == before | {"2018-05-10": (1, 1)}
    assert published_year(house) == sum(drives for drives, _ in after.values())
    assert webhook.titles == ["Check failed: drives/bronze/drive_days 2018-03: contract"]
    assert "failure breaks" in webhook.messages[0]["message"]
    for asset in ("drives/bronze/drive_days", "drives/gold/daily_summary"):
        assert (house.status(asset)["fresh"], house.status(asset)["failed"]) == (2, 1)
    # Where a year and its months end within one tick, nobody can tell which came first, and the
    # year is made once more.
    assert runs_of_sensor(house, "drives_years")[YEAR] in (["SUCCESS"], ["SUCCESS"] * 2)
