"""What a sensor of alerts remembers from tick to tick.

It lies in the key-value table of Dagster's storage, since Dagster copies a cursor into the record
of every tick. It is written before messages are sent and after each of them, so that a daemon that
is killed loses none and repeats at most the one that it was sending.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import dagster as dg
from pydantic import BaseModel, ValidationError

from lakehouse.automation.alerts.findings import Failure, Finding, Well
from lakehouse.automation.alerts.messages import Message
from lakehouse.resources.notifier import Kind

_DAY = 24 * 60 * 60
_TOLD = 4000
"""Open failures that are remembered; of older ones nobody is told that they are mended."""
_HELD = 1000
"""Findings that may wait for more of their kind."""
_LETTERS = 50
"""Messages that may wait for their addresses."""


class Told(NamedTuple):
    """What was last told of a failure: a digest of it, when, and since when it fails."""

    digest: str
    at: float
    since: float


class HeldFailure(BaseModel):
    """A failure that waits for more of its kind; it may be told before the list of all of them."""

    finding: Failure
    seen: float
    told: bool = False


class HeldRecovery(BaseModel):
    """A recovery that waits for more of its kind."""

    finding: Well
    seen: float
    since: float


class Letter(BaseModel):
    """A message that some addresses have yet to get; all where `targets` is None."""

    title: str
    body: str
    kind: Kind
    written: float
    targets: tuple[int, ...] | None = None
    stands_for: int = 1


class Memory(BaseModel):
    """How far the event log was read, what was told, and what is still to be told."""

    position: int = 0
    told: dict[str, dict[str, Told]] = {}
    """By what failed and by the scope that it failed on."""
    failures: list[HeldFailure] = []
    recoveries: list[HeldRecovery] = []
    letters: list[Letter] = []

    @classmethod
    def load(cls, instance: dg.DagsterInstance, name: str) -> "Memory":
        """What a sensor remembers; nothing where there is nothing, or of another version."""
        found = instance.daemon_cursor_storage.get_cursor_values({_key(name)})
        try:
            return cls.model_validate_json(found.get(_key(name), "{}"))
        except ValidationError:
            return cls()

    def save(self, instance: dg.DagsterInstance, name: str) -> None:
        """Remember it."""
        pairs = {_key(name): self.model_dump_json(exclude_defaults=True)}
        instance.daemon_cursor_storage.set_cursor_values(pairs)

    def note_failure(self, failure: Failure, now: float) -> None:
        """Hold a failure, unless the same was told within a day."""
        self.recoveries = [h for h in self.recoveries if not _same(h.finding, failure)]
        told = self.told.get(failure.subject, {}).get(failure.scope)
        if told and told.digest == _digest(failure) and now - told.at < _DAY:
            # What was told of a backfill that goes on belongs to its list as well.
            self.failures = [h for h in self.failures if h.told or not _same(h.finding, failure)]
            return
        self.failures = [h for h in self.failures if not _same(h.finding, failure)]
        self.failures.append(HeldFailure(finding=failure, seen=now))

    def note_well(self, well: Well, now: float) -> None:
        """Hold the recovery of what was told; what was not told yet is told no more."""
        self.failures = [h for h in self.failures if not _mends(well, h.finding)]
        for scope, told in self.told.get(well.subject, {}).items():
            mended = well.model_copy(update={"scope": scope})
            known = any(_same(h.finding, mended) for h in self.recoveries)
            if covers(well.scope, scope) and not known:
                self.recoveries.append(HeldRecovery(finding=mended, seen=now, since=told.since))

    def concerns(self, subject: str) -> bool:
        """Whether it matters to anybody that something is well."""
        return subject in self.told or any(h.finding.subject == subject for h in self.failures)

    @property
    def is_full(self) -> bool:
        """Whether nothing more can wait for its kind."""
        return len(self.failures) + len(self.recoveries) >= _HELD

    def first_failures(self, group: str, now: float) -> list[Failure]:
        """The failures of a group that goes on, which are told with this and held all the same."""
        for held in self.failures:
            if held.finding.group == group:
                held.told = True
        return self._told([h.finding for h in self.failures if h.finding.group == group], now)

    def take_failures(self, group: str, now: float) -> list[Failure]:
        """The failures of a group, which are told with this; none where all of them were before."""
        taken = [h for h in self.failures if h.finding.group == group]
        self.failures = [h for h in self.failures if h.finding.group != group]
        if all(h.told for h in taken):
            return []
        return self._told([h.finding for h in taken], now)

    def _told(self, failures: list[Failure], now: float) -> list[Failure]:
        for failure in failures:
            scopes = self.told.setdefault(failure.subject, {})
            before = scopes.get(failure.scope)
            since = before.since if before else now
            scopes[failure.scope] = Told(_digest(failure), now, since)
        self._forget_oldest()
        return failures

    def take_recoveries(self, group: str) -> list[tuple[Well, float]]:
        """The recoveries of a group, which are told with this, and since when each failed."""
        taken = [(h.finding, h.since) for h in self.recoveries if h.finding.group == group]
        self.recoveries = [h for h in self.recoveries if h.finding.group != group]
        for well, _ in taken:
            scopes = self.told.get(well.subject, {})
            scopes.pop(well.scope, None)
            if not scopes:
                self.told.pop(well.subject, None)
        return taken

    def post(self, message: Message, now: float) -> None:
        """Put a message where it waits for its addresses."""
        self.letters.append(Letter(**message._asdict(), written=now))

    def merge_oldest_letters(self) -> None:
        """Let one letter stand for those that are too many."""
        if len(self.letters) > _LETTERS:
            excess = len(self.letters) - _LETTERS + 1
            older = sorted(self.letters, key=lambda letter: letter.written)[:excess]
            newer = [letter for letter in self.letters if letter not in older]
            self.letters = [_stand_in(older), *newer]

    def _forget_oldest(self) -> None:
        known = [
            (told.at, subject, scope)
            for subject, scopes in self.told.items()
            for scope, told in scopes.items()
        ]
        for _, subject, scope in sorted(known)[: max(len(known) - _TOLD, 0)]:
            del self.told[subject][scope]
            if not self.told[subject]:
                del self.told[subject]


def _stand_in(letters: Sequence[Letter]) -> Letter:
    """The letter that says how many there were."""
    count = sum(letter.stands_for for letter in letters)
    places = {place for letter in letters for place in letter.targets or ()}
    return Letter(
        title=f"{count} older messages could not be delivered",
        body="See Dagster for what failed meanwhile.",
        kind="failure",
        written=letters[-1].written,
        targets=None if any(letter.targets is None for letter in letters) else sorted(places),
        stands_for=count,
    )


def covers(well: str, failed: str) -> bool:
    """Whether what is well on one scope, a partition or a range of them, is so on another."""
    if well == failed:
        return True
    if not well or not failed:
        return False
    (first, last), (start, end) = _ends(well), _ends(failed)
    return first <= start and end <= last


def _ends(scope: str) -> tuple[str, str]:
    first, _, last = scope.partition(" to ")
    return first, last or first


def _same(one: Finding, other: Finding) -> bool:
    return (one.subject, one.scope) == (other.subject, other.scope)


def _mends(well: Well, failure: Failure) -> bool:
    return well.subject == failure.subject and covers(well.scope, failure.scope)


def _digest(failure: Failure) -> str:
    text = f"{failure.severity}\n{failure.sentence}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _key(name: str) -> str:
    return f"lakehouse/{name}"
