"""What Landlock leaves a process, by each of its versions that this kernel can stand in for."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.services import landlock

KERNEL = landlock._version()
CHILD = """
import json, os, socket, struct, subprocess, sys
from pathlib import Path
from lakehouse.services import landlock

version, port, root = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
landlock._version = lambda: version
call = landlock._call

def call_as_then(number, *arguments):
    if number == landlock._CREATE_RULESET:
        files, network = struct.unpack("=QQ", arguments[0])
        assert files < 1 << {2: 14, 3: 15, 4: 15}.get(version, 16), "not known yet"
        assert not network or version >= 4, "not known yet"
    if number == landlock._RESTRICT_SELF:
        assert not arguments[1] or version >= 7, "not known yet"
    return call(number, *arguments)

landlock._call = call_as_then
ours, given, secret = root / "ours", root / "given", root / "secret"

def tried(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"

def move():
    (ours / "a").mkdir()
    (ours / "a" / "new").write_text("made")
    (ours / "a" / "new").rename(ours / "moved")
    os.link(ours / "moved", ours / "a" / "linked")
    (ours / "a" / "linked").unlink()
    (ours / "a").rmdir()
    (ours / "link").symlink_to("moved")
    with (ours / "link").open("r+") as file:
        file.truncate(1)
    list(ours.iterdir())

def connect():
    with socket.socket() as caller:
        caller.connect(("127.0.0.1", port))

def listen():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

(ours / "way_out").symlink_to(secret)
opened = secret.open()
landlock.confine(ours, [given, root / "absent"])
print(json.dumps({
    "change what is ours": tried(move),
    "read what is given": tried((given / "file").read_text),
    "read what is open": tried(opened.read),
    "listen": tried(listen),
    "change what is given": tried(lambda: (given / "file").write_text("")),
    "read": tried(secret.read_text),
    "read through a link": tried((ours / "way_out").read_text),
    "read through /proc": tried(Path(f"/proc/self/fd/{opened.fileno()}").read_text),
    "read what /proc tells": tried(Path("/proc/self/environ").read_text),
    "list": tried(lambda: list(root.iterdir())),
    "make": tried(lambda: (root / "new").touch()),
    "execute": tried(lambda: subprocess.run([sys.executable, "-c", ""])),
    "connect": tried(connect),
}))
"""
GRANTED = {"change what is ours", "read what is given", "read what is open", "listen"}


@pytest.mark.skipif(not landlock.available(), reason="this kernel has no Landlock, or an old one")
@pytest.mark.parametrize("version", range(2, 8))
def test_a_confined_process_has_its_files_and_no_others(tmp_path: Path, version: int) -> None:
    if version > KERNEL:
        pytest.skip(f"this kernel has version {KERNEL} of Landlock")
    for folder in ("ours", "given"):
        (tmp_path / folder).mkdir()
    for path in ("given/file", "secret"):
        (tmp_path / path).write_text("content")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        child = [sys.executable, "-c", CHILD, str(version), str(port), str(tmp_path)]
        answer = subprocess.run(child, stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(answer.stdout)

    granted = GRANTED if version >= 4 else GRANTED | {"connect"}
    assert {what for what, how in found.items() if how == "done"} == granted
    assert {found[what] for what in found.keys() - granted} == {"PermissionError"}


@pytest.mark.parametrize("version", [0, 1])
def test_what_would_keep_clickhouse_from_moving_files_is_not_used(
    monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(landlock, "_version", lambda: version)
    assert not landlock.available()


def test_other_systems_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert landlock._version() == 0
