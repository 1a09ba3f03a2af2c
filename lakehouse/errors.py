"""The errors that reach a person: one sentence that says what happened and what to do."""

import errno
import unicodedata

_COMMANDS = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of what is not shown but obeyed."""


DISK_FULL = "The disk is full: free some space and run again; what was there before is untouched."


class LakehouseError(Exception):
    """Something that will fail again until somebody acts; never retried. Exit code 1."""

    def __str__(self) -> str:
        """The sentence, in which what a file would tell a terminal to do is written out."""
        return written_out(super().__str__())


class UsageError(LakehouseError):
    """A call that cannot be carried out as it was made. Exit code 2."""


class NotPublishedError(LakehouseError):
    """The publisher does not have the file (yet)."""


class SourceRefusedError(LakehouseError):
    """A file that is not what its name says, or that is not safe to open."""


class UnavailableError(LakehouseError):
    """A service or network that may be back in a moment; worth trying again."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a full disk; each library says it in its own way."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(seen) or "database or disk is full" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def written_out(text: str) -> str:
    """Text in which what a terminal would take for a command is written out, such as `\\x1b`."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _COMMANDS
        else character
        for character in text
    )
