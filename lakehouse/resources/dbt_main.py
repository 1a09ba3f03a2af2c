"""dbt, started with the project as set-up has read it: reading it takes longer than making a month.

    python -m lakehouse.resources.dbt_main build --vars '{"months": ["2010-12"]}'

The variable LAKEHOUSE_DBT_PARSED names the file in which dbt has kept what it read.
"""

import os
import sys
from pathlib import Path

from lakehouse.errors import is_disk_full

PARSED_VARIABLE = "LAKEHOUSE_DBT_PARSED"
DISK_FULL_CODE = 28
"""The exit code where the disk is full, which is what the system calls that error."""


def main() -> int:
    """Run dbt with the arguments of this process; returns dbt's own exit codes, and one more."""
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    manifest = Manifest.from_msgpack(Path(os.environ[PARSED_VARIABLE]).read_bytes())
    manifest.build_flat_graph()  # what macros see as `graph`, which is not kept
    result = dbtRunner(manifest=manifest).invoke(sys.argv[1:])
    if result.exception:
        return DISK_FULL_CODE if is_disk_full(result.exception) else 2
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main())
