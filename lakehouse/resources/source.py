"""The source: files of publishers, downloaded once, verified, and landed with a record of them."""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from lakehouse.errors import (
    LakehouseError,
    NotPublishedError,
    SourceRefusedError,
    UnavailableError,
    UsageError,
)
from lakehouse.resources.landing import (
    Fingerprint,
    LandedFile,
    Part,
    Patience,
    Progress,
    commit,
    is_intact,
    read_record,
    record_of,
    shown,
)

if TYPE_CHECKING:
    from lakehouse.resources.http_file import HttpFile

logger = logging.getLogger(__name__)

_PATIENCE = Patience()
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_CHUNK_BYTES = 1 << 20


class Source:
    """Lands the files of publishers in a folder, from the internet or from a mirror of it."""

    def __init__(
        self,
        landing: Path,
        mirror: str | None = None,
        *,
        patience: Patience = _PATIENCE,
    ):
        """Name the landing folder and where to read instead of the internet.

        Args:
            landing: The folder that files land in.
            mirror: A folder or an http(s) address that is laid out as host/path.
            patience: How often and how long an address is tried.
        """
        self._landing = landing
        self._mirror = mirror
        self._patience = patience

    def locate(self, url: str) -> Path | str:
        """Where a URL is read from: a path in the mirror folder, or an address.

        Raises:
            UsageError: The URL is not of http(s), or would lead out of the mirror.
        """
        segments = _segments(url)
        if self._mirror is None:
            return url
        if _is_address(self._mirror):
            parts = urlsplit(url)
            query = f"?{parts.query}" if parts.query else ""
            return f"{self._mirror.rstrip('/')}/{parts.hostname}{parts.path}{query}"
        return Path(self._mirror).expanduser().joinpath(*segments)

    def probe(self, url: str) -> Fingerprint:
        """Ask the publisher which version of a file it has, without downloading it.

        Raises:
            NotPublishedError: The publisher does not have the file.
            UnavailableError: The publisher could not be reached.
            UsageError: The URL or the mirror is wrong.
        """
        return self._publication(url).probe()

    def land(
        self,
        url: str,
        folder: str,
        check: Callable[[Path], None],
        progress: Progress | None = None,
    ) -> LandedFile:
        """Land a file in `folder` of the landing folder, unless this version is there already.

        A landed copy that is intact serves where the publisher cannot be reached or has taken
        the file away; a warning is logged.

        Args:
            url: The publisher's address of the file.
            folder: A folder within the landing folder.
            check: Raises SourceRefusedError for a file that is not what its name says.
            progress: Called while bytes arrive.

        Raises:
            NotPublishedError: The publisher does not have the file.
            SourceRefusedError: What arrived did not pass `check`; what was landed stays.
            UnavailableError: The publisher could not be reached, or broke off every time.
            UsageError: The URL or the mirror is wrong.
            LakehouseError: The publisher refuses, or the disk is full.
        """
        publication = self._publication(url)
        target = self._landing / folder / _segments(url)[-1]
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            landed = read_record(target, shown(url))
            try:
                published = publication.probe()
            except (UnavailableError, NotPublishedError) as error:
                if landed is None or not is_intact(landed):
                    raise
                logger.warning("%s Using %s of %s.", error, landed.path, landed.landed_at)
                return landed
            if landed and landed.fingerprint.is_same(published):
                return landed
            part = Part(target)
            part.keep_only(published)
            try:
                version, sha256 = publication.fetch(part, progress)
                part.check(check)
                return commit(part, target, shown(url), version, sha256)
            except OSError as error:
                if error.errno not in _DISK_FULL:
                    raise
                part.drop()
                needed = "an unknown number of" if published.size is None else f"{published.size:,}"
                raise LakehouseError(
                    f"The disk of {target.parent} is full: {target.name} needs {needed} bytes; "
                    "free some space and run again."
                ) from error

    def landed(self, url: str, folder: str) -> LandedFile | None:
        """What of a URL is landed, without asking the publisher; None where nothing is."""
        return read_record(self._landing / folder / _segments(url)[-1], shown(url))

    def verify(self, landed: LandedFile) -> None:
        """Hash a landed file again; one that was altered will be landed anew by the next call.

        Raises:
            SourceRefusedError: The file is not the one that landed.
        """
        if not is_intact(landed):
            record_of(landed.path).unlink(missing_ok=True)
            raise SourceRefusedError(
                f"{landed.path} was altered after it landed; run again to land it anew."
            )

    def _publication(self, url: str) -> "HttpFile | _FolderFile":
        location = self.locate(url)
        if isinstance(location, str):
            # A third of a second to import, which a mirror folder does not need.
            from lakehouse.resources.http_file import HttpFile

            return HttpFile(location, self._patience)
        return _FolderFile(location, Path(str(self._mirror)).expanduser())


def _segments(url: str) -> list[str]:
    """The host and the names in a URL's path, decoded, the last being the file's."""
    parts = urlsplit(url)
    names = [name for name in unquote(parts.path).split("/") if name]
    segments = [parts.hostname or "", *names]
    if not _is_address(url) or not parts.hostname or not names or ".." in segments:
        raise UsageError(
            f"{shown(url)} is not the address of a file; give one as https://host/path."
        )
    return segments


class _FolderFile:
    """A file in a mirror folder."""

    def __init__(self, path: Path, mirror: Path):
        self._path = path
        self._mirror = mirror

    def probe(self) -> Fingerprint:
        if not self._mirror.is_dir():
            raise UsageError(
                f"The mirror {self._mirror} is not a folder; correct LAKEHOUSE_SOURCE_MIRROR."
            )
        if not self._path.is_file():
            raise NotPublishedError(
                f"The mirror has no {self._path}; put the file there, or unset "
                "LAKEHOUSE_SOURCE_MIRROR to read the publisher."
            )
        return self._fingerprint(self._path.stat())

    def fetch(self, part: Part, progress: Progress | None) -> tuple[Fingerprint, str]:
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise UsageError(
                f"{self._path} cannot be read ({error.strerror}); correct its permissions."
            ) from error
        with file:
            version = self._fingerprint(os.fstat(file.fileno()))
            part.begin(version)
            sha256 = part.append(_chunks(file, version.size or 0), version.size, progress)
            if self._fingerprint(os.fstat(file.fileno())) != version:
                raise UnavailableError(
                    f"{self._path} changed while it was copied; run again when it is complete."
                )
        return version, sha256

    @staticmethod
    def _fingerprint(stat: os.stat_result) -> Fingerprint:
        return Fingerprint(
            size=stat.st_size,
            etag=f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"',
            last_modified=formatdate(stat.st_mtime, usegmt=True),
        )


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file, which may be growing."""
    for start in range(0, size, _CHUNK_BYTES):
        yield file.read(min(_CHUNK_BYTES, size - start))


def _is_address(location: str) -> bool:
    return location.startswith(("http://", "https://"))
