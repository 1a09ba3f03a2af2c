"""Whether a file is what its name says, from its first and last bytes."""

import zipfile
from pathlib import Path

from lakehouse.errors import SourceRefusedError


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
