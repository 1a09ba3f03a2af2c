"""The object store, where cleaned files are put for others to read: folders, GCS, S3."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from lakehouse.errors import LakehouseError, UnavailableError, UsageError
from lakehouse.resources.object_targets.copies import Copies
from lakehouse.resources.object_targets.folder import FolderTarget
from lakehouse.resources.object_targets.gcs import GcsTarget
from lakehouse.resources.object_targets.s3 import S3Target
from lakehouse.resources.object_targets.target import (
    CorruptedError,
    ReplacedError,
    StoredObject,
    file_sha256,
    verify,
)
from lakehouse.services.gcs import LOCAL_BUCKET, GcsService
from lakehouse.settings import Settings

_READ_TRIES = 3

_Place = FolderTarget | GcsTarget | S3Target


@dataclass(frozen=True)
class LocalObject:
    """A file on this machine with what an object has, and which version that is."""

    path: Path
    stored: StoredObject


class Objects:
    """The targets of the settings; objects are put into all of them and read from the first.

    Without a setting that is the bucket `lakehouse` of the local GCS service, which is started on
    first need, or of what STORAGE_EMULATOR_HOST names. Names are relative, with slashes. Objects
    are replaced as a whole; of two that put one name at once, the last one stays.

    Every method raises UnavailableError where a store does not answer, UsageError for a name or a
    setting that is none, and LakehouseError where a store refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._copies = Copies(settings.state / "cache" / "objects")

    @property
    def targets(self) -> tuple[str, ...]:
        """The addresses of the targets, without credentials."""
        return tuple(place.uri for place in self._places)

    def uri(self, name: str) -> str:
        """The object's address in the first target."""
        return f"{self._first.uri}/{_checked(name)}"

    def put(self, name: str, file: Path) -> Sequence[StoredObject]:
        """Puts the file into every target that does not have it yet, one after the other.

        Returns:
            The object in each target.
        """
        _checked(name)
        sha256, size = file_sha256(file), file.stat().st_size
        stored = []
        for place in self._places:
            there = place.stat(name)
            if there is None or (there.sha256, there.size) != (sha256, size):
                there = place.put(name, file, sha256)
            stored.append(there)
        return stored

    def stat(self, name: str) -> StoredObject | None:
        """The object in the first target; None where it is not there."""
        return self._first.stat(_checked(name))

    def list(self, prefix: str = "") -> Sequence[tuple[str, StoredObject]]:
        """Name and object of all in the first target whose name begins with the prefix."""
        if "/" in prefix:
            _checked(prefix.rpartition("/")[0])
        return list(self._first.list(prefix))

    @contextmanager
    def local(self, name: str) -> Iterator[LocalObject]:
        """The object of the first target as a file, verified; it stays while it is used.

        Of a folder it is the object itself, of a bucket a copy below the home.

        Raises:
            LakehouseError: there is no such object, or its bytes are not those that were put.
        """
        with ExitStack() as held:
            yield self._read(_checked(name), held)

    def _read(self, name: str, held: ExitStack) -> LocalObject:
        problem: Exception | None = None
        for _ in range(_READ_TRIES):
            stored = self._first.stat(name)
            if stored is None:
                raise LakehouseError(
                    f"There is no object {self.uri(name)}: materialize what puts it there, "
                    "or check LAKEHOUSE_OBJECTS."
                )
            try:
                if isinstance(self._first, FolderTarget):
                    path = self._first.path(name)
                    verify(path, stored)
                else:
                    path = held.enter_context(self._copies.held(self._first, name, stored))
                return LocalObject(path, stored)
            except (CorruptedError, ReplacedError, FileNotFoundError) as error:
                problem = error
        if isinstance(problem, CorruptedError):
            raise LakehouseError(
                f"The bytes of {self.uri(name)} are not those that were put there: "
                "remove it and materialize it again."
            ) from problem
        raise UnavailableError(
            f"The object {self.uri(name)} was replaced each time it was read: "
            "run again once its writers have finished."
        ) from problem

    @property
    def _first(self) -> _Place:
        return self._places[0]

    @cached_property
    def _places(self) -> tuple[_Place, ...]:
        addresses = (self._settings.objects or "").split()
        if addresses:
            return tuple(_place(address, self._settings) for address in addresses)
        # Google's client goes to the emulator that its own variable names.
        elsewhere = os.environ.get("STORAGE_EMULATOR_HOST")
        service = None if elsewhere else GcsService(self._settings)
        return (GcsTarget(LOCAL_BUCKET, "", service),)


def _place(address: str, settings: Settings) -> _Place:
    if "://" not in address:
        return FolderTarget(Path(address).expanduser().resolve(), settings.state / "locks")
    url = urlsplit(address)
    prefix = url.path.strip("/")
    plain = url.netloc and "@" not in url.netloc and not url.query and not url.fragment
    if plain and url.scheme == "gs":
        return GcsTarget(url.netloc, prefix, None)
    if plain and url.scheme == "s3":
        return S3Target(url.netloc, prefix)
    # Not repeated, since it may hold a password.
    raise UsageError(
        "LAKEHOUSE_OBJECTS takes folders, gs://bucket/prefix and s3://bucket/prefix, separated by "
        "white space and without accounts or options: one of its addresses is something else."
    )


def _checked(name: str) -> str:
    """The name, if it stays below its target and hides nothing."""
    parts = name.split("/")
    if not all(parts) or any(p.startswith(".") for p in parts) or not _is_plain(name):
        raise UsageError(
            f"{name!r} cannot be an object's name: give a relative path such as "
            "data/green/trips.parquet, without parts that begin with a dot."
        )
    return name


def _is_plain(name: str) -> bool:
    return name.isprintable() and "\\" not in name
