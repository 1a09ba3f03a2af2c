"""Files that have landed, with a record of each, and files on their way there."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there so far, and with the bytes of the whole where known."""


@dataclass(frozen=True)
class Patience:
    """How often a publisher is tried, and how long it is waited for (all in seconds).

    `first` and `longest` bound the growing pause between tries, `connect` and `silence` are how
    long a connection may take, and how long no byte may arrive.
    """

    attempts: int = 6
    first: float = 1.0
    longest: float = 60.0
    connect: float = 10.0
    silence: float = 60.0


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


class Part:
    """A download under way: `<name>.part`, and beside it the version that it is a part of."""

    def __init__(self, target: Path):
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> Fingerprint | None:
        """The version that the bytes are of; None where that is not known."""
        try:
            return Fingerprint(**json.loads(self._note.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def keep_only(self, published: Fingerprint) -> None:
        """Drop what belongs to another version than the published one."""
        if self.version is None or not self.version.is_same(published):
            self.drop()

    def begin(self, version: Fingerprint) -> None:
        """Start anew, with this version."""
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
        """Drop the part if it does not pass the check, which raises."""
        try:
            check(self.path)
        except Exception:
            self.drop()
            raise

    def drop(self) -> None:
        """Remove what has arrived."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def commit(part: Part, target: Path, url: str, version: Fingerprint, sha256: str) -> LandedFile:
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
    record = record_of(target)
    draft = record.with_name(f"{record.name}.part")
    record.unlink(missing_ok=True)
    part.path.replace(target)
    part.drop()
    draft.write_text(json.dumps(fields, indent=2, default=datetime.isoformat))
    draft.replace(record)
    return landed


def record_of(target: Path) -> Path:
    """Where the record of a landed file is."""
    return target.with_name(f"{target.name}.landed.json")


def read_record(target: Path, url: str) -> LandedFile | None:
    """The landed file, if it landed from this URL and still has its size."""
    try:
        fields = json.loads(record_of(target).read_text())
        fields["landed_at"] = datetime.fromisoformat(fields["landed_at"])
        landed = LandedFile(path=target, downloaded=False, **fields)
        is_there = landed.url == url and target.stat().st_size == landed.size
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return landed if is_there else None


def is_intact(landed: LandedFile) -> bool:
    """Whether the file still has the bytes that landed."""
    try:
        with landed.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == landed.sha256
    except FileNotFoundError:
        return False


def shown(url: str) -> str:
    """A URL without what may be secret: credentials, query, fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
