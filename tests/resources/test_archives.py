"""Daily files come out of an archive as they went in; an archive that plays tricks is refused."""

import io
import random
import shutil
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import SourceRefusedError
from lakehouse.resources.archives import Archive, Limits, Member

DAY = b"date,serial_number,model,capacity_bytes,failure\n2018-01-01,Z1,ST4000DM000,4000,0\n"
LOCAL_SIGNATURE, CENTRAL_SIGNATURE = b"PK\x03\x04", b"PK\x01\x02"
CENTRAL_VERSION, CENTRAL_FLAGS, CENTRAL_METHOD, CENTRAL_CRC = 6, 8, 10, 16
CENTRAL_SIZE, CENTRAL_OFFSET = 24, 42


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def patched(content: bytes, field: int, form: str, value: int) -> bytes:
    """Change a field of the first member's entry in the archive's directory."""
    changed = bytearray(content)
    struct.pack_into(form, changed, content.index(CENTRAL_SIGNATURE) + field, value)
    return bytes(changed)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[bytes], Path]:
    def save(content: bytes) -> Path:
        path = tmp_path / "data.zip"
        path.write_bytes(content)
        return path

    return save


def contents(path: Path) -> dict[str, bytes]:
    with Archive(path) as archive:
        return {member.name: archive.read(member) for member in archive.members()}


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_daily_files_come_out_as_they_went_in(saved, compression):
    days = {
        "data_Q1_2018/2018-01-01.csv": random.Random(1).randbytes(600_000),
        "data_Q1_2018/2018-01-02.csv": DAY * 20_000 + random.Random(2).randbytes(400_000),
        "data_Q1_2018/2018-01-03.csv": b"",
    }
    path = saved(zipped(days, compression))
    with Archive(path) as archive:
        assert archive.members()[0] == Member(
            "data_Q1_2018/2018-01-01.csv", "2018-01-01.csv", 600_000
        )
    assert contents(path) == days


def test_folders_and_what_macos_adds_are_no_members(saved):
    path = saved(
        zipped(
            {
                "data/": b"",
                "data/2018-01-01.csv": DAY,
                "data/.DS_Store": b"x",
                "data/._2018-01-01.csv": b"x",
                "__MACOSX/data/2018-01-01.csv": b"x",
                "__MACOSX/._data": b"x",
                ".DS_Store": b"x",
            }
        )
    )
    assert contents(path) == {"data/2018-01-01.csv": DAY}


def test_several_threads_read_one_archive(saved):
    source = random.Random(3)
    days = {f"{day:02}.csv": DAY * 3_000 + source.randbytes(9_000) for day in range(1, 32)}
    with Archive(saved(zipped(days))) as archive, ThreadPoolExecutor(8) as pool:
        members = archive.members() * 4
        assert list(pool.map(archive.read, members)) == list(days.values()) * 4


def test_nothing_is_written_beside_the_archive(saved, tmp_path):
    contents(saved(zipped({"data/2018-01-01.csv": DAY})))
    assert [path.name for path in tmp_path.iterdir()] == ["data.zip"]


@pytest.mark.parametrize(
    "name",
    [
        "../2018-01-01.csv",
        "data/../../2018-01-01.csv",
        "__MACOSX/../../2018-01-01.csv",
        "/etc/2018-01-01.csv",
        "C:\\2018-01-01.csv",
        "C:2018-01-01.csv",
        "..\\2018-01-01.csv",
        "data\\2018-01-01.csv",
        "\\\\server\\2018-01-01.csv",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused_by_name(saved, name):
    path = saved(zipped({"2018-01-01.csv": DAY, name: DAY}))
    with pytest.raises(SourceRefusedError) as caught:
        Archive(path)
    assert f"holds the unsafe path {name!r}" in str(caught.value)


def test_a_name_with_a_hidden_end_is_refused(saved):
    content = zipped({"2018-01-01.csv_..": DAY}).replace(b".csv_..", b".csv\0..")
    with pytest.raises(SourceRefusedError, match="unsafe path"):
        Archive(saved(content))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(saved, kind):
    info = zipfile.ZipInfo("2018-01-01.csv")
    info.external_attr = (kind | 0o644) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(SourceRefusedError, match=r"'2018-01-01\.csv', which is a link or a device"):
        Archive(saved(buffer.getvalue()))


def test_encrypted_members_are_refused(saved):
    path = saved(patched(zipped({"2018-01-01.csv": DAY}), CENTRAL_FLAGS, "<H", 1))
    with pytest.raises(SourceRefusedError, match=r"'2018-01-01\.csv', which is encrypted"):
        Archive(path)


def test_unsupported_compression_is_refused(saved):
    path = saved(patched(zipped({"2018-01-01.csv": DAY}), CENTRAL_METHOD, "<H", 9))
    with pytest.raises(SourceRefusedError, match="compressed in an unsupported way"):
        Archive(path)


def test_a_newer_version_of_the_format_is_refused(saved):
    path = saved(patched(zipped({"01.csv": DAY}), CENTRAL_VERSION, "<H", 99))
    with pytest.raises(SourceRefusedError, match=r"data\.zip is not a whole zip archive"):
        Archive(path)


def test_one_basename_in_two_folders_is_refused(saved):
    path = saved(zipped({"a/2018-01-05.csv": DAY, "b/2018-01-05.csv": DAY * 2}))
    with pytest.raises(SourceRefusedError, match=r"holds '2018-01-05\.csv' more than once"):
        Archive(path)


# Bombs and lies


def test_a_bomb_is_refused_before_it_is_inflated(saved):
    path = saved(zipped({"2018-01-01.csv": bytes(10_000_000)}))
    with pytest.raises(SourceRefusedError, match="inflates like a zip bomb"):
        Archive(path)


def test_members_that_share_their_bytes_are_refused(saved):
    """Fifty entries of the directory that all point at the same data."""
    content = zipped({"01.csv": bytes(5_000) + random.Random(4).randbytes(30)})
    start, end = content.index(CENTRAL_SIGNATURE), content.index(b"PK\x05\x06")
    entries = [content[start:end].replace(b"01.csv", b"%02d.csv" % n) for n in range(50)]
    directory = b"".join(entries)
    record = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 50, 50, len(directory), start, 0)
    with pytest.raises(SourceRefusedError, match="like a zip bomb"):
        Archive(saved(content[:start] + directory + record), Limits(ratio=60))


def test_an_archive_over_the_total_is_refused(saved):
    path = saved(zipped({"01.csv": DAY, "02.csv": DAY}))
    Archive(path, Limits(total_bytes=2 * len(DAY))).close()
    with pytest.raises(SourceRefusedError, match=f"declares {2 * len(DAY)} bytes"):
        Archive(path, Limits(total_bytes=2 * len(DAY) - 1))


def test_a_member_larger_than_it_declares_is_stopped_early(saved):
    path = saved(patched(zipped({"01.csv": bytes(50_000_000)}), CENTRAL_SIZE, "<I", 1_000))
    with Archive(path) as archive:
        (member,) = archive.members()
        tracemalloc.start()
        with pytest.raises(SourceRefusedError, match=r"fewer bytes than it holds in '01\.csv'"):
            archive.read(member)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_member_smaller_than_it_declares_is_damaged(saved, compression):
    content = zipped({"01.csv": DAY}, compression)
    path = saved(patched(content, CENTRAL_SIZE, "<I", len(DAY) + 1))
    with Archive(path) as archive, pytest.raises(SourceRefusedError, match="damaged at member"):
        archive.read(archive.members()[0])


def test_an_empty_stored_member_that_declares_more_is_refused(saved):
    path = saved(patched(zipped({"01.csv": b""}, zipfile.ZIP_STORED), CENTRAL_SIZE, "<I", 10))
    with pytest.raises(SourceRefusedError):
        Archive(path)


# Damage


def test_a_truncated_archive_is_refused(saved):
    path = saved(zipped({"01.csv": DAY})[:-30])
    with pytest.raises(SourceRefusedError, match=r"data\.zip is not a whole zip archive"):
        Archive(path)


def test_an_archive_that_lost_its_beginning_is_refused(saved):
    content = zipped({"01.csv": random.Random(5).randbytes(1_000), "02.csv": DAY})
    with pytest.raises(SourceRefusedError):
        contents(saved(content[500:]))


@pytest.mark.parametrize(
    ("field", "value"), [(CENTRAL_CRC, 1), (CENTRAL_OFFSET, 5), (CENTRAL_OFFSET, 1 << 31)]
)
def test_a_directory_that_is_wrong_about_a_member_is_damage(saved, field, value):
    path = saved(patched(zipped({"01.csv": DAY}), field, "<I", value))
    with pytest.raises(SourceRefusedError, match=r"damaged at member '01\.csv'"):
        contents(path)


def test_damage_is_named_with_the_remedy(saved):
    noise = random.Random(6).randbytes(5_000)
    content = zipped({"01.csv": DAY, "02.csv": noise})
    middle = content.index(noise[100:200])
    path = saved(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with Archive(path) as archive:
        good, bad = archive.members()
        assert archive.read(good) == DAY
        with pytest.raises(SourceRefusedError) as caught:
            archive.read(bad)
    assert str(caught.value) == (
        f"{path} is damaged at member '02.csv'; delete the landed file and run again."
    )


SOUND = {"01.csv": DAY * 3, "02.csv": DAY[::-1]}


@settings(max_examples=400, deadline=None)
@given(
    changes=st.dictionaries(
        st.integers(0, len(zipped(SOUND)) - 1), st.binary(min_size=1, max_size=4)
    )
)
def test_whatever_is_overwritten_the_content_is_right_or_refused(tmp_path_factory, changes):
    content = bytearray(zipped(SOUND))
    for position, value in changes.items():
        content[position : position + len(value)] = value
    path = tmp_path_factory.mktemp("fuzz") / "data.zip"
    path.write_bytes(content)
    try:
        read = contents(path)
    except SourceRefusedError:
        return
    finally:
        shutil.rmtree(path.parent)
    assert set(read.values()) <= set(SOUND.values()) | {b""}
