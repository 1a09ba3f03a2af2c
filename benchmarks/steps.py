"""Prints the seconds of each step of the latest run in the home of the environment, as JSON.

    python -m benchmarks.steps

`assets`, `checks` and `run` beside them are what the steps that materialize something took, the
others, and the run as a whole.
"""

import json

import dagster as dg

from lakehouse.instance import open_instance
from lakehouse.settings import Settings


def main() -> None:
    with open_instance(Settings()) as instance:
        (record,) = instance.get_run_records(limit=1)
        events = [
            entry.dagster_event
            for entry in instance.all_logs(record.dagster_run.run_id)
            if entry.dagster_event
        ]
    made = {e.step_key for e in events if e.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION}
    steps = {
        str(e.step_key): e.step_success_data.duration_ms / 1000
        for e in events
        if e.event_type is dg.DagsterEventType.STEP_SUCCESS
    }
    assert record.start_time
    assert record.end_time
    sums = {
        "assets": sum(seconds for key, seconds in steps.items() if key in made),
        "checks": sum(seconds for key, seconds in steps.items() if key not in made),
        "run": record.end_time - record.start_time,
    }
    print(json.dumps(steps | sums))


if __name__ == "__main__":
    main()
