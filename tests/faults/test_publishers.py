"""Publishers that misbehave, as servers and as a folder that changes while it is read."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from faults.choice import choose, choose_datasets
from faults.rehearsal import Rehearsal
from faults.subjects import SUBJECTS
from resources.misbehaving import MisbehavingServer, Page

from lakehouse.resources import http_file


@dataclass(frozen=True)
class Publisher:
    """How a file is served; `arrives` is whether the months can be made of it all the same."""

    page: Callable[[bytes, bytes], Page]
    """Of the file's bytes, and of those of its former edition."""
    arrives: bool = True


def _half(body: bytes) -> int:
    return len(body) // 2


def _page(**how: Any) -> Publisher:
    return Publisher(lambda body, _: Page(body, **how))


def _cut(**how: Any) -> Publisher:
    return Publisher(lambda body, _: Page(body, cuts=[_half(body), _half(body) // 2], **how))


PUBLISHERS = {
    "breaks off": _cut(),
    "is replaced while it is downloaded": Publisher(
        lambda body, former: Page(
            former, etag='"former"', cuts=[_half(former)], then=Page(body, etag='"new"')
        )
    ),
    "is a web page": Publisher(
        lambda *_: Page(b"<!DOCTYPE html><title>Sorry</title>", content_type="text/html"), False
    ),
    "is in trouble at first": Publisher(
        lambda body, _: Page(body, failures=[(500, {}), (503, {"Retry-After": "1"}), (429, {})])
    ),
    "stays in trouble": Publisher(lambda body, _: Page(body, failures=[(503, {})] * 99), False),
    "is gone": Publisher(lambda body, _: Page(body, failures=[(404, {})] * 99), False),
    "is forbidden": Publisher(lambda body, _: Page(body, failures=[(401, {})] * 99), False),
    "breaks off and ignores Range": _cut(ranges_obeyed=False),
    "breaks off and ignores If-Range": _cut(if_range_obeyed=False),
    "breaks off and has a weak ETag": _cut(etag='W/"v1"'),
    "breaks off and has no ETag": _cut(etag=None),
    "breaks off and names no version": _cut(etag=None, last_modified=None),
    "breaks off and sends another range": _cut(content_range="bytes 5-9/10"),
    "stalls": Publisher(lambda body, _: Page(body, stalls_at=_half(body))),
    "announces more than it sends": Publisher(
        lambda body, _: Page(body, announced=len(body) + 100), False
    ),
    "knows no HEAD": _page(heads_allowed=False),
    "compresses in transit": _page(gzips_if_asked=True),
    "is slow": _page(seconds=0.5),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    few = {"drives": ["is replaced while it is downloaded"], "taxi": ["is a web page"]}
    choose(metafunc, "publisher", few, dict.fromkeys(SUBJECTS, PUBLISHERS))
    choose_datasets(metafunc, {"test_a_file_that_changes_while_it_is_read": ["drives"]})


class Hasty(http_file.HttpFile):
    """As patient, but within seconds."""

    def __init__(self, address: str, patience: Any) -> None:
        super().__init__(address, replace(patience, first=0.02, silence=2.0))


def test_a_server(rehearsal: Rehearsal, publisher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It arrives whole, or not at all and one line says why; then it is mended."""
    monkeypatch.setattr(http_file, "HttpFile", Hasty)
    kind, home = PUBLISHERS[publisher], rehearsal.home
    former = _files(home.mirror)
    rehearsal.publish_another()
    with rehearsal.disturbed("misbehaving server"), MisbehavingServer() as server:
        server.pages = {
            f"/{name}": kind.page(body, former[name]) for name, body in _files(home.mirror).items()
        }
        answer = home.call(
            *rehearsal.subject.backfill(), "--force", LAKEHOUSE_SOURCE_MIRROR=server.address
        )
        said = answer.out + answer.err
        assert "Traceback" not in said
        assert not list(home.folder.rglob("*.part")) or not kind.arrives
        if kind.arrives:
            assert answer.code == 0, said
            assert rehearsal.subject.tables(home) == rehearsal.in_peace()


def test_a_file_that_changes_while_it_is_read(rehearsal: Rehearsal) -> None:
    """It is written in place again and again while two backfills run."""
    over = threading.Event()

    def publish_again_and_again() -> None:
        while not over.is_set():
            rehearsal.publish_another()

    writer = threading.Thread(target=publish_again_and_again)
    with rehearsal.disturbed("file changes while it is read"):
        writer.start()
        try:
            for _ in range(2):
                answer = rehearsal.home.call(*rehearsal.subject.backfill())
                assert "Traceback" not in answer.out + answer.err
        finally:
            over.set()
            writer.join()


def _files(mirror: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(mirror)): path.read_bytes()
        for path in mirror.rglob("*")
        if path.is_file()
    }
