"""Where the monthly files of taxi trips are: the publisher's, and what people dropped."""

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, cast

import polars as pl

from lakehouse.errors import NotPublishedError, SourceRefusedError, UnavailableError
from lakehouse.partitions import taxi_months
from lakehouse.resources.inbox import Inbox, Taken
from lakehouse.resources.landing import LandedFile, Patience, Progress
from lakehouse.resources.signatures import looks_like_parquet
from lakehouse.resources.source import Source
from lakehouse.settings import Settings
from lakehouse.transforms.delimited import REJECTS, column_names
from lakehouse.transforms.taxi.csv import read_csv
from lakehouse.transforms.taxi.eras import FIRST_MONTHS, recognise
from lakehouse.transforms.taxi.zones import read_zones

_PUBLISHER = "https://d37ci6vzurychx.cloudfront.net"
_CSV_ARCHIVE = "https://github.com/DataTalksClub/nyc-tlc-data/releases/download"
ZONES_URL = f"{_PUBLISHER}/misc/taxi_zone_lookup.csv"

_NAME = re.compile(r"(yellow|green|fhv|fhvhv)_tripdata_(\d{4}-\d{2})\.(parquet|csv|csv\.gz)")
_FOLDER = "taxi"
_LONGEST_HEADER = 1 << 16
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class TripFile:
    """The file that serves a month of a service; `landed` where it is the publisher's."""

    service: str
    month: str
    path: Path
    sha256: str
    landed_at: datetime
    landed: LandedFile | None = None

    @property
    def is_parquet(self) -> bool:
        """Whether it is the publisher's Parquet, not the older CSV."""
        return self.path.name.endswith(".parquet")


@dataclass(frozen=True)
class RawTrips:
    """The rows of a month's file before they are cleaned.

    Attributes:
        frame: The columns of the file, and `_row`, from 1 on.
        rows: How many rows the file has, those of `rejects` included.
        rejects: Lines of a CSV that are no rows, as `REJECTS`.
    """

    frame: pl.LazyFrame
    rows: int
    rejects: pl.DataFrame


class TripFiles:
    """Lands the files of taxi trips and reads them, a month of a service at a time."""

    def __init__(
        self,
        settings: Settings,
        progress: Progress | None = None,
        patience: Patience = Patience(),  # noqa: B008  # it is frozen
    ):
        self._source = Source(settings.state / "landing", settings.source_mirror, patience=patience)
        self._scratch = settings.state / "scratch"
        self._format = settings.taxi_format
        self._progress = progress
        self.inbox = Inbox(settings, "taxi")

    def url(self, service: str, month: str) -> str:
        """Where the publisher has a month, in the form that the settings name."""
        if self._format == "csv":
            return f"{_CSV_ARCHIVE}/{service}/{service}_tripdata_{month}.csv.gz"
        return f"{_PUBLISHER}/trip-data/{service}_tripdata_{month}.parquet"

    def land(self, service: str, month: str) -> TripFile:
        """Have the month's file on disk, downloading it unless it is there unchanged.

        A file dropped into the inbox takes the place of the publisher's, the latest one first.

        Raises:
            NotPublishedError: Neither the publisher nor the inbox has the month.
            SourceRefusedError: The file is not one of this service's trips.
            UnavailableError: The publisher could not be reached, and nothing is landed.
        """
        if dropped := self._dropped(service, month):
            return dropped
        url = self.url(service, month)
        try:
            landed = self._source.land(url, _FOLDER, _check(service, month), self._progress)
        except NotPublishedError:
            raise NotPublishedError(self._not_published(service, month)) from None
        return _of_publisher(service, month, landed)

    def landed(self, service: str, month: str) -> TripFile:
        """The month's file as it was landed; nothing is downloaded.

        Raises:
            NotPublishedError: Nothing of the month was landed.
        """
        if dropped := self._dropped(service, month):
            return dropped
        landed = self._source.landed(self.url(service, month), _FOLDER)
        if landed is None:
            raise NotPublishedError(
                f"nothing of {service} {month} is landed: materialize taxi/raw/{service}_trips"
                " first"
            )
        return _of_publisher(service, month, landed)

    def land_zones(self) -> LandedFile:
        """Have the lookup of zones on disk, downloading it unless it is there unchanged.

        Raises:
            NotPublishedError: The publisher does not have it.
            SourceRefusedError: It is no lookup of zones.
            UnavailableError: The publisher could not be reached, and nothing is landed.
        """
        return self._source.land(ZONES_URL, _FOLDER, _check_zones)

    def zones(self) -> tuple[pl.DataFrame, str]:
        """The landed zones, as `ZONES`, and the hash of their file.

        Raises:
            NotPublishedError: They were never landed.
            SourceRefusedError: The file was altered since it landed.
        """
        landed = self._source.landed(ZONES_URL, _FOLDER)
        if landed is None:
            raise NotPublishedError("no zones are landed: materialize taxi/raw/zones first")
        self._source.verify(landed)
        return read_landed_zones(landed.path), landed.sha256

    def is_current(self, service: str, month: str, version: str) -> bool:
        """Whether publisher and inbox have of a month what was landed in this version.

        Where the publisher cannot be asked, what is landed counts as current.
        """
        try:
            file = self.landed(service, month)
        except NotPublishedError:
            return False
        return file.sha256 == version and not (file.landed and self._is_new(file.landed))

    def zones_are_current(self, version: str) -> bool:
        """Whether the publisher has the zones that were landed in this version."""
        landed = self._source.landed(ZONES_URL, _FOLDER)
        return landed is not None and landed.sha256 == version and not self._is_new(landed)

    def zones_version(self) -> str | None:
        """The hash of the landed lookup; None where there is none."""
        landed = self._source.landed(ZONES_URL, _FOLDER)
        return landed.sha256 if landed else None

    def lacks(self, service: str, month: str) -> str | None:
        """Why there is no file of a month; None where there is one, or nobody can tell."""
        url = self.url(service, month)
        if self._dropped(service, month) or self._source.landed(url, _FOLDER):
            return None
        try:
            self._source.probe(url)
        except NotPublishedError:
            return self._not_published(service, month)
        except UnavailableError:
            return None
        return None

    @contextmanager
    def read(self, file: TripFile) -> Iterator[RawTrips]:
        """The rows of a landed file, once its bytes are hashed again.

        Raises:
            SourceRefusedError: The bytes are not those that landed, or a CSV is cut short.
        """
        _verify(file)
        try:
            if file.is_parquet:
                # Counted by the scan, which then reads no more of a row than a filter needs.
                frame = pl.scan_parquet(file.path, row_index_name="_row", row_index_offset=1)
                rows = int(frame.select(pl.len()).collect().item())
                yield RawTrips(frame, rows, pl.DataFrame(schema=REJECTS))
                return
            self._scratch.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self._scratch) as folder:
                yield _unpacked(file, Path(folder))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise SourceRefusedError(
                f"{file.path.name} is damaged inside ({str(error).splitlines()[0]}): drop a sound"
                " copy into the inbox, or run again when the publisher has one"
            ) from error

    def _is_new(self, landed: LandedFile) -> bool:
        try:
            return not self._source.probe(landed.url).is_same(landed.fingerprint)
        except (UnavailableError, NotPublishedError):
            return False

    def _dropped(self, service: str, month: str) -> TripFile | None:
        found = None
        for taken in self.inbox.taken():
            if month in taken.partitions and taken.name.startswith(f"{service}_"):
                found = TripFile(service, month, taken.path, taken.sha256, taken.landed_at)
        return found

    def _not_published(self, service: str, month: str) -> str:
        name = self.url(service, month).rpartition("/")[-1]
        return (
            f"{service} {month} is not published: there is no {name}; a month appears about two"
            " months after its end"
        )


def service_of(taken: Taken) -> str:
    """The service that a dropped file is of, by its name."""
    return _parts(taken)[0]


def months_of_dropped(taken: Taken) -> list[str]:
    """The month that a dropped file serves, once it was looked into.

    Raises:
        SourceRefusedError: It is no file of a month's trips.
    """
    service, month = _parts(taken)
    if month not in taxi_months[service].get_partition_keys():
        raise SourceRefusedError(
            f"{taken.name} is of {month}, and {service} has whole months from"
            f" {FIRST_MONTHS[service]} on"
        )
    _check(service, month)(taken.path)
    return [month]


def _parts(taken: Taken) -> tuple[str, str]:
    match = _NAME.fullmatch(taken.name)
    if not match:
        raise SourceRefusedError(
            f"{taken.name} is no month of taxi trips: name it such as"
            " green_tripdata_2020-03.parquet, ….csv or ….csv.gz, and drop it again"
        )
    return match[1], match[2]


def _of_publisher(service: str, month: str, landed: LandedFile) -> TripFile:
    return TripFile(service, month, landed.path, landed.sha256, landed.landed_at, landed)


def _check(service: str, month: str) -> Callable[[Path], None]:
    """Refuses what is not a whole file of the service's, before it takes the place of one."""

    def check(path: Path) -> None:
        name = path.name.removesuffix(".part")
        try:
            if name.endswith(".parquet"):
                looks_like_parquet(path)
                recognise(list(pl.read_parquet_schema(path)), service, month)
                return
            with _opened(path, name) as stream:
                recognise(column_names(stream.readline(_LONGEST_HEADER)), service, month)
                while stream.read(_CHUNK_BYTES):  # to its end: it may be cut short
                    pass
        except SourceRefusedError as error:
            raise SourceRefusedError(f"{name}: {error}") from error
        except (pl.exceptions.PolarsError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SourceRefusedError(
                f"{name} is cut short or damaged ({error}): run again when the whole file is there"
            ) from error

    return check


def _opened(path: Path, name: str) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path) if name.endswith(".gz") else path.open("rb"))


def _unpacked(file: TripFile, folder: Path) -> RawTrips:
    """The pieces of a CSV as Parquet files, so that a month of any size fits in memory."""
    rows = 0
    rejects = [pl.DataFrame(schema=REJECTS)]
    with _opened(file.path, file.path.name) as stream:
        for number, piece in enumerate(read_csv(stream, file.service, file.month)):
            piece.frame.write_parquet(folder / f"{number:06d}.parquet", compression="lz4")
            rejects.append(piece.rejects)
            rows += piece.records
    return RawTrips(pl.scan_parquet(folder / "*.parquet"), rows, pl.concat(rejects))


def _check_zones(path: Path) -> None:
    read_landed_zones(path)


def read_landed_zones(path: Path) -> pl.DataFrame:
    """The zones of a landed lookup, as `ZONES`."""
    return read_zones(path.read_bytes())


def _verify(file: TripFile) -> None:
    with file.path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
            raise SourceRefusedError(
                f"{file.path} is not what was landed, its bytes have changed: delete it and"
                " materialize the month again"
            )
