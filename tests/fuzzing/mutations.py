"""What hypothesis does to a sound file, and how often."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import TypeAlias, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lakehouse.errors import SourceRefusedError
from lakehouse.resources.inbox import Taken

EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
"""Of each property, others every time; without it a hundred, always the same ones."""

fuzzed = settings(
    max_examples=int(EXAMPLES or 100),
    derandomize=EXAMPLES is None,
    # No input may take long, however busy the machine is.
    deadline=timedelta(seconds=30),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

_T = TypeVar("_T")
Change: TypeAlias = Callable[[bytes], bytes]


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with some of them overwritten, taken out, put in, doubled or cut off."""
    changes = st.lists(_changes(len(content)), min_size=1, max_size=4)
    return changes.map(lambda chosen: reduce(lambda now, change: change(now), chosen, content))


def _changes(length: int) -> st.SearchStrategy[Change]:
    position, size = st.integers(0, max(length - 1, 0)), st.integers(1, 64)
    bytes_ = st.binary(min_size=1, max_size=4) | st.sampled_from(
        [b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"PK\x03\x04", b'"', b"\r"]
    )
    return st.one_of(
        st.builds(
            lambda at, new: lambda old: old[:at] + new + old[at + len(new) :],
            position,
            bytes_,
        ),
        st.builds(lambda at, new: lambda old: old[:at] + new + old[at:], position, bytes_),
        st.builds(lambda at, some: lambda old: old[:at] + old[at + some :], position, size),
        st.builds(lambda at, some: lambda old: old[: at + some] + old[at:], position, size),
        st.builds(lambda at: lambda old: old[:at], position),
    )


def dropped(folder: Path, name: str, content: bytes) -> Taken:
    """A file as the inbox hands it on."""
    path = folder / name
    path.write_bytes(content)
    return Taken("", name, path, len(content), "", datetime.now(UTC), ())


def unless_refused(read: Callable[[], _T]) -> _T | None:
    """What a file gives; None where it is refused, which must be said in one line."""
    try:
        return read()
    except SourceRefusedError as error:
        sentence = str(error)
    assert sentence.isprintable()
    assert len(sentence) < 1000
    return None


def lines_of(text: bytes) -> int:
    """Lines below the header that are not blank."""
    return sum(bool(line.strip()) for line in text.split(b"\n")[1:])
