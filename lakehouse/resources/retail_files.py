"""Where the lines of Online Retail are: the publisher's workbook, and what people dropped."""

import hashlib
import re
from dataclasses import dataclass
from datetime import date

from lakehouse.errors import NotPublishedError, SourceRefusedError, UnavailableError
from lakehouse.partitions import retail_months
from lakehouse.resources.archives import gunzipped
from lakehouse.resources.inbox import Inbox, Taken
from lakehouse.resources.landing import LandedFile, Patience, Progress
from lakehouse.resources.source import Source
from lakehouse.resources.workbook import (
    WORKBOOK_URL,
    Staged,
    check_workbook,
    read_workbook,
    stage,
)
from lakehouse.settings import Settings
from lakehouse.transforms.retail import File, Lines, Month, month_of, read_csv

RECORD_SOURCE = "UCI Online Retail II"
"""What the original calls the workbook in its tables."""

_DAY = re.compile(r"(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))")
_LARGEST_CSV = 1 << 30


@dataclass(frozen=True)
class Workbook:
    """The publisher's workbook: as it landed, and its lines by month."""

    landed: LandedFile
    staged: Staged


class RetailFiles:
    """Lands the files of Online Retail and reads them, month by month."""

    def __init__(
        self,
        settings: Settings,
        progress: Progress | None = None,
        patience: Patience = Patience(),  # noqa: B008  # it is frozen
    ):
        self._source = Source(settings.state / "landing", settings.source_mirror, patience=patience)
        self._staged = settings.state / "landing" / "retail" / "staged"
        self._progress = progress
        self.inbox = Inbox(settings, "retail")

    def land(self) -> Workbook:
        """Have the workbook on disk, downloaded unless it is there unchanged, and read once.

        Raises:
            NotPublishedError: The publisher does not have it.
            SourceRefusedError: It is no workbook, or has no sheet with the columns.
            UnavailableError: The publisher could not be reached, and nothing is landed.
        """
        landed = self._source.land(WORKBOOK_URL, "retail", check_workbook, self._progress)
        return Workbook(landed, stage(landed.path, landed.sha256, self._staged / "publisher"))

    def landed(self) -> Workbook | None:
        """The workbook as it was landed; None where it was not."""
        landed = self._source.landed(WORKBOOK_URL, "retail")
        if landed is None:
            return None
        return Workbook(landed, stage(landed.path, landed.sha256, self._staged / "publisher"))

    def month(self, month: str) -> Month:
        """The rows of a month: those of the workbook, but for days that were dropped.

        Raises:
            NotPublishedError: Nothing is landed.
        """
        files = self._files(month)
        if not files:
            raise NotPublishedError(
                "nothing of Online Retail is landed: materialize retail/raw/workbook first"
            )
        return month_of(month, files)

    def version(self, month: str) -> str:
        """The same for the same lines of a month, and another when any file of it is another."""
        workbook = self.landed()
        hashes = workbook.staged.hashes if workbook else {}
        parts = [f"{name}:{made}" for name, made in hashes.items() if name.startswith(month)]
        parts += [f"{t.id}:{t.sha256}" for t in self.inbox.taken() if month in t.partitions]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def lacks(self, month: str) -> str | None:
        """Why there is no line of a month; None where there are some, or nobody can tell."""
        workbook = self.landed()
        if any(month in taken.partitions for taken in self.inbox.taken()):
            return None
        if workbook is None or month in workbook.staged.months:
            return None
        have = workbook.staged.months
        return (
            f"retail {month} is not published: the workbook has lines of {have[0]} to {have[-1]},"
            " and nothing of the month was dropped into the inbox"
        )

    def is_current(self, version: str) -> bool:
        """Whether the publisher has the workbook that was landed in this version.

        Where the publisher cannot be asked, what is landed counts as current.
        """
        landed = self._source.landed(WORKBOOK_URL, "retail")
        if landed is None or landed.sha256 != version:
            return False
        try:
            return self._source.probe(WORKBOOK_URL).is_same(landed.fingerprint)
        except (UnavailableError, NotPublishedError):
            return True

    def months_of_dropped(self, taken: Taken) -> list[str]:
        """The months that a dropped file serves, once it was looked into.

        Raises:
            SourceRefusedError: It is neither a workbook nor a CSV with its columns.
        """
        lines = _read(taken)
        days = [*lines.frame["InvoiceDate"].dt.date(), *lines.unusable["day"]]
        months = sorted({f"{day:%Y-%m}" for day in days})
        unknown = sorted(set(months) - set(retail_months.get_partition_keys()))
        if unknown:
            raise SourceRefusedError(
                f"{taken.name} has lines of {', '.join(unknown)}, which is not a whole month that"
                " is over: drop it again without them"
            )
        if not months:
            raise SourceRefusedError(f"{taken.name} has no line: drop it again with some")
        return months

    def _files(self, month: str) -> list[File]:
        files = []
        if workbook := self.landed():
            lines, landed = workbook.staged.read_month(month), workbook.landed
            files.append(File(lines, landed.path.name, RECORD_SOURCE, landed.landed_at))
        for taken in self.inbox.taken():
            if month in taken.partitions:
                lines = self._read_month(taken, month)
                files.append(File(lines, taken.name, taken.name, taken.landed_at))
        return files

    def _read_month(self, taken: Taken, month: str) -> Lines:
        if _is_workbook(taken):
            return stage(taken.path, taken.sha256, self._staged / taken.id).read_month(month)
        return _read(taken)


def _is_workbook(taken: Taken) -> bool:
    return taken.name.lower().endswith((".xlsx", ".zip"))


def _read(taken: Taken) -> Lines:
    """All lines of a dropped file."""
    if _is_workbook(taken):
        return read_workbook(taken.path)
    if not taken.name.lower().endswith((".csv", ".csv.gz")):
        raise SourceRefusedError(
            f"{taken.name} is neither a workbook nor a CSV: name it ….xlsx, ….zip, ….csv or"
            " ….csv.gz and drop it again"
        )
    read = read_csv(_text(taken), _day(taken.name))
    if read.refused:
        raise SourceRefusedError(f"{taken.name} cannot be used: {read.refused}")
    return read.lines


def _day(name: str) -> date | None:
    """The day that a file is named after, if it is."""
    if not (found := _DAY.search(name)):
        return None
    try:
        return date.fromisoformat(found[1])
    except ValueError:
        raise SourceRefusedError(
            f"{name} is named after {found[1]}, which is no day: drop it again under another name"
        ) from None


def _text(taken: Taken) -> bytes:
    if taken.name.lower().endswith(".gz"):
        return gunzipped(taken.path, _LARGEST_CSV)
    return taken.path.read_bytes()
