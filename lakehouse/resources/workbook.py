"""The workbook of Online Retail: read once, its lines kept by month beside the landed file.

Reading takes seconds, and months are made one by one.
"""

import hashlib
import io
import json
import re
import shutil
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4
from zipfile import BadZipFile, ZipFile, ZipInfo

import polars as pl
from filelock import FileLock

from lakehouse.errors import LakehouseError, SourceRefusedError
from lakehouse.resources.archives import Archive
from lakehouse.resources.signatures import looks_like_zip
from lakehouse.transforms.retail import (
    LINES,
    PUBLISHED,
    TEXT,
    UNUSABLE,
    Lines,
    header_problem,
    mark_both_sheets,
    published_columns,
    type_lines,
)

WORKBOOK_URL = "https://archive.ics.uci.edu/static/public/502/online+retail+ii.zip"
"""Where the publisher has it."""

LARGEST_WORKBOOK = 4 * 1024**3
"""Bytes, inflated, that are believed of a workbook; the publisher's has about 0.4 GB."""

LARGEST_SHEET = 1 << 25
"""Cells in the rectangle around all that a sheet has; each takes memory, even where nothing is.
The publisher's have about 4 million."""

_LAYOUT = 1
"""Of the staged files; another number stages the same workbook anew."""

_WORKBOOK_MEMBER = "[Content_Types].xml"
_MANIFEST = "manifest.json"
_CHUNK_BYTES = 1 << 24
_MOST_COLUMNS = 16_384  # of Excel's own
_FAR_CELL = r"""\br\s*=\s*["'](?:[A-Za-z]{2,}\d|[A-Za-z]*\d{7})"""
"""Beyond column Z or row 999,999; within these no sheet is too large."""
_CELL = re.compile(rb"""\br\s*=\s*["']([A-Za-z]*)(\d*)""")
_LONGEST_CELL = 64
_BROKEN = (
    *(BadZipFile, EOFError, OSError, OverflowError, RuntimeError),
    *(ValueError, struct.error, zlib.error),
)
_SHEETS_AT_ONCE = 2
"""The publisher's workbook has as many; each takes a core and its cells' memory."""
_HEADER_WITHIN = 20
"""Rows at the top of a sheet among which its header is looked for."""


@dataclass(frozen=True)
class Staged:
    """A workbook's lines as Parquet files by month; `hashes` are the SHA-256 of these files."""

    folder: Path
    hashes: dict[str, str]

    @property
    def months(self) -> tuple[str, ...]:
        """The months, such as `2010-12`, of which the workbook has lines."""
        return tuple(sorted({name.partition(".")[0] for name in self.hashes}))

    def read_month(self, month: str) -> Lines:
        """The lines of a month in the order of sheet and row; none where the workbook has none.

        Raises:
            LakehouseError: The staged files are gone or not what was written.
        """
        return Lines(
            self._read(f"{month}.lines.parquet", LINES),
            self._read(f"{month}.unusable.parquet", UNUSABLE),
        )

    def _read(self, name: str, schema: pl.Schema) -> pl.DataFrame:
        if name not in self.hashes:
            return pl.DataFrame(schema=schema)
        try:
            content = (self.folder / name).read_bytes()
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != self.hashes[name]:
            raise LakehouseError(
                f"{self.folder / name} is not what was staged: delete the folder {self.folder}"
                " and materialize the month again"
            )
        return pl.read_parquet(content)


def stage(path: Path, sha256: str, folder: Path) -> Staged:
    """Have the lines of a landed workbook staged in a folder, whose other contents are removed.

    Several processes may do so at once; one reads the workbook and the others wait.

    Args:
        path: The landed file.
        sha256: What was recorded of it; names the staged version.
        folder: A folder for nothing else.

    Raises:
        SourceRefusedError: The file is not what was landed, or no workbook that can be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{sha256}.{_LAYOUT}"
    with FileLock(folder / "stage.lock"):
        if not (target / _MANIFEST).exists():
            _verify(path, sha256)
            draft = folder / f"{uuid4().hex}.part"
            draft.mkdir()
            _write(read_workbook(path), draft)
            shutil.rmtree(target, ignore_errors=True)
            draft.replace(target)
        for other in folder.iterdir():
            if other.is_dir() and other != target:
                shutil.rmtree(other)
        return Staged(target, json.loads((target / _MANIFEST).read_text()))


def _verify(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise SourceRefusedError(
                f"{path} is not what was landed, its bytes have changed:"
                " delete it and materialize retail/raw/workbook again"
            )


def _write(lines: Lines, folder: Path) -> None:
    kinds = {
        "lines": (lines.frame, pl.col("InvoiceDate").dt.date()),
        "unusable": (lines.unusable, pl.col("day")),
    }
    hashes = {}
    for kind, (frame, day) in kinds.items():
        months = frame.with_columns(day.dt.month_start().alias("month")).partition_by(
            "month", as_dict=True, include_key=False, maintain_order=True
        )
        for (month,), rows in months.items():
            file = folder / f"{month:%Y-%m}.{kind}.parquet"
            rows.write_parquet(file, compression="zstd", compression_level=1)
            hashes[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / _MANIFEST).write_text(json.dumps(hashes))


def check_workbook(path: Path) -> None:
    """Tell whether a file is a workbook, or a zip archive that holds one, without reading it.

    Raises:
        SourceRefusedError: It is neither, or not safe to read.
    """
    _workbook(path)


def read_workbook(path: Path) -> Lines:
    """All lines of all sheets that have the columns, in the order of sheet and row.

    Args:
        path: A workbook (.xlsx), or a zip archive that holds one.

    Raises:
        SourceRefusedError: It is neither, no sheet has the columns, a sheet has some of them only,
            or has no line that can be used.
    """
    sheets = _sheets(path)
    if not sheets:
        raise SourceRefusedError(
            f"{path.name} has no sheet with the columns {', '.join(PUBLISHED)}:"
            " get a sound copy from the publisher and run again"
        )
    return Lines(
        mark_both_sheets(pl.concat(sheet.frame for sheet in sheets)),
        pl.concat(sheet.unusable for sheet in sheets),
    )


def _sheets(path: Path) -> list[Lines]:
    """The lines of each sheet that has the columns."""
    from fastexcel import FastExcelError, read_excel

    content = _workbook(path)
    _check_parts(path, content)
    try:
        names = read_excel(content).sheet_names
        with ThreadPoolExecutor(_SHEETS_AT_ONCE) as readers:
            return [lines for lines in readers.map(partial(_sheet, path, content), names) if lines]
    except FastExcelError as error:
        raise _unreadable(
            path, str(error).splitlines()[0].removeprefix("calamine error: ")
        ) from error


def _sheet(path: Path, content: bytes, name: str) -> Lines | None:
    """The lines of a sheet; None for a sheet of something else."""
    cells = _cells(content, name)
    header_row = _header_row(path, name, cells)
    if header_row is None:
        return None
    lines = type_lines(_as_text(name, cells, header_row))
    if lines.frame.is_empty():
        first = next(iter(lines.unusable["reason"]), "it has none")
        raise _refused_sheet(path, name, f"none of its lines can be used: {first}")
    return lines


def _check_parts(path: Path, content: bytes) -> None:
    """Refuse what would take all memory, at which the reader ends the whole process."""
    try:
        with (
            ZipFile(io.BytesIO(content)) as parts,
            ThreadPoolExecutor(_SHEETS_AT_ONCE) as readers,
        ):
            list(readers.map(partial(_check_part, path, parts), parts.infolist()))
    except _BROKEN as error:
        raise _unreadable(path, str(error)) from error


def _check_part(path: Path, parts: ZipFile, part: ZipInfo) -> None:
    declared = part.file_size
    part.file_size = LARGEST_WORKBOOK  # it would be read no further than it says
    size = rows = columns = 0
    before = b""
    with parts.open(part) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            size += len(chunk)
            text = before + chunk
            if pl.Series([text.decode("latin-1")]).str.count_matches(_FAR_CELL)[0]:
                found = _CELL.findall(text)
                rows = max(rows, *(int(row or 0) for _, row in found))
                columns = max(columns, *(_column(letters) for letters, _ in found))
            before = chunk[-_LONGEST_CELL:]
    if size != declared:
        raise _unreadable(path, f"its part {part.filename!r} is larger or smaller than it says")
    if rows * columns > LARGEST_SHEET or columns > _MOST_COLUMNS:
        raise _unreadable(
            path, f"{part.filename!r} has cells as far as column {columns:,} and row {rows:,}"
        )


def _column(letters: bytes) -> int:
    """The number of a column, from 1 on; 27 is `AA`."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - ord("A") + 1
    return number


def _cells(content: bytes, name: str) -> pl.DataFrame:
    """All cells of a sheet as text, from its very first row on."""
    from fastexcel import read_excel

    # As text a column may mix numbers and letters: 489434 comes as it stands, and so does C489449.
    sheet = read_excel(content).load_sheet(name, header_row=None, skip_rows=0, dtypes="string")
    return pl.DataFrame(sheet)


def _header_row(path: Path, name: str, cells: pl.DataFrame) -> int | None:
    """Which row is the header; None for a sheet of something else.

    Raises:
        SourceRefusedError: The sheet has half of the columns and lacks others: it would be lost.
    """
    rows = cells.head(_HEADER_WITHIN).rows()
    known = [sum(map(bool, published_columns(row))) for row in rows]
    if not known or max(known) < len(PUBLISHED) / 2:
        return None
    best = known.index(max(known))
    if problem := header_problem(rows[best]):
        raise _refused_sheet(path, name, problem)
    return best


def _as_text(name: str, cells: pl.DataFrame, header_row: int) -> pl.DataFrame:
    columns = published_columns(cells.row(header_row))
    return cells.select(
        *(
            pl.col(theirs).alias(ours)
            for theirs, ours in zip(cells.columns, columns, strict=True)
            if ours
        ),
        pl.lit(name).alias("Sheet"),
        pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).alias("Row"),
    )[header_row + 1 :].select(TEXT.names())


def _workbook(path: Path) -> bytes:
    """The workbook's bytes, once it is known to be one of a size that can be read."""
    looks_like_zip(path)
    content = path.read_bytes()
    if not _is_workbook(content):
        with Archive(path) as archive:
            found = [m for m in archive.members() if m.basename.lower().endswith(".xlsx")]
            if len(found) != 1:
                raise SourceRefusedError(
                    f"{path.name} holds {len(found)} workbooks (.xlsx) and should hold one:"
                    " see what the publisher has at its address"
                )
            content = archive.read(found[0])
        if not _is_workbook(content):
            raise SourceRefusedError(
                f"{found[0].name!r} in {path.name} is not a workbook:"
                " get a sound copy from the publisher and run again"
            )
    return content


def _is_workbook(content: bytes) -> bool:
    try:
        with ZipFile(io.BytesIO(content)) as parts:
            inflated = sum(part.file_size for part in parts.infolist())
            return _WORKBOOK_MEMBER in parts.namelist() and inflated <= LARGEST_WORKBOOK
    except _BROKEN:
        return False


def _unreadable(path: Path, reason: str) -> SourceRefusedError:
    return SourceRefusedError(
        f"{path.name} holds a workbook that cannot be read ({reason}):"
        " get a sound copy from the publisher and run again"
    )


def _refused_sheet(path: Path, name: str, problem: str) -> SourceRefusedError:
    return SourceRefusedError(
        f"the sheet {name!r} of {path.name} cannot be used: {problem};"
        " get a sound copy from the publisher and run again"
    )
