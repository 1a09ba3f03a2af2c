"""The inbox: files that people drop, taken into the landing folder once they are whole."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.settings import Settings

if TYPE_CHECKING:
    from pyarrow import fs

_UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart", ".swp", "~")
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Dropped:
    """A file in the inbox as it was seen: equal when neither its size nor its time changed."""

    name: str
    size: int
    modified: str


@dataclass(frozen=True)
class Taken:
    """A file that was taken from the inbox.

    `id` orders them by when they were taken; `partitions` are those that the file serves.
    """

    id: str
    name: str
    path: Path
    size: int
    sha256: str
    landed_at: datetime
    partitions: tuple[str, ...]


class Inbox:
    """The inbox of one data set: a folder or a bucket's prefix."""

    def __init__(self, settings: Settings, dataset: str):
        root = settings.inbox or (settings.state / "inbox").as_uri()
        if "://" not in root:
            root = Path(root).expanduser().resolve().as_uri()
        self._root, self._dataset = root, dataset
        self._landing = settings.state / "landing" / dataset / "inbox"

    @cached_property
    def _place(self) -> "tuple[fs.FileSystem, str]":
        """The file system of the inbox, and its folder in it; opened when it is looked into."""
        from pyarrow import fs

        file_system, folder = fs.FileSystem.from_uri(self._root)
        return file_system, f"{folder.rstrip('/')}/{self._dataset}"

    @property
    def _fs(self) -> "fs.FileSystem":
        return self._place[0]

    @property
    def _folder(self) -> str:
        return self._place[1]

    def look(self) -> list[Dropped]:
        """The files that lie there now, without hidden and half-uploaded ones."""
        from pyarrow.fs import FileSelector

        if self._fs.type_name == "local":
            self._fs.create_dir(self._folder)
        selector = FileSelector(self._folder, allow_not_found=True)
        return [
            Dropped(info.base_name, info.size, str(info.mtime_ns))
            for info in sorted(self._fs.get_file_info(selector), key=lambda info: info.base_name)
            if info.is_file
            and not info.base_name.startswith(".")
            and not info.base_name.lower().endswith(_UNFINISHED)
        ]

    def fetch(self, dropped: Dropped) -> Path | None:
        """Copy a file next to the landing folder; None if it changed or went away meanwhile."""
        copy = self._landing / ".incoming" / dropped.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            with (
                # Left to itself, it inflates what is named .gz.
                self._fs.open_input_stream(
                    f"{self._folder}/{dropped.name}", compression=None
                ) as stream,
                copy.open("wb") as out,
            ):
                shutil.copyfileobj(stream, out, _CHUNK)
        except FileNotFoundError:
            copy.unlink(missing_ok=True)
            return None
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        if dropped not in self.look() or copy.stat().st_size != dropped.size:
            copy.unlink()
            return None
        return copy

    def preview(self, dropped: Dropped, copy: Path) -> Taken:
        """The copy as it would be once it is taken, to look into."""
        return Taken("", dropped.name, copy, dropped.size, "", datetime.now(UTC), ())

    def take(self, dropped: Dropped, copy: Path, partitions: Sequence[str]) -> Taken:
        """Land the copy, which serves these partitions, and clear the inbox of the file.

        The record is written before the file gets its name, and the inbox is cleared last: a crash
        in between leaves the file in the inbox, to be taken again.
        """
        with copy.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        now = datetime.now(UTC)
        taken_id = now.strftime("%Y%m%dT%H%M%S%f")
        last = max((record.stem for record in self._landing.glob("*.json")), default="")
        if taken_id <= last:  # the clock was set back; sensors go by the order of ids
            taken_id = f"{last}+"
        path = self._landing / taken_id / dropped.name
        path.parent.mkdir()
        record = {
            "sha256": sha256,
            "landed_at": now.isoformat(),
            "size": dropped.size,
            "partitions": list(partitions),
        }
        (self._landing / f"{taken_id}.json").write_text(json.dumps(record))
        copy.replace(path)
        self._fs.delete_file(f"{self._folder}/{dropped.name}")
        return Taken(taken_id, dropped.name, path, dropped.size, sha256, now, tuple(partitions))

    def refuse(self, dropped: Dropped, copy: Path, reason: str) -> None:
        """Move a file that cannot be used to `refused/`, with the reason beside it."""
        copy.unlink()
        refused = f"{self._folder}/refused"
        if self._fs.type_name == "local":
            self._fs.create_dir(refused)
        with self._fs.open_output_stream(f"{refused}/{dropped.name}.reason.txt") as stream:
            stream.write(f"{reason}\n".encode())
        self._fs.move(f"{self._folder}/{dropped.name}", f"{refused}/{dropped.name}")

    def taken(self) -> list[Taken]:
        """All files that were ever taken, in the order in which they were."""
        found = []
        for record in sorted(self._landing.glob("*.json"), key=lambda path: path.stem):
            for path in (self._landing / record.stem).iterdir():
                values = json.loads(record.read_text())
                found.append(
                    Taken(
                        id=record.stem,
                        name=path.name,
                        path=path,
                        size=values["size"],
                        sha256=values["sha256"],
                        landed_at=datetime.fromisoformat(values["landed_at"]),
                        partitions=tuple(values["partitions"]),
                    )
                )
        return found
