"""What is dropped into the inbox is taken once it is whole, or refused with the reason."""

import gzip
import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.fs
import pytest
from buckets import running_buckets

from lakehouse.resources.inbox import Inbox, Taken
from lakehouse.settings import Settings

CONTENT = b"date,serial_number,model,capacity_bytes,failure\n2018-01-01,Z1,M,1,0\n"


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(Settings(home=tmp_path / "home", inbox=str(tmp_path / "inbox")), "drives")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox" / "drives"
    folder.mkdir(parents=True)
    return folder


def names(inbox: Inbox) -> list[str]:
    return [dropped.name for dropped in inbox.look()]


def take_all(inbox: Inbox) -> list[Taken]:
    taken = []
    for dropped in inbox.look():
        copy = inbox.fetch(dropped)
        assert copy is not None
        taken.append(inbox.take(dropped, copy, ["2018-02"]))
    return taken


def test_the_inbox_is_made_where_it_is_missing(tmp_path):
    inbox = Inbox(Settings(home=tmp_path), "drives")
    assert inbox.look() == []
    assert (tmp_path / "inbox" / "drives").is_dir()


def test_hidden_and_half_uploaded_files_and_folders_are_not_seen(inbox, folder):
    for name in ("a.csv", "B.CSV", ".a.csv.swp", ".DS_Store", "a.csv.part", "a.zip.crdownload"):
        (folder / name).write_bytes(CONTENT)
    for name in ("a.csv~", "a.tmp", "a.FILEPART"):
        (folder / name).write_bytes(CONTENT)
    (folder / "folder.csv").mkdir()
    assert names(inbox) == ["B.CSV", "a.csv"]


def test_a_file_is_another_one_when_its_size_or_its_time_changes(inbox, folder):
    (folder / "a.csv").write_bytes(CONTENT)
    (seen,) = inbox.look()
    assert inbox.look() == [seen]
    os.utime(folder / "a.csv", (1, 1))
    assert inbox.look() != [seen]


def test_a_taken_file_has_landed_with_its_hash_and_left_the_inbox(inbox, folder):
    (folder / "a.csv").write_bytes(CONTENT)
    before = datetime.now(UTC)
    (taken,) = take_all(inbox)
    assert taken.name == "a.csv"
    assert taken.path.read_bytes() == CONTENT
    assert (taken.size, taken.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert before <= taken.landed_at <= datetime.now(UTC)
    assert names(inbox) == []
    assert inbox.taken() == [taken]


def test_a_gzip_file_lands_as_it_is(inbox, folder):
    packed = gzip.compress(CONTENT)
    (folder / "a.csv.gz").write_bytes(packed)
    (taken,) = take_all(inbox)
    assert taken.path.read_bytes() == packed


def test_what_was_taken_is_remembered_in_its_order(inbox, folder, tmp_path):
    for name in ("b.csv", "a.csv", "b.csv"):
        (folder / name).write_bytes(CONTENT)
        take_all(inbox)
    again = Inbox(Settings(home=tmp_path / "home", inbox=str(tmp_path / "inbox")), "drives")
    assert [taken.name for taken in again.taken()] == ["b.csv", "a.csv", "b.csv"]
    ids = [taken.id for taken in again.taken()]
    assert ids == sorted(set(ids))


def test_the_same_file_dropped_again_is_taken_again(inbox, folder):
    for _ in range(2):
        (folder / "a.csv").write_bytes(CONTENT)
        take_all(inbox)
    first, second = inbox.taken()
    assert first.sha256 == second.sha256
    assert first.path != second.path


@pytest.mark.parametrize("changed", [CONTENT * 2, CONTENT.upper()])
def test_a_file_that_changes_while_it_is_copied_is_left_where_it_is(inbox, folder, changed):
    (folder / "a.csv").write_bytes(CONTENT)
    os.utime(folder / "a.csv", (1, 1))
    (seen,) = inbox.look()
    (folder / "a.csv").write_bytes(changed)
    assert inbox.fetch(seen) is None
    assert names(inbox) == ["a.csv"]
    assert inbox.taken() == []


def test_a_file_that_goes_away_before_it_is_copied_is_not_taken(inbox, folder):
    (folder / "a.csv").write_bytes(CONTENT)
    (seen,) = inbox.look()
    (folder / "a.csv").unlink()
    assert inbox.fetch(seen) is None
    assert inbox.taken() == []


def test_a_copy_that_was_never_taken_does_not_count(inbox, folder):
    (folder / "a.csv").write_bytes(CONTENT)
    (seen,) = inbox.look()
    assert inbox.fetch(seen).read_bytes() == CONTENT
    assert inbox.taken() == []
    assert names(inbox) == ["a.csv"]


def test_a_crash_while_a_file_lands_leaves_it_to_be_taken_again(inbox, folder, tmp_path):
    """The record was begun, and neither the file nor the inbox had been touched."""
    (folder / "a.csv").write_bytes(CONTENT)
    landing = tmp_path / "home" / "landing" / "drives" / "inbox"
    (landing / "20240101T000000000000").mkdir(parents=True)
    (landing / "20240101T000000000000.json").write_text("{")
    assert inbox.taken() == []
    (taken,) = take_all(inbox)
    assert inbox.taken() == [taken]


def test_a_preview_is_looked_into_before_it_is_taken(inbox, folder):
    (folder / "a.csv").write_bytes(CONTENT)
    (seen,) = inbox.look()
    preview = inbox.preview(seen, inbox.fetch(seen))
    assert (preview.name, preview.path.name) == ("a.csv", "a.csv")
    assert preview.path.read_bytes() == CONTENT


def test_a_refused_file_lies_beside_the_reason(inbox, folder):
    for reason in ("it is empty", "it is still empty"):
        (folder / "a.csv").write_bytes(b"")
        (seen,) = inbox.look()
        inbox.refuse(seen, inbox.fetch(seen), reason)
        assert names(inbox) == []
        assert (folder / "refused" / "a.csv").exists()
        assert (folder / "refused" / "a.csv.reason.txt").read_text() == f"{reason}\n"
    assert inbox.taken() == []


@pytest.mark.parametrize("name", ["landed.json", "a b.csv", "Tägliche Daten.csv", "20240101.json"])
def test_a_file_may_have_any_name(inbox, folder, name):
    (folder / name).write_bytes(CONTENT)
    (taken,) = take_all(inbox)
    assert taken.name == name
    assert taken.path.read_bytes() == CONTENT
    assert inbox.taken() == [taken]


def test_an_inbox_can_be_a_prefix_in_a_bucket(
    free_port: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "dummy")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running_buckets(free_port()) as buckets:
        host = buckets.address.removeprefix("http://")
        where = f"s3://lake/in?region=us-east-1&scheme=http&endpoint_override={host}"
        inbox = Inbox(Settings(home=tmp_path, inbox=where), "drives")
        assert inbox.look() == []
        store, _ = pyarrow.fs.FileSystem.from_uri(where)
        for name in ("a.csv", "b.csv", "c.csv.part"):
            with store.open_output_stream(f"lake/in/drives/{name}") as stream:
                stream.write(CONTENT)
        first, second = inbox.look()
        taken = inbox.take(first, inbox.fetch(first), ["2018-02"])
        inbox.refuse(second, inbox.fetch(second), "no")
        assert taken.path.read_bytes() == CONTENT
        assert inbox.taken() == [taken]
        assert names(inbox) == []
        with store.open_input_stream("lake/in/drives/refused/b.csv.reason.txt") as stream:
            assert stream.read() == b"no\n"
