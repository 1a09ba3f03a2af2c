"""Zip archives and gzip files: read in memory, within limits, and never extracted to a path."""

import gzip
import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from lakehouse.errors import SourceRefusedError

_CHUNK_BYTES = 1 << 18
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1 | 0x40
_BROKEN_DIRECTORY = (
    BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may claim: bytes when inflated, and inflated bytes for each of its own."""

    total_bytes: int = 64 << 30
    ratio: int = 200


_LIMITS = Limits()


@dataclass(frozen=True)
class Member:
    """A file in an archive; `size` is in bytes, inflated."""

    name: str
    basename: str
    size: int


class Archive:
    """A zip archive, checked as a whole when it is opened; a context manager.

    Threads may read members of one archive at the same time: each read has its own state and
    positions, and inflating runs beside other threads.
    """

    def __init__(self, path: Path, limits: Limits = _LIMITS):
        """Open an archive and check its directory.

        Raises:
            SourceRefusedError: The archive is damaged, or it holds a member that is not safe to
                read: a path that leads elsewhere, a link, encrypted, far too large, or one of
                two with the same basename.
        """
        self._path = path
        self._limits = limits
        self._file = path.open("rb")
        try:
            self._infos = self._checked_infos()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; members can no longer be read."""
        self._file.close()

    def members(self) -> list[Member]:
        """The files of the archive in its own order, without folders and what macOS adds."""
        return [
            Member(name, name.rpartition("/")[2], info.file_size)
            for name, info in self._infos.items()
        ]

    def read(self, member: Member) -> bytes:
        """Inflate a member, in at most an eighth more memory than the size that it declares.

        Raises:
            SourceRefusedError: The member is damaged, or larger than it declares.
        """
        info = self._infos[member.name]
        content = io.BytesIO()
        checksum = 0
        try:
            for chunk in self._inflated(info):
                if content.tell() + len(chunk) > info.file_size:
                    raise self._refused(f"declares fewer bytes than it holds in {member.name!r}")
                content.write(chunk)
                checksum = zlib.crc32(chunk, checksum)
        except (zlib.error, struct.error) as error:
            raise self._damaged(member.name) from error
        if content.tell() != info.file_size or checksum != info.CRC:
            raise self._damaged(member.name)
        return content.getvalue()

    def _checked_infos(self) -> dict[str, ZipInfo]:
        try:
            with ZipFile(self._file) as archive:
                infos = archive.infolist()
        except _BROKEN_DIRECTORY as error:
            raise self._refused("is not a whole zip archive") from error
        archive_bytes = os.fstat(self._file.fileno()).st_size
        for info in infos:
            self._check(info, archive_bytes)
        total = sum(info.file_size for info in infos)
        if total > min(self._limits.total_bytes, self._limits.ratio * archive_bytes):
            raise self._refused(f"declares {total:,} bytes in {archive_bytes:,}, like a zip bomb")
        daily = [info for info in infos if not _is_junk(info.filename)]
        basenames: set[str] = set()
        for info in daily:
            basename = info.filename.rpartition("/")[2]
            if basename in basenames:
                raise self._refused(f"holds {basename!r} more than once")
            basenames.add(basename)
        return {info.filename: info for info in daily}

    def _check(self, info: ZipInfo, archive_bytes: int) -> None:
        name = info.orig_filename
        if _leads_elsewhere(name):
            raise self._refused(f"holds the unsafe path {name!r}")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise self._refused(f"holds {name!r}, which is a link or a device")
        if info.flag_bits & _ENCRYPTED:
            raise self._refused(f"holds {name!r}, which is encrypted")
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise self._refused(f"holds {name!r}, which is compressed in an unsupported way")
        if info.file_size > self._limits.ratio * info.compress_size:
            raise self._refused(f"holds {name!r}, which inflates like a zip bomb")
        if not 0 <= info.header_offset < archive_bytes:
            raise self._damaged(name)

    def _inflated(self, info: ZipInfo) -> Iterator[bytes]:
        if info.compress_type == ZIP_STORED:
            yield from self._stored(info)
            return
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        room = info.file_size + 1
        for chunk in self._stored(info):
            inflated = inflater.decompress(chunk, room)
            yield inflated
            room -= len(inflated)
            if inflater.eof:
                return

    def _stored(self, info: ZipInfo) -> Iterator[bytes]:
        """The bytes of a member as they stand in the archive."""
        # pread has no position that threads could move for one another.
        handle = self._file.fileno()
        header = os.pread(handle, _LOCAL_HEADER.size, info.header_offset)
        signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        if signature != b"PK\x03\x04":
            raise self._damaged(info.filename)
        start = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
        for offset in range(start, start + info.compress_size, _CHUNK_BYTES):
            wanted = min(_CHUNK_BYTES, start + info.compress_size - offset)
            chunk = os.pread(handle, wanted, offset)
            if len(chunk) < wanted:
                raise self._damaged(info.filename)
            yield chunk

    def _refused(self, what: str) -> SourceRefusedError:
        return SourceRefusedError(
            f"{self._path} {what}; get a sound copy from the publisher and run again."
        )

    def _damaged(self, name: str) -> SourceRefusedError:
        return SourceRefusedError(
            f"{self._path} is damaged at member {name!r}; delete the landed file and run again."
        )


def gunzipped(path: Path, largest: int) -> bytes:
    """The content of a dropped gzip file.

    Raises:
        SourceRefusedError: It is none, cut short or damaged, or holds more than `largest` bytes.
    """
    try:
        with gzip.open(path) as stream:
            content = stream.read(largest + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceRefusedError(
            f"{path.name} is no whole gzip file ({error}): drop it again"
        ) from error
    if len(content) > largest:
        raise SourceRefusedError(f"{path.name} holds more than {largest:,} bytes")
    return content


def _leads_elsewhere(name: str) -> bool:
    return bool(
        name.startswith("/")
        or ".." in name.split("/")
        or "\\" in name
        or "\0" in name
        or re.match("[A-Za-z]:", name)
    )


def _is_junk(name: str) -> bool:
    folders, _, basename = name.rpartition("/")
    return (
        not basename
        or basename == ".DS_Store"
        or basename.startswith("._")
        or "__MACOSX" in folders.split("/")
    )
