"""The source: files of publishers, downloaded once, verified, and landed with a record of them."""

import errno
import hashlib
import json
import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx
from filelock import FileLock
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from lakehouse.errors import (
    LakehouseError,
    NotPublishedError,
    SourceRefusedError,
    UnavailableError,
    UsageError,
)

logger = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there so far, and with the bytes of the whole where known."""

_T = TypeVar("_T")
_NOT_PUBLISHED = (403, 404, 410)
_HEAD_REFUSED = (403, 405, 501)
_TRY_AGAIN = (408, 425, 429)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Retry:
    """How often a publisher is tried, and how long is waited in between (seconds)."""

    attempts: int = 6
    first: float = 1.0
    longest: float = 60.0


_RETRY = Retry()
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


@dataclass(frozen=True)
class Fingerprint:
    """What a publisher says of a version of a file; `size` is in bytes."""

    size: int | None
    etag: str | None
    last_modified: str | None

    def is_same(self, other: "Fingerprint") -> bool:
        """Whether both are certainly of the same version."""
        if self.etag or other.etag:
            return self.etag == other.etag
        return self.last_modified is not None and self == other


@dataclass(frozen=True)
class LandedFile:
    """A file on disk and what was recorded when it landed; `size` is in bytes."""

    path: Path
    url: str
    size: int
    sha256: str
    etag: str | None
    last_modified: str | None
    landed_at: datetime
    downloaded: bool

    @property
    def fingerprint(self) -> Fingerprint:
        """The version that the publisher named when the file landed."""
        return Fingerprint(self.size, self.etag, self.last_modified)


class Source:
    """Lands the files of publishers in a folder, from the internet or from a mirror of it."""

    def __init__(
        self,
        landing: Path,
        mirror: str | None = None,
        *,
        retry: Retry = _RETRY,
        timeout: httpx.Timeout = _TIMEOUT,
    ):
        """Name the landing folder and where to read instead of the internet.

        Args:
            landing: The folder that files land in.
            mirror: A folder or an http(s) address that is laid out as host/path.
            retry: How often and how patiently an address is tried.
            timeout: Seconds to wait for a connection, and without a byte arriving.
        """
        self._landing = landing
        self._mirror = mirror
        self._retry = retry
        self._timeout = timeout

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
            landed = _read_record(target, _shown(url))
            try:
                published = publication.probe()
            except (UnavailableError, NotPublishedError) as error:
                if landed is None or not _is_intact(landed):
                    raise
                logger.warning("%s Using %s of %s.", error, landed.path, landed.landed_at)
                return landed
            if landed and landed.fingerprint.is_same(published):
                return landed
            part = _Part(target)
            part.keep_only(published)
            try:
                version, sha256 = publication.fetch(part, progress)
                part.check(check)
                return _commit(part, target, _shown(url), version, sha256)
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
        return _read_record(self._landing / folder / _segments(url)[-1], _shown(url))

    def verify(self, landed: LandedFile) -> None:
        """Hash a landed file again; one that was altered will be landed anew by the next call.

        Raises:
            SourceRefusedError: The file is not the one that landed.
        """
        if not _is_intact(landed):
            _record(landed.path).unlink(missing_ok=True)
            raise SourceRefusedError(
                f"{landed.path} was altered after it landed; run again to land it anew."
            )

    def _publication(self, url: str) -> "_HttpFile | _FolderFile":
        location = self.locate(url)
        if isinstance(location, str):
            return _HttpFile(location, self._retry, self._timeout)
        return _FolderFile(location, Path(str(self._mirror)).expanduser())


def looks_like_zip(path: Path) -> None:
    """Tell from the first bytes and the end record whether a file is a whole zip archive.

    Raises:
        SourceRefusedError: It is something else, or its end is missing.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        raise _not_a(path, "zip archive", start)
    if not zipfile.is_zipfile(path):
        raise _cut_short(path, "zip archive")


def looks_like_parquet(path: Path) -> None:
    """Tell from the first and the last bytes whether a file is a whole Parquet file.

    Raises:
        SourceRefusedError: It is something else, or its end is missing.
    """
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(max(0, path.stat().st_size - 4))
        end = file.read()
    if not start.startswith(b"PAR1"):
        raise _not_a(path, "Parquet file", start)
    if end != b"PAR1":
        raise _cut_short(path, "Parquet file")


class _Part:
    """A download under way: `<name>.part`, and beside it the version that it is a part of."""

    def __init__(self, target: Path):
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> Fingerprint | None:
        try:
            return Fingerprint(**json.loads(self._note.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def keep_only(self, published: Fingerprint) -> None:
        """Drop what belongs to another version than the published one."""
        if self.version is None or not self.version.is_same(published):
            self.drop()

    def begin(self, version: Fingerprint) -> None:
        # Emptied before it is named: bytes of another version never stand under this name.
        self.path.write_bytes(b"")
        self._note.write_text(json.dumps(asdict(version)))

    def append(self, chunks: Iterable[bytes], total: int | None, progress: Progress | None) -> str:
        """Write the chunks after what is there; the SHA-256 of the whole."""
        with self.path.open("ab+") as file:
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
            done = file.tell()
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
        return digest.hexdigest()

    def check(self, check: Callable[[Path], None]) -> None:
        try:
            check(self.path)
        except Exception:
            self.drop()
            raise

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


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

    def fetch(self, part: _Part, progress: Progress | None) -> tuple[Fingerprint, str]:
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


class _HttpFile:
    """A file at an address."""

    def __init__(self, address: str, retry: Retry, timeout: httpx.Timeout):
        self._address = address
        self._retry = retry
        self._timeout = timeout

    def probe(self) -> Fingerprint:
        return self._persist(self._probe)

    def fetch(self, part: _Part, progress: Progress | None) -> tuple[Fingerprint, str]:
        return self._persist(partial(self._fetch, part, progress))

    def _probe(self) -> Fingerprint:
        with self._client() as client:
            response = client.head(self._address)
            if response.status_code in _HEAD_REFUSED:
                first_byte = {"Range": "bytes=0-0"}
                with client.stream("GET", self._address, headers=first_byte) as response:
                    return self._fingerprint(response)
            return self._fingerprint(response)

    def _fetch(self, part: _Part, progress: Progress | None) -> tuple[Fingerprint, str]:
        """Bring the part to its end, continuing where it stopped if the publisher allows it."""
        version, offset = part.version, part.size
        headers = _range_headers(version, offset)
        with (
            self._client() as client,
            client.stream("GET", self._address, headers=headers) as response,
        ):
            if response.status_code == 416 and headers and version:
                if _total(response) != offset:
                    part.drop()
                    raise _TransientError("its length is not what it was")
                return version, part.append((), offset, progress)
            answered = self._fingerprint(response)
            if response.status_code == 206:
                if version is None or not _continues(response, answered, version, offset):
                    part.drop()
                    raise _TransientError("another range came than was asked for")
            else:
                version = answered
                part.begin(version)
            sha256 = part.append(response.iter_raw(), version.size, progress)
        if version.size not in (None, part.size):
            part.drop()
            raise _TransientError("its length is not what was announced")
        return version, sha256

    def _client(self) -> httpx.Client:
        # Compressed in transit, a file has other offsets: CloudFront then ignores Range.
        return httpx.Client(
            headers={"Accept-Encoding": "identity"}, timeout=self._timeout, follow_redirects=True
        )

    def _fingerprint(self, response: httpx.Response) -> Fingerprint:
        """The version that a response is of, or the error that it stands for."""
        status, shown = response.status_code, _shown(self._address)
        if status in _NOT_PUBLISHED:
            raise NotPublishedError(
                f"{shown} is not there (HTTP {status}); it may not be published yet: "
                "choose an earlier month or try again later."
            )
        if status in _TRY_AGAIN or status >= 500:
            raise _TransientError(f"HTTP {status}", _retry_after(response))
        if status not in (200, 206):
            raise LakehouseError(
                f"{shown} was refused with HTTP {status}; check the address, and "
                "LAKEHOUSE_SOURCE_MIRROR if it is set."
            )
        length = response.headers.get("Content-Length")
        whole = int(length) if length else None
        return Fingerprint(
            size=_total(response) if status == 206 else whole,
            # Backblaze sends no ETag, and the time of the request as Last-Modified.
            etag=response.headers.get("ETag") or response.headers.get("X-Bz-File-Id"),
            last_modified=response.headers.get("Last-Modified"),
        )

    def _persist(self, call: Callable[[], _T]) -> _T:
        passing = (_TransientError, httpx.RequestError)
        retrying = Retrying(
            retry=retry_if_exception_type(passing),
            stop=stop_after_attempt(self._retry.attempts),
            wait=self._wait,
            reraise=True,
        )
        try:
            return retrying(call)
        except passing as error:
            raise UnavailableError(
                f"{_shown(self._address)} could not be read in {self._retry.attempts} tries "
                f"({str(error) or type(error).__name__}); check the network and run again: "
                "what has arrived is kept."
            ) from error
        except httpx.InvalidURL as error:
            raise UsageError(
                f"{_shown(self._address)} is not an address; correct LAKEHOUSE_SOURCE_MIRROR."
            ) from error

    def _wait(self, state: RetryCallState) -> float:
        retry = self._retry
        growing = wait_exponential(multiplier=retry.first, max=retry.longest)
        backoff = (growing + wait_random(0, retry.first))(state)
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, _TransientError) else 0.0
        return max(backoff, min(asked, retry.longest))


class _TransientError(Exception):
    """What may go better next time; `retry_after` is in seconds."""

    def __init__(self, reason: str, retry_after: float = 0.0):
        super().__init__(reason)
        self.retry_after = retry_after


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file, which may be growing."""
    for start in range(0, size, _CHUNK_BYTES):
        yield file.read(min(_CHUNK_BYTES, size - start))


def _range_headers(version: Fingerprint | None, offset: int) -> dict[str, str]:
    """Headers that ask for the rest of a part; none where it cannot be told to be the rest."""
    if version is None or offset == 0:
        return {}
    rest = {"Range": f"bytes={offset}-"}
    validator = version.etag or version.last_modified
    if validator is None or validator.startswith("W/"):
        return {}
    # Backblaze's file id is no validator of HTTP: it is compared with the answer's instead.
    is_file_id = version.etag is not None and not version.etag.startswith('"')
    return rest if is_file_id else rest | {"If-Range": validator}


def _continues(
    response: httpx.Response, answered: Fingerprint, version: Fingerprint, offset: int
) -> bool:
    """Whether an answer holds all that is missing of this version."""
    same_date = answered.last_modified in (None, version.last_modified)
    expected = f"bytes {offset}-{answered.size - 1}/{answered.size}" if answered.size else None
    return (
        response.headers.get("Content-Range") == expected
        and version.size in (None, answered.size)
        and version.etag == answered.etag
        and (version.etag is not None or same_date)
    )


def _total(response: httpx.Response) -> int | None:
    """The length of the whole file, from Content-Range."""
    found = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the publisher asks to wait."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _commit(part: _Part, target: Path, url: str, version: Fingerprint, sha256: str) -> LandedFile:
    """Make a checked part the landed file.

    The old record goes first and the new one comes last, so that a crash in between leaves a
    file without a record, which is landed again.
    """
    landed = LandedFile(
        path=target,
        url=url,
        size=part.size,
        sha256=sha256,
        etag=version.etag,
        last_modified=version.last_modified,
        landed_at=datetime.now(UTC).replace(microsecond=0),
        downloaded=True,
    )
    fields = {k: v for k, v in asdict(landed).items() if k not in ("path", "downloaded")}
    record = _record(target)
    draft = record.with_name(f"{record.name}.part")
    record.unlink(missing_ok=True)
    part.path.replace(target)
    part.drop()
    draft.write_text(json.dumps(fields, indent=2, default=datetime.isoformat))
    draft.replace(record)
    return landed


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.landed.json")


def _read_record(target: Path, url: str) -> LandedFile | None:
    """The landed file, if it landed from this URL and still has its size."""
    try:
        fields = json.loads(_record(target).read_text())
        fields["landed_at"] = datetime.fromisoformat(fields["landed_at"])
        landed = LandedFile(path=target, downloaded=False, **fields)
        is_there = landed.url == url and target.stat().st_size == landed.size
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return landed if is_there else None


def _is_intact(landed: LandedFile) -> bool:
    try:
        with landed.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == landed.sha256
    except FileNotFoundError:
        return False


def _segments(url: str) -> list[str]:
    """The host and the names in a URL's path, decoded, the last being the file's."""
    parts = urlsplit(url)
    names = [name for name in unquote(parts.path).split("/") if name]
    segments = [parts.hostname or "", *names]
    if not _is_address(url) or not parts.hostname or not names or ".." in segments:
        raise UsageError(
            f"{_shown(url)} is not the address of a file; give one as https://host/path."
        )
    return segments


def _is_address(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def _shown(url: str) -> str:
    """A URL without what may be secret: credentials, query, fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _not_a(path: Path, kind: str, start: bytes) -> SourceRefusedError:
    return SourceRefusedError(
        f"{path.name.removesuffix('.part')} is not a {kind} but {_what_is(start)}; "
        "open its address in a browser to see what the publisher sends."
    )


def _cut_short(path: Path, kind: str) -> SourceRefusedError:
    return SourceRefusedError(
        f"{path.name.removesuffix('.part')} is a {kind} whose end is missing; "
        "run again later, when the publisher has the whole file."
    )


def _what_is(start: bytes) -> str:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        return "an empty file"
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if text.startswith(b"<?xml"):
        return "an XML document"
    if start.startswith(b"\x1f\x8b"):
        return "a gzip file"
    if start.startswith(b"PAR1"):
        return "a Parquet file"
    if start.startswith(b"PK"):
        return "a zip archive"
    return "something else"
