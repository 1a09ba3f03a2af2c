"""What lands is what the publisher has, however the way there went."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from misbehaving import MisbehavingServer, Page

from lakehouse.errors import (
    LakehouseError,
    NotPublishedError,
    SourceRefusedError,
    UnavailableError,
    UsageError,
)
from lakehouse.resources.landing import LandedFile, Patience
from lakehouse.resources.signatures import looks_like_parquet, looks_like_zip
from lakehouse.resources.source import Source

BODY = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
HTML = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
QUICK = Patience(attempts=4, first=0.01, longest=0.05, connect=0.5, silence=0.5)

LAND = """
import sys
from pathlib import Path
from lakehouse.resources.source import Source
landed = Source(Path(sys.argv[1])).land(sys.argv[2], "drives", lambda path: None)
print(landed.sha256, landed.downloaded)
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "landing", patience=QUICK)


def anything(path: Path) -> None:
    """A check that takes whatever comes."""


def land(source: Source, server: MisbehavingServer, page: Page | None = None) -> LandedFile:
    """Publish a page as /data.zip, where one is given, and land it."""
    if page:
        server.pages["/data.zip"] = page
    return source.land(f"{server.address}/data.zip", "drives", anything)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_background(landing: Path, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LAND, str(landing), url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# What lands


def test_a_file_lands_with_a_record_of_where_it_came_from(source, server, tmp_path):
    landed = land(source, server, Page(BODY))

    folder = tmp_path / "landing" / "drives"
    assert landed.path == folder / "data.zip"
    assert landed.path.read_bytes() == BODY
    assert landed.downloaded
    record = json.loads((folder / "data.zip.landed.json").read_text())
    assert record["url"] == f"{server.address}/data.zip"
    assert record["size"] == len(BODY)
    assert record["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert record["etag"] == '"v1"'
    assert record["last_modified"] == "Wed, 01 Jan 2025 00:00:00 GMT"
    assert record["landed_at"].endswith("+00:00")
    assert not [name for name in names(folder) if ".part" in name]


def test_progress_tells_bytes_of_how_many(source, server):
    server.pages["/data.zip"] = Page(BODY)
    seen: list[tuple[int, int | None]] = []
    source.land(
        f"{server.address}/data.zip",
        "drives",
        anything,
        lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (len(BODY), len(BODY))


def test_what_is_unchanged_is_not_downloaded_again(source, server):
    first = land(source, server, Page(BODY))
    second = land(source, server)
    assert not second.downloaded
    assert (second.path, second.sha256) == (first.path, first.sha256)
    assert server.requests["GET"] == 1


def test_without_an_etag_size_and_date_tell_what_is_unchanged(source, server):
    land(source, server, Page(BODY, etag=None))
    assert not land(source, server).downloaded
    later = Page(OTHER, etag=None, last_modified="Thu, 02 Jan 2025 00:00:00 GMT")
    assert land(source, server, later).path.read_bytes() == OTHER


def test_what_cannot_be_told_to_be_unchanged_is_downloaded_again(source, server):
    land(source, server, Page(BODY, etag=None, last_modified=None))
    assert land(source, server).downloaded


def test_backblaze_names_a_version_by_its_file_id_and_dates_every_answer_now(source, server):
    page = Page(BODY, etag=None, headers={"X-Bz-File-Id": "4_z1"}, cuts=[100_000])
    assert land(source, server, page).path.read_bytes() == BODY
    assert server.bytes_sent == len(BODY)
    page.last_modified = "Fri, 03 Jan 2025 00:00:00 GMT"
    assert not land(source, server).downloaded
    page.headers = {"X-Bz-File-Id": "4_z2"}
    assert land(source, server).downloaded


def test_a_file_published_again_with_other_bytes_replaces_the_landed_one(source, server):
    land(source, server, Page(BODY))
    landed = land(source, server, Page(OTHER, etag='"v2"'))
    assert landed.downloaded
    assert landed.path.read_bytes() == OTHER
    assert not land(source, server).downloaded


def test_the_same_name_at_another_address_is_another_file(source, server):
    server.pages = {"/a/data.zip": Page(BODY), "/b/data.zip": Page(OTHER)}
    source.land(f"{server.address}/a/data.zip", "drives", anything)
    landed = source.land(f"{server.address}/b/data.zip", "drives", anything)
    assert landed.path.read_bytes() == OTHER


# The way there


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_publisher_in_trouble_is_asked_again(source, server, status):
    page = Page(BODY, failures=[(status, {}), (status, {})])
    assert land(source, server, page).path.read_bytes() == BODY


def test_retry_after_is_honoured_up_to_the_longest_wait(tmp_path, server):
    patient = Source(tmp_path, patience=Patience(attempts=2, first=0.01, longest=0.4))
    begun = time.monotonic()
    land(patient, server, Page(BODY, failures=[(429, {"Retry-After": "3600"})]))
    assert 0.4 <= time.monotonic() - begun < 3


def test_a_publisher_that_stays_down_is_given_up_in_one_sentence(source, server):
    with pytest.raises(UnavailableError) as caught:
        land(source, server, Page(BODY, failures=[(503, {})] * 4))
    assert str(caught.value) == (
        f"{server.address}/data.zip could not be read in 4 tries (HTTP 503); "
        "check the network and run again: what has arrived is kept."
    )


def test_an_address_where_nobody_listens_is_given_up(source, server, tmp_path):
    with pytest.raises(UnavailableError, match=r"could not be read in 4 tries \(.*refused\)"):
        source.probe("http://127.0.0.1:9/data.zip")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_not_there_is_not_published(source, server, status):
    with pytest.raises(NotPublishedError, match=f"HTTP {status}.*not be published yet"):
        land(source, server, Page(BODY, failures=[(status, {})] * 2))
    assert sum(server.requests.values()) <= 2


def test_other_refusals_are_permanent(source, server):
    with pytest.raises(LakehouseError, match="refused with HTTP 401") as caught:
        land(source, server, Page(BODY, failures=[(401, {})]))
    assert not isinstance(caught.value, UnavailableError)
    assert sum(server.requests.values()) == 1


@pytest.mark.parametrize("etag", ['"v1"', None])
def test_a_cut_connection_is_resumed_and_only_the_rest_is_fetched(source, server, etag):
    landed = land(source, server, Page(BODY, etag=etag, cuts=[100_000, 50_000]))
    assert landed.path.read_bytes() == BODY
    assert landed.sha256 == hashlib.sha256(BODY).hexdigest()
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert server.bytes_sent == len(BODY)


def test_a_download_given_up_is_resumed_by_the_next_run(source, server):
    with pytest.raises(UnavailableError):
        land(source, server, Page(BODY, cuts=[50_000] * 4))
    assert land(source, server).path.read_bytes() == BODY
    assert server.bytes_sent == len(BODY)


def test_a_stalled_connection_is_resumed(source, server):
    page = Page(BODY, stalls_at=100_000, then=Page(BODY))
    assert land(source, server, page).path.read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-"]


def test_a_publisher_that_ignores_ranges_sends_it_all_and_nothing_is_doubled(source, server):
    landed = land(source, server, Page(BODY, ranges_obeyed=False, cuts=[100_000]))
    assert landed.path.read_bytes() == BODY
    assert server.bytes_sent == 100_000 + len(BODY)


@pytest.mark.parametrize("content_range", ["bytes 99999-299999/300000", "bytes 100000-1/2", "x"])
def test_a_wrong_content_range_is_not_appended(source, server, content_range):
    page = Page(BODY, cuts=[100_000], content_range=content_range)
    assert land(source, server, page).path.read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-", None]


@pytest.mark.parametrize("if_range_obeyed", [True, False])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"etag": '"v1"'}, {"etag": '"v2"'}),
        ({"etag": 'W/"v1"'}, {"etag": 'W/"v2"'}),
        ({"last_modified": "Wed, 01 Jan 2025 00:00:00 GMT"}, {"last_modified": "Thu, 02 Jan 2025"}),
        ({"headers": {"X-Bz-File-Id": "4_z1"}}, {"headers": {"X-Bz-File-Id": "4_z2"}}),
        ({}, {}),
    ],
    ids=["etag", "weak etag", "date", "file id", "nothing"],
)
def test_two_versions_are_never_mixed(source, server, first, second, if_range_obeyed):
    bare = {"etag": None, "last_modified": None, "if_range_obeyed": if_range_obeyed}
    then = Page(OTHER, **(bare | second))
    landed = land(source, server, Page(BODY, **(bare | first), cuts=[100_000], then=then))
    assert landed.path.read_bytes() == OTHER
    assert landed.etag == (then.etag or then.headers.get("X-Bz-File-Id"))


def test_a_weak_etag_does_not_vouch_for_bytes(source, server):
    page = Page(BODY, etag='W/"v1"', cuts=[100_000])
    assert land(source, server, page).path.read_bytes() == BODY
    assert server.ranges == [None, None]
    assert not land(source, server).downloaded


def test_a_part_of_an_older_version_is_not_continued(source, server):
    with pytest.raises(UnavailableError):
        land(source, server, Page(BODY, cuts=[50_000] * 4))
    assert land(source, server, Page(OTHER, etag='"v2"')).path.read_bytes() == OTHER
    assert server.ranges[-1] is None


def test_a_part_that_was_complete_is_not_fetched_again(source, server, tmp_path):
    landed = land(source, server, Page(BODY))
    landed.path.rename(f"{landed.path}.part")
    note = {"size": len(BODY), "etag": '"v1"', "last_modified": None}
    Path(f"{landed.path}.part.json").write_text(json.dumps(note))
    assert land(source, server).path.read_bytes() == BODY
    assert server.bytes_sent == len(BODY)


def test_a_part_longer_than_the_file_is_dropped(source, server, tmp_path):
    folder = tmp_path / "landing" / "drives"
    folder.mkdir(parents=True)
    (folder / "data.zip.part").write_bytes(BODY + b"more")
    note = {"size": len(BODY), "etag": '"v1"', "last_modified": None}
    (folder / "data.zip.part.json").write_text(json.dumps(note))
    assert land(source, server, Page(BODY)).path.read_bytes() == BODY


def test_fewer_bytes_than_announced_is_a_broken_download(source, server):
    with pytest.raises(UnavailableError, match="4 tries"):
        land(source, server, Page(BODY, announced=len(BODY) + 10, ranges_obeyed=False))
    assert land(source, server, Page(BODY)).path.read_bytes() == BODY


def test_more_bytes_than_announced_are_not_taken(source, server, tmp_path):
    archive = tmp_path / "whole.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("2018-01-01.csv", "date\n")
    whole = archive.read_bytes()
    server.pages["/data.zip"] = Page(whole, announced=len(whole) - 10)
    with pytest.raises(SourceRefusedError, match=r"data\.zip is a zip archive whose end is miss"):
        source.land(f"{server.address}/data.zip", "drives", looks_like_zip)


def test_compression_in_transit_is_not_asked_for(source, server):
    page = Page(BODY, gzips_if_asked=True, cuts=[100_000])
    assert land(source, server, page).path.read_bytes() == BODY
    assert server.bytes_sent == len(BODY)


def test_a_publisher_without_head_is_probed_with_one_byte(source, server):
    assert land(source, server, Page(BODY, heads_allowed=False)).path.read_bytes() == BODY
    assert source.probe(f"{server.address}/data.zip").size == len(BODY)
    assert not land(source, server).downloaded
    assert server.bytes_sent == len(BODY) + 3


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 2_000), max_size=3), size=st.integers(1, 2_000))
def test_wherever_it_is_cut_the_bytes_are_the_publishers(cuts, size):
    with MisbehavingServer() as server, tempfile.TemporaryDirectory() as landing:
        source = Source(Path(landing), patience=Patience(4, 0.001, 0.001, 0.5, 0.5))
        assert land(source, server, Page(BODY[:size], cuts=cuts)).path.read_bytes() == BODY[:size]
        assert server.bytes_sent == size


# What is refused, and what then stays


def test_an_html_page_is_refused_and_the_landed_file_stays(source, server, tmp_path):
    landed = land(source, server, Page(BODY))
    server.pages["/data.zip"] = Page(HTML, etag='"v2"', content_type="text/html")
    with pytest.raises(SourceRefusedError, match=r"data\.zip is not a zip archive but an HTML pa"):
        source.land(f"{server.address}/data.zip", "drives", looks_like_zip)
    assert landed.path.read_bytes() == BODY
    source.verify(landed)
    assert not [name for name in names(landed.path.parent) if ".part" in name]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (HTML, "an HTML page"),
        (b"\xef\xbb\xbf <?xml version='1.0'?><Error/>", "an XML document"),
        (b"\x1f\x8b\x08\x00", "a gzip file"),
        (b"PAR1....PAR1", "a Parquet file"),
        (b"date,serial_number\n", "something else"),
    ],
)
def test_what_is_no_zip_archive_is_named(tmp_path, content, what):
    path = tmp_path / "data.zip.part"
    path.write_bytes(content)
    with pytest.raises(SourceRefusedError, match=rf"^data\.zip is not a zip archive but {what};"):
        looks_like_zip(path)


def test_a_parquet_file_is_known_by_both_its_ends(tmp_path):
    path = tmp_path / "trips.parquet"
    path.write_bytes(b"PAR1....PAR1")
    looks_like_parquet(path)
    path.write_bytes(b"PAR1....PA")
    with pytest.raises(SourceRefusedError, match="whose end is missing"):
        looks_like_parquet(path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(SourceRefusedError, match="not a Parquet file but a zip archive"):
        looks_like_parquet(path)


def test_messages_and_records_hold_no_secrets(source, server):
    host = server.address.removeprefix("http://")
    url = f"http://me:hunter2@{host}/data.zip?token=hunter3"
    with pytest.raises(NotPublishedError) as caught:
        source.probe(url)
    assert "hunter" not in str(caught.value)
    assert f"{server.address}/data.zip" in str(caught.value)
    server.pages["/data.zip?token=hunter3"] = Page(BODY)
    landed = source.land(url, "drives", anything)
    assert "hunter" not in Path(f"{landed.path}.landed.json").read_text()
    assert "hunter" not in landed.url


# What happens to landed files


def test_an_altered_file_is_noticed_and_landed_anew(source, server):
    landed = land(source, server, Page(BODY))
    landed.path.write_bytes(bytes([BODY[0] ^ 1]) + BODY[1:])
    with pytest.raises(SourceRefusedError, match="was altered after it landed; run again"):
        source.verify(landed)
    again = land(source, server)
    assert again.downloaded
    source.verify(again)


@pytest.mark.parametrize("alter", [lambda path: os.truncate(path, 10), Path.unlink])
def test_a_shortened_or_deleted_file_is_landed_anew(source, server, alter):
    alter(land(source, server, Page(BODY)).path)
    assert land(source, server).path.read_bytes() == BODY


def test_a_crash_between_file_and_record_is_landed_anew(source, server, monkeypatch):
    land(source, server, Page(BODY))
    write_text = Path.write_text

    def die(path: Path, *args: object) -> int:
        if ".landed.json" in path.name:
            raise KeyboardInterrupt
        return write_text(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", die)
        with pytest.raises(KeyboardInterrupt):
            land(source, server, Page(OTHER, etag='"v2"'))
    # The publisher goes back to the first version: the record of it must not vouch for OTHER.
    landed = land(source, server, Page(BODY))
    assert landed.path.read_bytes() == BODY
    source.verify(landed)


@pytest.mark.parametrize("status", [503, 404])
def test_an_intact_copy_serves_while_the_publisher_is_away(source, server, caplog, status):
    first = land(source, server, Page(BODY))
    landed = land(source, server, Page(BODY, failures=[(status, {})] * 4))
    assert not landed.downloaded
    assert landed.sha256 == first.sha256
    assert str(landed.path) in caplog.text
    assert f"HTTP {status}" in caplog.text


def test_an_altered_copy_does_not_serve_while_the_publisher_is_away(source, server):
    landed = land(source, server, Page(BODY))
    landed.path.write_bytes(OTHER[: len(BODY)])
    with pytest.raises(UnavailableError):
        land(source, server, Page(BODY, failures=[(503, {})] * 4))


# Several at once, and sudden ends


def test_two_processes_download_once(server, tmp_path):
    server.pages["/data.zip"] = Page(BODY, seconds=0.5)
    both = [in_background(tmp_path, f"{server.address}/data.zip") for _ in range(2)]
    said = sorted(process.communicate(timeout=20)[0].split() for process in both)
    sha256 = hashlib.sha256(BODY).hexdigest()
    assert said == [[sha256, "False"], [sha256, "True"]]
    assert server.requests["GET"] == 1


def test_threads_download_once(source, server):
    server.pages["/data.zip"] = Page(BODY, seconds=0.1)
    landed: list[LandedFile] = []
    threads = [
        threading.Thread(target=lambda: landed.append(land(source, server))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(file.downloaded for file in landed) == [False] * 5 + [True]
    assert server.requests["GET"] == 1


def test_a_killed_download_is_resumed(source, server, tmp_path):
    server.pages["/data.zip"] = Page(BODY, stalls_at=200_000)
    process = in_background(tmp_path / "landing", f"{server.address}/data.zip")
    part = tmp_path / "landing" / "drives" / "data.zip.part"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size > 100_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = part.stat().st_size
    assert kept > 100_000

    sent = server.bytes_sent
    landed = land(source, server, Page(BODY))
    assert landed.path.read_bytes() == BODY
    assert landed.sha256 == hashlib.sha256(BODY).hexdigest()
    assert server.bytes_sent - sent == len(BODY) - kept


@pytest.fixture
def small_disk(new_disk: Callable[[str], Path]) -> Path:
    """A disk of 200 kB."""
    return new_disk("200k")


def test_a_full_disk_is_named_and_left_clean(small_disk, server):
    source = Source(small_disk, patience=QUICK)
    with pytest.raises(LakehouseError) as caught:
        land(source, server, Page(BODY))
    assert str(caught.value) == (
        f"The disk of {small_disk / 'drives'} is full: data.zip needs 300,000 bytes; "
        "free some space and run again."
    )
    assert not [name for name in names(small_disk / "drives") if ".part" in name]
    assert land(source, server, Page(BODY[:100_000])).size == 100_000


# Mirrors

URL = "https://f001.backblazeb2.com/file/Hard-Drive-Data/data%20Q1.zip"


@pytest.fixture
def mirrored(tmp_path: Path) -> Path:
    """A file in the mirror folder that nobody may write to."""
    path = tmp_path / "mirror" / "f001.backblazeb2.com" / "file" / "Hard-Drive-Data" / "data Q1.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    path.chmod(0o444)
    return path


@pytest.fixture
def mirror_source(tmp_path: Path) -> Source:
    return Source(tmp_path / "landing", str(tmp_path / "mirror"))


def test_a_mirror_folder_is_read_instead_of_the_internet(mirror_source, mirrored):
    assert mirror_source.locate(URL) == mirrored
    landed = mirror_source.land(URL, "drives", anything)
    assert landed.path.read_bytes() == BODY
    assert landed.url == URL
    assert landed.path.stat().st_mode & 0o200
    assert not mirror_source.land(URL, "drives", anything).downloaded


def test_a_file_replaced_in_the_mirror_is_landed_again(mirror_source, mirrored):
    mirror_source.land(URL, "drives", anything)
    mirrored.chmod(0o644)
    mirrored.write_bytes(OTHER)
    assert mirror_source.land(URL, "drives", anything).path.read_bytes() == OTHER


def test_a_landed_copy_does_not_change_with_the_mirror(mirror_source, mirrored):
    landed = mirror_source.land(URL, "drives", anything)
    mirrored.chmod(0o644)
    mirrored.write_bytes(OTHER)
    mirror_source.verify(landed)


def test_a_file_that_is_being_copied_into_the_mirror_is_not_landed(mirror_source, mirrored):
    mirrored.chmod(0o644)

    def grow(done: int, total: int | None) -> None:
        with mirrored.open("ab") as file:
            file.write(b"more")

    with pytest.raises(UnavailableError, match="changed while it was copied"):
        mirror_source.land(URL, "drives", anything, grow)


def test_what_the_mirror_lacks_is_not_published(mirror_source, mirrored):
    with pytest.raises(NotPublishedError, match="put the file there, or unset LAKEHOUSE_SOURCE_MI"):
        mirror_source.probe(URL.replace("Q1", "Q2"))


def test_a_mirror_that_is_no_folder_is_a_mistake(tmp_path):
    with pytest.raises(UsageError, match="is not a folder; correct LAKEHOUSE_SOURCE_MIRROR"):
        Source(tmp_path, str(tmp_path / "nowhere")).probe(URL)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/../../etc/passwd",
        "https://host/a/%2e%2e/%2e%2e/passwd",
        "https://host/a%2f..%2f..%2fpasswd",
        "https://../passwd",
        "https://host/",
        "file:///etc/passwd",
        "/etc/passwd",
    ],
)
def test_no_address_leads_out_of_the_mirror(tmp_path, url):
    with pytest.raises(UsageError, match="is not the address of a file"):
        Source(tmp_path, str(tmp_path)).land(url, "drives", anything)


def test_an_absolute_path_stays_in_the_mirror(tmp_path):
    assert Source(tmp_path, "/mirror").locate("https://host//etc/passwd") == Path(
        "/mirror/host/etc/passwd"
    )


def test_a_mirror_address_is_read_instead_of_the_internet(tmp_path, server):
    server.pages["/mirror/example.org/trips/green.parquet"] = Page(BODY)
    source = Source(tmp_path, f"{server.address}/mirror/", patience=QUICK)
    landed = source.land("https://example.org/trips/green.parquet", "taxi", anything)
    assert landed.path.read_bytes() == BODY
    assert landed.url == "https://example.org/trips/green.parquet"
