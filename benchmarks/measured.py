"""Runs a program and writes its time, peak memory and exit code to a file, as JSON.

    python -S benchmarks/measured.py FILE PROGRAM ARGUMENTS...

A process of its own, since Linux counts what a parent has in memory as its children's peak.
"""

import json
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    file, *command = sys.argv[1:]
    started = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    measured = {
        "seconds": time.perf_counter() - started,
        "peak_mb": usage.ru_maxrss / 1024,
        "written_mb": usage.ru_oublock * 512 / 1024**2,
        "code": os.waitstatus_to_exitcode(status),
    }
    Path(file).write_text(json.dumps(measured))
