"""The child process that is the BigQuery emulator, run by the Python of its own environment.

It imports nothing of ours. SIGTERM lets what is being answered end first.
"""

import json
import sys
from pathlib import Path

from local_bigquery import cli
from local_bigquery.engine import database
from local_bigquery.settings import settings
from uvicorn.config import LOGGING_CONFIG

_STOPPED = {"reason": "stopped", "message": "The emulator ended while the job ran"}


def end_unfinished_jobs() -> None:
    """Fails the jobs that an earlier process did not end, for whom clients would wait for ever."""
    status = {"state": "DONE", "errorResult": _STOPPED, "errors": [_STOPPED]}
    database.execute(
        "UPDATE emulator.jobs SET state = 'DONE', resource = json_merge_patch(resource, ?) "
        "WHERE state <> 'DONE'",
        [json.dumps({"status": status})],
    )


if __name__ == "__main__":
    project, data, port = sys.argv[1:]
    # A line for each request would let the log grow without end.
    LOGGING_CONFIG["loggers"]["uvicorn.access"]["level"] = "WARNING"
    settings.default_project_id, settings.data_dir = project, Path(data)
    end_unfinished_jobs()
    place = ["--host=127.0.0.1", f"--port={port}", "--grpc-port=0"]
    cli.main(["serve", *place, f"--project={project}", f"--data-dir={data}"])
