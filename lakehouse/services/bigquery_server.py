"""The child process that is the BigQuery emulator, run by the Python of its own environment.

It imports nothing of ours. SIGTERM lets what is being answered end first.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from local_bigquery import cli
from local_bigquery.engine import database
from local_bigquery.jobs import runner
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


def end_with_jobs_that_cannot_end() -> None:
    """Ends the process where the end of a job cannot be written down, as on a full disk.

    The emulator would let the job run for ever; the next process fails it.
    """
    execute = runner._execute

    def executed(*job: Any) -> None:
        try:
            execute(*job)
        except BaseException:
            try:
                traceback.print_exc()
            finally:  # the log may be on that disk
                os._exit(1)

    runner._execute = executed


if __name__ == "__main__":
    project, data, port = sys.argv[1:]
    # A line for each request would let the log grow without end.
    LOGGING_CONFIG["loggers"]["uvicorn.access"]["level"] = "WARNING"
    settings.default_project_id, settings.data_dir = project, Path(data)
    end_unfinished_jobs()
    end_with_jobs_that_cannot_end()
    place = ["--host=127.0.0.1", f"--port={port}", "--grpc-port=0"]
    cli.main(["serve", *place, f"--project={project}", f"--data-dir={data}"])
