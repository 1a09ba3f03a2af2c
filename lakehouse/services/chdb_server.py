"""The child process that is the ClickHouse server: `python -m … LIBCHDB CONFIG`.

SIGTERM keeps its default action and ends the process at once: ClickHouse publishes a part of a
table by renaming it, so an end at any moment leaves every table readable.
"""

import ctypes
import sys

# The listener lives as long as the query that opened it, so this one never ends.
_SERVE = (
    "SYSTEM START LISTEN HTTP; SELECT sleepEachRow(3) FROM system.numbers "
    "SETTINGS function_sleep_max_microseconds_per_block = 0, max_block_size = 1, "
    "max_execution_time = 0 FORMAT Null"
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


def serve(library: str, config: str) -> str | None:
    """Runs the server until the process is ended; returns why it could not, unless it said so."""
    query = ctypes.CDLL(library).query_stable_v2
    query.argtypes = (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))
    query.restype = ctypes.POINTER(_Result)
    arguments = [
        "clickhouse",
        "--multiquery",
        "--log-level=warning",
        f"--config-file={config}",
        f"--query={_SERVE}",
    ]
    argv = (ctypes.c_char_p * len(arguments))(*(a.encode() for a in arguments))
    result = query(len(arguments), argv)
    message = result.contents.error_message if result else None
    return message.decode(errors="replace") if message else None


if __name__ == "__main__":
    sys.exit(serve(*sys.argv[1:]) or 1)
