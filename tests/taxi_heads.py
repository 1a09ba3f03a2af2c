"""The first bytes of the publisher's CSV files of taxi trips, where they are to hand."""

import os
import tarfile
from pathlib import Path

MIRROR = Path(
    os.environ.get("LAKEHOUSE_TEST_MIRROR")
    or Path(__file__).resolve().parents[2] / "shared" / "mirror"
)
_HEADS = MIRROR.parent / "samples" / "tlc_csv_heads_1024B.tar.gz"


def _real_heads() -> dict[str, bytes]:
    if not _HEADS.exists():
        return {}
    with tarfile.open(_HEADS) as archive:
        members = [member for member in archive.getmembers() if "_tripdata_" in member.name]
        return {Path(member.name).stem: archive.extractfile(member).read() for member in members}


REAL_HEADS = _real_heads()
"""By the file's name, such as `green_tripdata_2014-03`; empty where the samples are not here."""
