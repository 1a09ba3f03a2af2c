"""The process that is dbt: it reads itself and the project, and waits to be told what to make.

    python -m lakehouse.resources.dbt_main PARSED

PARSED is the file in which dbt has kept the project as it has read it. A line of standard input,
which `request` makes, says what to make; where there is none, or when it ends later on, the process
that would have listened is gone, and so is this one.
"""

import gc
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from lakehouse.errors import is_disk_full

DISK_FULL_CODE = 28
"""The exit code where the disk is full, which is what the system calls that error."""

_GARBAGE_OBJECTS = 100_000
"""That are made until garbage is looked for, which is hardly any; by default it is 700."""

_QUIETLY = ("--quiet", "--log-level-file", "none", "--no-write-json")
_NOTHING = ("list", "--resource-type", "exposure")


def request(arguments: Sequence[str], environment: Mapping[str, str], results: Path) -> bytes:
    """The line that has dbt carry out arguments.

    Args:
        arguments: What follows `dbt` on a command line.
        environment: Variables of the environment.
        results: The file to put what became of each node into, as JSON: its unique id, its status
            and dbt's message. Where dbt breaks off there is none.
    """
    return json.dumps([arguments, environment, str(results)]).encode() + b"\n"


def main(parsed: str) -> int:
    """Run dbt as standard input says; returns dbt's own exit codes, and one more."""
    gc.disable()  # it would look through all that is read, again and again, and find nothing
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    from lakehouse.resources import dbt_savings

    dbt_savings.leave_out_debugging()
    dbt_savings.compile_texts_once()
    manifest = Manifest.from_msgpack(Path(parsed).read_bytes())
    dbt_savings.forget_other_kinds(manifest)
    manifest.build_flat_graph()  # what macros see as `graph`, which is not kept
    dbt = dbtRunner(manifest=manifest)
    # A command that does nothing: what dbt does before its first one is then done.
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        dbt.invoke([*_QUIETLY, *_NOTHING, "--target-path", folder, "--log-path", folder])
    dbt_savings.import_ahead()
    dbt_savings.compile_ahead(manifest)
    gc.enable()
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS)
    line = sys.stdin.readline()
    if not line:
        return 0
    Thread(target=_end_with_parent, daemon=True).start()
    arguments, environment, results = json.loads(line)
    os.environ.update(environment)
    answer = dbt.invoke(arguments)
    if answer.exception:
        return DISK_FULL_CODE if is_disk_full(answer.exception) else 2
    nodes: Any = answer.result
    kept = [[result.node.unique_id, result.status, result.message] for result in nodes]
    Path(results).write_text(json.dumps(kept))
    return 0 if answer.success else 1


def _end_with_parent() -> None:
    """Makes nothing for nobody: it might put back what somebody else has made meanwhile."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
