"""What all kinds of place have in common."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK_BYTES = 32 * 1024**2
"""Bytes of a file that are in memory at once while it is uploaded."""

TIMEOUT_SECONDS = (10.0, 60.0)
"""How long a connection may take, and how long no byte may arrive."""


@dataclass(frozen=True)
class StoredObject:
    """An object as it lies in the store.

    Attributes:
        uri: Its address, without credentials.
        size: In bytes.
        sha256: Of its bytes, in hexadecimal; None where somebody else put it there.
        version: Changes when the object is replaced.
        updated: When it was put there.
    """

    uri: str
    size: int
    sha256: str | None
    version: str
    updated: datetime


class ReplacedError(Exception):
    """The object that was to be fetched has gone, or another one is in its place."""


class CorruptedError(Exception):
    """The bytes that arrived are not those that the store has."""


class Target(Protocol):
    """A place that objects are kept in; names are relative, with slashes.

    All raise UnavailableError where the store does not answer, and LakehouseError where it refuses.
    """

    uri: str

    def put(self, name: str, file: Path, sha256: str) -> StoredObject:
        """Writes the file as a whole; readers see the old object or the new one."""

    def stat(self, name: str) -> StoredObject | None:
        """The object as it is now."""

    def list(self, prefix: str) -> Iterator[tuple[str, StoredObject]]:
        """The objects whose name begins with the prefix, in the order of their names."""


class Bucket(Target, Protocol):
    """A place whose objects are no files, and are fetched to be read."""

    def fetch(self, name: str, stored: StoredObject, stream: BinaryIO) -> None:
        """Writes the bytes of this version of the object to the stream.

        Raises:
            ReplacedError: it is not there any more.
            CorruptedError: the store's checksum is not that of what arrived.
        """


def verify(path: Path, stored: StoredObject) -> None:
    """Holds a file against what is known of the object.

    Raises:
        CorruptedError: it has other bytes.
    """
    if path.stat().st_size != stored.size:
        raise CorruptedError
    if stored.sha256 is not None and file_sha256(path) != stored.sha256:
        raise CorruptedError


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
