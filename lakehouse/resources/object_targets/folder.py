"""Objects as files in a folder; a hidden record beside each has its SHA-256."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256 as new_sha256
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.resources.object_targets.target import StoredObject, file_sha256

_FORGOTTEN_SECONDS = 24 * 3600.0


class FolderTarget:
    """A folder, made when the first object is put into it."""

    def __init__(self, folder: Path, locks: Path) -> None:
        self.uri = str(folder)
        self._folder, self._locks = folder, locks

    def path(self, name: str) -> Path:
        """The file that is the object."""
        return self._folder / name

    def put(self, name: str, file: Path, sha256: str) -> StoredObject:
        """Copies the file beside the old one, reads the copy again, and renames it."""
        path = self.path(name)
        with self._explained(), self._alone(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_forgotten(path)
            draft = path.with_name(f".{path.name}.{uuid4().hex}.part")
            try:
                _copy(file, draft)
                if file_sha256(draft) != sha256:
                    raise UnavailableError(
                        f"{name} did not arrive whole in {self.uri}: run again, and look at the "
                        "disk if it stays so."
                    )
                # Before the file, so that it holds for the new one alone, which it describes.
                _write_record(path, draft, sha256)
                draft.replace(path)
                _sync_folder(path.parent)
            finally:
                draft.unlink(missing_ok=True)
            return self._stored(path)

    def stat(self, name: str) -> StoredObject | None:
        """The object as it is now."""
        with self._explained():
            try:
                return self._stored(self.path(name))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def list(self, prefix: str) -> Iterator[tuple[str, StoredObject]]:
        """The objects whose name begins with the prefix, hidden files left out."""
        with self._explained():
            for path in sorted((self._folder / prefix.rpartition("/")[0]).rglob("*")):
                name = path.relative_to(self._folder).as_posix()
                hidden = any(part.startswith(".") for part in name.split("/"))
                # One that goes away meanwhile is none.
                with suppress(FileNotFoundError):
                    if name.startswith(prefix) and not hidden and path.is_file():
                        yield name, self._stored(path)

    def _stored(self, path: Path) -> StoredObject:
        status = path.stat()
        version = _version(status)
        try:
            record = json.loads(_record(path).read_text())
        except (OSError, ValueError):
            record = {}
        return StoredObject(
            uri=str(path),
            size=status.st_size,
            sha256=record["sha256"] if record.get("version") == version else None,
            version=version,
            updated=datetime.fromtimestamp(status.st_mtime, UTC),
        )

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Keeps two that put one object apart, of whom one would have the other's record."""
        self._locks.mkdir(parents=True, exist_ok=True)
        with FileLock(self._locks / f"object-{new_sha256(str(path).encode()).hexdigest()}.lock"):
            yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LakehouseError(
                f"The folder {self.uri} cannot be used ({error.strerror}): make room, or mend its "
                "rights, or change LAKEHOUSE_OBJECTS."
            ) from error


def _copy(file: Path, draft: Path) -> None:
    with file.open("rb") as source, draft.open("xb") as target:
        shutil.copyfileobj(source, target, 1024**2)
        target.flush()
        os.fsync(target.fileno())


def _record(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _write_record(path: Path, draft: Path, sha256: str) -> None:
    record = _record(path)
    new = record.with_name(f"{record.name}.{uuid4().hex}.part")
    new.write_text(json.dumps({"sha256": sha256, "version": _version(draft.stat())}))
    new.replace(record)


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_ino}-{status.st_size}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_forgotten(path: Path) -> None:
    """Removes copies that were never finished; a younger one may still be written elsewhere."""
    for draft in path.parent.glob(".*.part"):
        with suppress(FileNotFoundError):
            if draft.stat().st_mtime < time.time() - _FORGOTTEN_SECONDS:
                draft.unlink()
