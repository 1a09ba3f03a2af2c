"""Where the daily files of drive stats are: the publisher's archives, and what people dropped."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path

from lakehouse.errors import NotPublishedError, SourceRefusedError, UnavailableError
from lakehouse.resources.archives import Archive, Member, gunzipped
from lakehouse.resources.inbox import Inbox, Taken
from lakehouse.resources.landing import LandedFile, Patience, Progress
from lakehouse.resources.signatures import looks_like_zip
from lakehouse.resources.source import Source
from lakehouse.settings import Settings

BASE_URL = "https://f001.backblazeb2.com/file/Backblaze-Hard-Drive-Data/"

LARGEST_DAY = 4 * 1024**3
"""Bytes of one day's CSV that are believed; the publisher's largest are about 200 MB."""

_DAY = re.compile(r"(?<!\d)(\d{4}-\d{2}-\d{2})\.csv(\.gz)?$", re.IGNORECASE)


def archive_name(month: str) -> str:
    """The publisher's archive that holds a month: one a year until 2015, one a quarter since."""
    year, number = int(month[:4]), int(month[5:])
    return f"data_{year}.zip" if year < 2016 else f"data_Q{(number + 2) // 3}_{year}.zip"


def archive_url(month: str) -> str:
    """Where the publisher has that archive."""
    return BASE_URL + archive_name(month)


@dataclass(frozen=True)
class DayFile:
    """The file that serves a day: a CSV, gzipped or not, or a member of an archive."""

    day: date
    path: Path
    member: Member | None
    sha256: str
    landed_at: datetime

    @property
    def name(self) -> str:
        """The file as people know it: `archive/member`, or its own name."""
        return f"{self.path.name}/{self.member.name}" if self.member else self.path.name


@dataclass(frozen=True)
class MonthFiles:
    """The files that serve a month, a day each, and the archive that most are from."""

    month: str
    days: tuple[DayFile, ...]
    archive: LandedFile | None

    @property
    def version(self) -> str:
        """The same for the same bytes, and another when any file of the month is another."""
        parts = [f"{file.day}:{file.sha256}:{file.name}" for file in self.days]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def dropped(self) -> int:
        """Days that are served from the inbox."""
        archive = self.archive.path if self.archive else None
        return sum(file.path != archive for file in self.days)


class DriveFiles:
    """Lands the files of drive stats and reads them, day by day."""

    def __init__(
        self,
        settings: Settings,
        progress: Progress | None = None,
        patience: Patience = Patience(),  # noqa: B008  # it is frozen
    ):
        self._landing = settings.state / "landing"
        self._source = Source(self._landing, settings.source_mirror, patience=patience)
        self._progress = progress
        self.inbox = Inbox(settings, "drives")

    @property
    def source(self) -> Source:
        """The publisher."""
        return self._source

    def land(self, month: str) -> MonthFiles:
        """Have the month's files on disk, downloading the archive unless it is there unchanged.

        Days dropped into the inbox take the place of the archive's, the latest dropped first.

        Raises:
            NotPublishedError: Neither the publisher nor the inbox has a day of the month.
            SourceRefusedError: The archive is not one, or not safe to read.
            UnavailableError: The publisher could not be reached, and nothing is landed.
        """
        dropped = self._dropped(month)
        archive = None
        days: dict[date, DayFile] = {}
        try:
            url = archive_url(month)
            archive = self._source.land(url, "drives", _check_archive, self._progress)
            days = _days_of_archive(archive)
        except NotPublishedError:
            if not dropped:
                raise NotPublishedError(
                    f"drives {month} is not published: there is no {archive_name(month)};"
                    " Backblaze publishes a quarter some weeks after it ends"
                ) from None
        serving = {d: f for d, f in days.items() if _month_of(d) == month} | dropped
        if not serving:
            have = f"it has {min(days)} to {max(days)}" if days else "it has no daily file at all"
            raise NotPublishedError(
                f"drives {month} is not published: {archive_name(month)} has no day of it ({have})"
            )
        return MonthFiles(month, tuple(serving[day] for day in sorted(serving)), archive)

    def landed(self, month: str) -> MonthFiles:
        """The month's files as they were landed; nothing is downloaded.

        Raises:
            NotPublishedError: Nothing of the month was landed, or its archive is gone since: the
                days that were dropped would pass for all that the month has.
        """
        archive = self._source.landed(archive_url(month), "drives")
        name = archive_name(month)
        if archive is None and (self._landing / "drives" / f"{name}.landed.json").exists():
            raise NotPublishedError(
                f"{name} was landed and is gone or cut short: materialize drives/raw/archive first"
            )
        days = _days_of_archive(archive) if archive else {}
        serving = {d: f for d, f in days.items() if _month_of(d) == month} | self._dropped(month)
        if not serving:
            raise NotPublishedError(
                f"nothing of drives {month} was landed: materialize drives/raw/archive first"
            )
        return MonthFiles(month, tuple(serving[day] for day in sorted(serving)), archive)

    def is_current(self, month: str, version: str) -> bool:
        """Whether the month, landed in this version, is what publisher and inbox have now.

        Where the publisher cannot be asked, what is landed counts as current.
        """
        try:
            files = self.landed(month)
        except NotPublishedError:
            return False
        return files.version == version and not (files.archive and self.is_new(files.archive))

    def is_new(self, landed: LandedFile) -> bool:
        """Whether the publisher has another version of a landed archive."""
        try:
            return not self._source.probe(landed.url).is_same(landed.fingerprint)
        except (UnavailableError, NotPublishedError):
            return False

    def verify(self, files: MonthFiles) -> None:
        """Hash the files again; a flipped bit would otherwise become a wrong number.

        Raises:
            SourceRefusedError: A file is not what was landed.
        """
        for path, sha256 in {(file.path, file.sha256) for file in files.days}:
            with path.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                    raise SourceRefusedError(
                        f"{path} is not what was landed, its bytes have changed:"
                        " delete it and materialize the month again"
                    )

    def read(self, files: Sequence[DayFile]) -> Iterator[tuple[DayFile, bytes]]:
        """The bytes of each file, the next one being inflated while this one is used."""
        with ExitStack() as stack:
            archives = {
                path: stack.enter_context(Archive(path))
                for path in {file.path for file in files if file.member}
            }
            pool = stack.enter_context(ThreadPoolExecutor(1))
            waiting = None
            for file in files:
                coming = pool.submit(partial(_read, archives.get(file.path)), file)
                if waiting:
                    yield waiting[0], waiting[1].result()
                waiting = (file, coming)
            if waiting:
                yield waiting[0], waiting[1].result()

    def _dropped(self, month: str) -> dict[date, DayFile]:
        days: dict[date, DayFile] = {}
        for taken in self.inbox.taken():
            if month in taken.partitions:
                days |= {d: f for d, f in _days_of_dropped(taken).items() if _month_of(d) == month}
        return days


def days_of(taken: Taken) -> dict[date, DayFile]:
    """The days that a dropped file serves, once it was looked into.

    Raises:
        SourceRefusedError: It is neither a daily CSV nor an archive of them.
    """
    days = _days_of_dropped(taken)
    for file in days.values():
        if not file.member and (b"\0" in (start := _read(None, file)[:512]) or not start):
            raise SourceRefusedError(
                f"{taken.name} is {'no text' if start else 'empty'}: drop it again as a CSV"
            )
    return days


def _days_of_dropped(taken: Taken) -> dict[date, DayFile]:
    if taken.path.suffix.lower() == ".zip":
        _check_archive(taken.path)
        days = _days_of_archive(taken)
        if not days:
            raise SourceRefusedError(
                f"{taken.name} holds no daily file: name them YYYY-MM-DD.csv and pack them again"
            )
        return days
    match = _DAY.search(taken.name)
    if not match:
        raise SourceRefusedError(
            f"{taken.name} is neither a daily file nor an archive: name it YYYY-MM-DD.csv,"
            " YYYY-MM-DD.csv.gz or ….zip and drop it again"
        )
    day = _day(match[1], taken.name)
    return {day: DayFile(day, taken.path, None, taken.sha256, taken.landed_at)}


def _check_archive(path: Path) -> None:
    looks_like_zip(path)
    with Archive(path):
        pass


def _days_of_archive(landed: LandedFile | Taken) -> dict[date, DayFile]:
    with Archive(landed.path) as archive:
        return {
            (day := _day(match[1], member.name)): DayFile(
                day, landed.path, member, landed.sha256, landed.landed_at
            )
            for member in archive.members()
            if (match := _DAY.fullmatch(member.basename)) and not match[2]
        }


def _day(text: str, name: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SourceRefusedError(f"{name} is named after {text}, which is no day") from None


def _month_of(day: date) -> str:
    return f"{day:%Y-%m}"


def _read(archive: Archive | None, file: DayFile) -> bytes:
    if file.member and archive:
        return archive.read(file.member)
    if file.path.suffix.lower() == ".gz":
        return gunzipped(file.path, LARGEST_DAY)
    return file.path.read_bytes()
