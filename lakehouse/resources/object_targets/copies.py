"""Copies of objects of a bucket on this machine, to read them with Polars."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from lakehouse.resources.object_targets.target import (
    Bucket,
    CorruptedError,
    StoredObject,
    verify,
)

COPIES = 8
"""How many copies stay."""

_FORGOTTEN_SECONDS = 3600.0


class Copies:
    """A folder of copies, each under a name with its version.

    Whoever reads a copy holds a lock on it, which ends with the process; it is not removed
    meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def held(self, bucket: Bucket, name: str, stored: StoredObject) -> Iterator[Path]:
        """The verified copy of this version of the object, downloaded if it is not there.

        Raises:
            ReplacedError: the version is not there any more.
            CorruptedError: it is not what its checksum says.
        """
        version = sha256(f"{stored.uri} {stored.version}".encode()).hexdigest()
        path = self._folder / f"{version[:24]}-{Path(name).name}"
        file = self._reused(path, stored)
        while file is None:
            self._download(bucket, name, stored, path)
            file = _hold(path)
        with file:
            self._remove_oldest()
            yield path

    def _reused(self, path: Path, stored: StoredObject) -> BinaryIO | None:
        file = _hold(path)
        if file is None:
            return None
        try:
            verify(path, stored)
            os.utime(path)
        except (CorruptedError, FileNotFoundError):
            file.close()
            path.unlink(missing_ok=True)
            return None
        return file

    def _download(self, bucket: Bucket, name: str, stored: StoredObject, path: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Two that download one object do not wait for each other; the first one's copy stays.
        draft = self._folder / f".{uuid4().hex}.part"
        try:
            with draft.open("xb") as stream:
                bucket.fetch(name, stored, stream)
                stream.flush()
                os.fsync(stream.fileno())
            verify(draft, stored)
            if not path.exists():
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def _remove_oldest(self) -> None:
        """Removes copies beyond the bound, and downloads that ended in the middle."""
        copies = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                copies.append((path.stat().st_mtime, path))
        now = time.time()
        for modified, path in copies:
            if path.name.startswith(".") and modified < now - _FORGOTTEN_SECONDS:
                path.unlink(missing_ok=True)
        whole = sorted(copy for copy in copies if not copy[1].name.startswith("."))
        for _, path in whole[:-COPIES]:
            _remove_unless_held(path)


def _hold(path: Path) -> BinaryIO | None:
    """The file, open and locked against removal; None where it is not there."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    # It may have been removed, and another put there, before the lock was had.
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    file.close()
    return None


def _remove_unless_held(path: Path) -> None:
    with suppress(FileNotFoundError), path.open("rb") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
