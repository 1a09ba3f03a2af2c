"""Small archives of drive stats: five days of twenty drives, whose third day can be spoiled."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from lakehouse.samples.drives import DRIVE_FOLDER

HEADER = "date,serial_number,model,capacity_bytes,failure,smart_9_raw"
DRIVES = 20
DAYS = 5

Spoil: TypeAlias = Callable[[list[str]], list[str] | bytes]
"""Makes a bad file of the lines of a good one, the header being the first."""


def day_lines(month: str, day: int) -> list[str]:
    return [HEADER] + [
        f"{month}-{day:02d},Z{number:04d},ST4000DM000,4000787030016,0,{number + 100}"
        for number in range(DRIVES)
    ]


def month_files(month: str, spoil: Spoil | None = None) -> dict[str, bytes]:
    """Five daily files; the third one is spoiled."""
    files = {}
    for day in range(1, DAYS + 1):
        lines = day_lines(month, day)
        content = spoil(lines) if spoil and day == 3 else lines
        if not isinstance(content, bytes):
            content = "".join(f"{line}\n" for line in content).encode()
        files[f"{month}-{day:02d}.csv"] = content
    return files


def write_archive(mirror: Path, name: str, files: dict[str, bytes]) -> Path:
    path = mirror / DRIVE_FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    return path


def in_line(number: int, old: str, new: str) -> Spoil:
    return lambda lines: [
        line.replace(old, new) if at == number else line for at, line in enumerate(lines)
    ]


def archive_of(month: str) -> str:
    return f"data_Q{(int(month[5:]) + 2) // 3}_{month[:4]}.zip"
