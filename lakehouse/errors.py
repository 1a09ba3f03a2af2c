"""The errors that reach a person: one sentence that says what happened and what to do."""


class LakehouseError(Exception):
    """Something that will fail again until somebody acts; never retried. Exit code 1."""


class UsageError(LakehouseError):
    """A call that cannot be carried out as it was made. Exit code 2."""


class NotPublishedError(LakehouseError):
    """The publisher does not have the file (yet)."""


class SourceRefusedError(LakehouseError):
    """A file that is not what its name says, or that is not safe to open."""


class UnavailableError(LakehouseError):
    """A service or network that may be back in a moment; worth trying again."""
