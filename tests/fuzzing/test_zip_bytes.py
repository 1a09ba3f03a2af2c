"""Whatever an archive holds, it is read right or refused with one sentence."""

import gzip
import io
import stat
import struct
import zipfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from mutations import dropped, fuzzed, mutated, unless_refused

from lakehouse.resources.archives import Archive, Limits, gunzipped
from lakehouse.resources.drive_files import DriveFiles, days_of
from lakehouse.settings import Settings

DAY = b"date,serial_number,model,capacity_bytes,failure\n2018-01-01,Z1,ST4000DM000,4000,0\n"
SOUND = {"data/2018-01-01.csv": DAY * 3, "data/2018-01-02.csv": DAY[::-1]}


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def contents(path: Path) -> dict[str, bytes]:
    with Archive(path, Limits(total_bytes=1 << 20)) as archive:
        return {member.name: archive.read(member) for member in archive.members()}


@fuzzed
@given(content=mutated(zipped(SOUND)) | mutated(zipped(SOUND, zipfile.ZIP_STORED)))
def test_bytes_that_changed_give_what_was_packed_or_are_refused(folder: Path, content):
    path = folder / "data.zip"
    path.write_bytes(content)
    read = unless_refused(lambda: contents(path))
    assert set((read or {}).values()) <= {*SOUND.values(), b""}


parts = st.sampled_from(
    ["..", ".", "", "data", "2018-01-01.csv", "C:", "\\", "\0", "~", "__MACOSX", "._x", "é", "\n"]
)
names = st.lists(parts, min_size=1, max_size=5).map("/".join) | st.text(max_size=12)


@fuzzed
@given(members=st.dictionaries(names, st.binary(max_size=64), max_size=4))
@example(members={"../../evil/2018-01-01.csv": DAY})
@example(members={"/tmp/2018-01-01.csv": DAY})
@example(members={"..\\2018-01-01.csv": DAY})
def test_members_of_any_name_stay_in_memory(folder: Path, members):
    taken = dropped(folder, "data.zip", zipped(members))
    read = unless_refused(lambda: contents(taken.path))
    if read is None:
        return
    assert set(read.values()) <= set(members.values())
    assert not any(name.startswith("/") or ".." in name.split("/") for name in read)
    if days := unless_refused(lambda: days_of(taken)):
        files = DriveFiles(Settings(home=folder / "home"))
        assert dict(files.read(list(days.values()))).keys() == set(days.values())


FIELDS = {"flags": 8, "method": 10, "crc": 16, "packed": 20, "size": 24, "offset": 42}
numbers = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**32 - 2])


@fuzzed
@given(
    lies=st.dictionaries(st.sampled_from(sorted(FIELDS)), numbers, min_size=1),
    mode=st.sampled_from([0, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFREG]),
)
@example(lies={"size": 10}, mode=0)
@example(lies={"size": 2**32 - 2, "packed": 2**32 - 2}, mode=0)
def test_a_directory_that_lies_is_refused(folder: Path, lies, mode):
    """Sizes, places, methods and modes that are not those of the member."""
    content = bytearray(zipped(SOUND))
    entry = content.index(b"PK\x01\x02")
    for field, value in lies.items():
        form = "<H" if field in ("flags", "method") else "<I"
        struct.pack_into(
            form, content, entry + FIELDS[field], value % 2 ** (8 * struct.calcsize(form))
        )
    struct.pack_into("<I", content, entry + 38, mode << 16)
    path = folder / "data.zip"
    path.write_bytes(content)
    read = unless_refused(lambda: contents(path))
    assert set((read or {}).values()) <= {*SOUND.values(), b""}


@fuzzed
@given(content=mutated(gzip.compress(DAY * 3, mtime=0)))
def test_a_gzip_file_gives_its_content_or_is_refused(folder: Path, content):
    taken = dropped(folder, "2018-01-01.csv.gz", content)
    read = unless_refused(lambda: gunzipped(taken.path, largest=1000))
    assert read in (DAY * 3, DAY * 6, b"", None)
