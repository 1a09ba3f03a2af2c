"""The older CSV files of taxi trips, in pieces of bounded size, to rows that `canonical` takes."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import polars as pl

from lakehouse.errors import SourceRefusedError
from lakehouse.transforms.delimited import ColumnType, body_at, column_names, read_piece
from lakehouse.transforms.taxi.eras import COLUMNS, recognise

PIECE_BYTES = 32 * 1024 * 1024
"""Text that is held at a time; the rows made of it take about four times as much."""

_LINES_OF_A_RECORD = 20
"""As many lines a quoted cell may span; so far a piece is shortened not to cut through one."""


@dataclass(frozen=True)
class Piece:
    """Some lines of a file, in their order.

    Attributes:
        frame: Canonical columns that the file has, unknown ones, `_row` (the line, Int64; the
            header is 1) and `_unreadable`. All pieces of a file have the same columns and types.
        rejects: The lines that are no rows, as `REJECTS`.
        records: Rows and rejects together.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    records: int


def read_csv(
    stream: BinaryIO, service: str, month: str, piece_bytes: int = PIECE_BYTES
) -> Iterator[Piece]:
    """Read a file as it is inflated; a file without rows makes one empty piece.

    Raises:
        SourceRefusedError: The file is not the service's, is damaged, or is no text.
    """
    blocks = _blocks(stream, piece_bytes)
    start = next(blocks, b"")
    types = _types(column_names(start), service, month)
    body = body_at(start)
    line = 2
    for lines in _whole_lines(start[body:], blocks):
        read = read_piece(lines, types, line)
        yield Piece(read.frame, read.rejects, read.records)
        line += lines.count(b"\n")


def _types(columns: list[str], service: str, month: str) -> dict[str, ColumnType]:
    """The type in which each column is read, under its canonical name, in the file's order."""
    names = recognise(columns, service, month).by_file
    known = {column.name: _read_as(column.name, column.dtype) for column in COLUMNS[service]}
    return {names[there]: known.get(names[there], pl.String) for there in columns}


def _read_as(name: str, dtype: ColumnType) -> ColumnType:
    if name == "payment_type":  # words until 2014
        return pl.String
    return pl.Int64 if dtype == pl.Int32 else dtype


def _blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    try:
        while block := stream.read(size):
            yield block
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's or the network's
            raise
        raise SourceRefusedError(
            f"the file is cut off or damaged: {error}. Remove it and fetch it again"
        ) from error


def _whole_lines(start: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The text in pieces that end where a record ends."""
    held = start
    for block in blocks:
        if b"\n" not in held and len(held) > len(block):
            raise SourceRefusedError(
                f"no line ends in {len(held):,} bytes: this is no CSV file. Look whether the right"
                " file stands under this name"
            )
        cut = _cut(held)
        if cut:
            yield held[:cut]
        held = held[cut:] + block
    yield held


def _cut(text: bytes) -> int:
    """Behind the last line that ends, or the one before which an open quote begins."""
    last = cut = text.rfind(b"\n") + 1
    if text.count(b'"', 0, last) % 2 == 0:
        return last
    for _ in range(_LINES_OF_A_RECORD):
        cut = text.rfind(b"\n", 0, max(cut - 1, 0)) + 1
        if text.count(b'"', cut, last) % 2:
            return cut
    return last
