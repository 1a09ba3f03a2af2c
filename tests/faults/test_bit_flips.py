"""A bit that flips on disk is noticed before it is used, or by verification."""

import random
from pathlib import Path

import pytest
from faults.choice import choose
from faults.rehearsal import Rehearsal

NOT_LANDED = "is not what was landed"
LANDED = {
    "drives": {"archive": ("*.zip", "drives/bronze/drive_days", NOT_LANDED)},
    "taxi": {
        "trips": ("green*.parquet", "taxi/objects/green_trips", NOT_LANDED),
        "zones": ("*.csv", "taxi/objects/green_trips", "was altered after it landed"),
    },
    "retail": {
        "lines": (
            *("staged/*/*/2010-12.lines.parquet", "retail/raw/online_retails"),
            "is not what was staged",
        )
    },
}
"""The files, what is made of them, and what is said."""

LAKE = {
    "drives": ["bronze/drive_days", "silver/drive_days", "gold/daily_summary", "rejects"],
    "taxi": ["gold/green_daily", "gold/green_zones", "rejects/green"],
    "retail": ["rejects"],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    choose(metafunc, "landed", {"drives": ["archive"]}, LANDED)
    choose(metafunc, "table", {"drives": ["bronze/drive_days"]}, LAKE)


def test_in_a_landed_file(rehearsal: Rehearsal, landed: str) -> None:
    """Nothing is made of it, a sentence says what to do, and that helps."""
    subject, home = rehearsal.subject, rehearsal.home
    pattern, user, sentence = LANDED[subject.name][landed]
    path = sorted((home.folder / "landing" / subject.name).glob(pattern))[0]
    before = subject.tables(home)
    with rehearsal.disturbed("bit flipped in a landed file"):
        flip_a_bit(path)
        refused = home.call(*subject.backfill(), "--force", "--select", f'key:"{user}"')
        assert refused.code == 1
        assert sentence in refused.out + refused.err
        assert "Traceback" not in refused.out + refused.err
        assert subject.tables(home) == before
        path.unlink(missing_ok=True)
        for staged in path.parent.glob("manifest.json"):
            staged.unlink()


def test_in_a_file_of_the_lake(rehearsal: Rehearsal, table: str) -> None:
    subject, home = rehearsal.subject, rehearsal.home
    name = f"{subject.name}/{table}"
    with rehearsal.disturbed("bit flipped in a Delta file"):
        files = (home.folder / "lake" / name).glob("*=*/*.parquet")
        path = max(files, key=lambda path: path.stat().st_mtime_ns)
        flip_a_bit(path)
        answer = home.call("verify", subject.name)
        assert answer.code == 1
        assert f"{path} has other bytes than were written: backfill it again" in answer.out
        # What verify says: this month again.
        (partition,) = (p.partition("=")[2] for p in path.parts if "=" in p)
        answer = home.call(*subject.backfill(partition), "--force")
        assert answer.code == 0, answer.out + answer.err
    assert home.call("verify", subject.name).code == 0


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = random.Random(path.name).randrange(len(content))
    content[at] ^= 1 << at % 8
    path.chmod(0o644)
    path.write_bytes(content)
