"""Landlock: how a Linux process gives up files and connections, for good.

What belongs here is how the kernel is asked (`man 7 landlock`), not who must do without what.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from enum import IntFlag
from pathlib import Path
from typing import Any

# The system calls have these numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_CONNECT_TCP = 1 << 1
_WITHOUT_AUDIT = 1 << 0
_SET_NO_NEW_PRIVS = 38

_LEAST_VERSION = 2
"""Version 1 refuses to move a file to another folder, as ClickHouse must."""
_TCP_VERSION = 4
_AUDIT_VERSION = 7


class _Access(IntFlag):
    """What may be done with files: `LANDLOCK_ACCESS_FS_*`."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_VERSIONS = {_Access.REFER: 2, _Access.TRUNCATE: 3, _Access.IOCTL_DEV: 5}
"""The version of Landlock that first knows a right, where it is not 1."""

_CHANGE = (
    _Access.READ_FILE
    | _Access.WRITE_FILE
    | _Access.TRUNCATE
    | _Access.READ_DIR
    | _Access.MAKE_DIR
    | _Access.MAKE_REG
    | _Access.MAKE_SYM
    | _Access.REMOVE_DIR
    | _Access.REMOVE_FILE
    | _Access.REFER
)


def available() -> bool:
    """Whether the kernel can confine a process: Linux 5.19 or newer, with Landlock switched on."""
    return _version() >= _LEAST_VERSION


def confine(folder: Path, readable: Iterable[Path]) -> None:
    """Leaves the calling thread, and all that it starts from now on, no other files than these.

    None can be executed, and from Linux 6.7 on no TCP connection can be made, only accepted. What
    is open already stays so. What is refused is not written into the machine's audit log.

    Args:
        folder: Below it files are read, made, changed and removed.
        readable: Files, and folders with what is below them, that are read; absent ones do not
            matter.

    Raises:
        OSError: The kernel refuses.
    """
    version = _version()
    known = _Access(0)
    for right in _Access:
        if version >= _VERSIONS.get(right, 1):
            known |= right
    connecting = _CONNECT_TCP if version >= _TCP_VERSION else 0
    attributes = struct.pack("=QQ", known, connecting)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        _allow(ruleset, folder, _CHANGE & known)
        for path in readable:
            if path.exists():
                _allow(ruleset, path, _Access.READ_FILE)
        _checked(_libc().prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _call(_RESTRICT_SELF, ruleset, _WITHOUT_AUDIT if version >= _AUDIT_VERSION else 0)
    finally:
        os.close(ruleset)


def _version() -> int:
    if sys.platform != "linux":
        return 0
    try:
        return _call(_CREATE_RULESET, None, 0, _ASK_VERSION)
    except OSError:
        return 0


def _allow(ruleset: int, path: Path, access: _Access) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", access, beneath), 0)
    finally:
        os.close(beneath)


def _call(number: int, *arguments: int | bytes | None) -> int:
    longs = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc().syscall(ctypes.c_long(number), *longs))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
