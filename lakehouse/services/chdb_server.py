"""The child process that is the ClickHouse server: `python -m … LIBCHDB CONFIG USERS DATA`.

ClickHouse as libchdb does not confine what its accounts read by `file('/path')`, so before it
starts the process gives up all files but its data. Its two files of configuration come by pipes.

SIGTERM keeps its default action and ends the process at once: ClickHouse publishes a part of a
table by renaming it, so an end at any moment leaves every table readable.
"""

import ctypes
import os
import sys
from pathlib import Path

from lakehouse.services import landlock

# The listener lives as long as the query that opened it, so this one never ends.
_SERVE = (
    "SYSTEM START LISTEN HTTP; SELECT sleepEachRow(3) FROM system.numbers "
    "SETTINGS function_sleep_max_microseconds_per_block = 0, max_block_size = 1, "
    "max_execution_time = 0 FORMAT Null"
)

_READABLE = (
    # What the memory and the processors are, and how much of them the server may take.
    *("/proc/meminfo", "/proc/self/cgroup", "/proc/self/maps", "/proc/self/statm"),
    "/sys/fs/cgroup",
    "/dev/urandom",
)
_NOT_CONFINED = (
    "This kernel has no Landlock (Linux 5.19 or newer has): only that ClickHouse finds no paths "
    "keeps its accounts from the files of the user who started it.\n"
)


class _Result(ctypes.Structure):
    """`local_result_v2` of chdb.h."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("len", ctypes.c_size_t),
        ("vec", ctypes.c_void_p),
        ("elapsed", ctypes.c_double),
        ("rows_read", ctypes.c_uint64),
        ("bytes_read", ctypes.c_uint64),
        ("error_message", ctypes.c_char_p),
    )


def serve(library: str, config: str, users: str, data: str) -> str | None:
    """Runs the server until the process is ended; returns why it could not, unless it said so."""
    query = ctypes.CDLL(library).query_stable_v2
    query.argtypes = (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))
    query.restype = ctypes.POINTER(_Result)
    arguments = [
        "clickhouse",
        "--multiquery",
        "--log-level=warning",
        f"--config-file={_piped(config)}",
        f"--query={_SERVE}",
        "--",
        f"--users_config={_piped(users)}",
        # It would say of each thread that it cannot measure it.
        "--logger.levels.ThreadStatus=none",
    ]
    # Now, since threads that run already would not be confined.
    if landlock.available():
        landlock.confine(Path(data), map(Path, _READABLE))
    else:
        sys.stderr.write(_NOT_CONFINED)
    argv = (ctypes.c_char_p * len(arguments))(*(a.encode() for a in arguments))
    result = query(len(arguments), argv)
    message = result.contents.error_message if result else None
    return message.decode(errors="replace") if message else None


def _piped(path: str) -> str:
    """Another path of the file's content, which can be read once and by this process alone."""
    output, content = os.pipe()
    os.write(content, Path(path).read_bytes())
    os.close(content)
    return f"/dev/fd/{output}"


if __name__ == "__main__":
    sys.exit(serve(*sys.argv[1:]) or 1)
