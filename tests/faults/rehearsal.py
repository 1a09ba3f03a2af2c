"""A data set in a lakehouse of its own, disturbed, and the one oracle for every disturbance."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from faults.subjects import Subject
from homes import WITHOUT, Answer, Home, Tables
from retail_homes import history

from lakehouse.automation.dataset import Dataset
from lakehouse.automation.datasets import dataset
from lakehouse.history import latest_materializations

EDITIONS = (1, 2)


class Rehearsal:
    """A data set in a home on a disk of its own where that can be had, as `has_own_disk` tells.

    Attributes:
        edition: Which of the two editions the publisher has.
        properties: Where the report of the running test takes its counts from.
    """

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject = subject
        variables = {"LAKEHOUSE_WITHOUT": WITHOUT, "LAKEHOUSE_INBOX_SETTLE_SECONDS": "0"}
        self.home = Home(folder / "home", folder / "mirror", variables)
        self.properties: list[tuple[str, object]] = []
        self.home.folder.mkdir(parents=True)
        self.has_own_disk = _mounted(self.home.folder)
        self._in_peace: dict[int, Tables] = {}

    def prepare(self) -> None:
        """Find out what an undisturbed run makes of each edition."""
        for edition in EDITIONS:
            self.publish(edition)
            self.run()
            self._in_peace[edition] = self.subject.tables(self.home)

    def end(self) -> None:
        """Stop the services and give the disk back."""
        self.home.down()
        if self.has_own_disk:
            subprocess.run(["umount", "--lazy", self.home.folder], check=True)

    def publish(self, edition: int) -> None:
        """Have the publisher put up an edition, in the place of what is there."""
        self.edition = edition
        self._published = self.subject.publish(self.home.mirror, edition, self.subject.months)

    def publish_another(self) -> None:
        """Have the publisher put up the edition that it does not have."""
        self.publish(self.other_edition)

    @property
    def other_edition(self) -> int:
        """The edition that the publisher does not have."""
        return next(edition for edition in EDITIONS if edition != self.edition)

    def run(self, *options: str) -> Answer:
        """An ordinary backfill, which must succeed."""
        answer = self.home.call(*self.subject.backfill(), *options)
        assert answer.code == 0, answer.out + answer.err
        return answer

    def in_peace(self, edition: int | None = None) -> Tables:
        """What an undisturbed run makes of an edition; of the published one where none is named."""
        return self._in_peace[edition or self.edition]

    @contextmanager
    def disturbed(self, *faults: str) -> Iterator[None]:
        """What is done within is survived, or the test fails; each fault is counted as a try.

        After it and one more ordinary run, all tables are those of an undisturbed run, one more run
        does nothing, and all rows are accounted for.
        """
        tries: list[dict[str, Any]] = [
            {"dataset": self.subject.name, "fault": fault, "survived": 0, "lost": 0, "doubled": 0}
            for fault in faults
        ]
        self.properties += [("fault", each) for each in tries]
        yield
        self.run()
        found = self.subject.tables(self.home)
        lost, doubled = difference(self.in_peace(), found), difference(found, self.in_peace())
        tries[0] |= {"lost": _rows(lost), "doubled": _rows(doubled)}
        assert not lost, f"lost: {_shown(lost)}"
        assert not doubled, f"doubled: {_shown(doubled)}"
        self.is_at_rest()
        for each in tries:
            each["survived"] = 1

    def is_at_rest(self) -> None:
        """Fails where one more run would do something, or a row is not accounted for."""
        (status,) = self.home.call("status", self.subject.name, "--json").json
        assert status["failed_partitions"] == {}
        assert not [asset for asset in status["assets"] if asset["stale"] or asset["failed"]]
        assert [check for check in status["failing_checks"] if check["stops"]] == []
        for report in self.run("--json").json:
            assert (report["ok"], report["ran"]) == (True, False), report
        rejected = Counter(
            reject["month"]
            for reject in self.home.call("rejects", self.subject.name, "--json").json
            if reject["reason"]
        )
        with history(self.home) as instance:
            for spec in self.dataset.specs:
                for partition, made in latest_materializations(instance, spec.key).items():
                    _is_accounted_for(f"{spec.key.to_user_string()} {partition}", made.metadata)
            counts = dg.AssetKey.from_user_string(self.subject.counts)
            made = latest_materializations(instance, counts)
        for month, rows in self._published.items():
            assert made[month].metadata["rows_in"] == rows
            assert made[month].metadata.get("rows_rejected", 0) == rejected[month]

    @cached_property
    def dataset(self) -> Dataset:
        """The data set itself."""
        return dataset(self.home.settings, self.subject.name)


def _is_accounted_for(what: str, metadata: Any) -> None:
    """Every row that came in was written, rejected, or counted as dropped."""
    if "rows_in" in metadata:
        names = ("rows_written", "rows_rejected", "rows_dropped_as_duplicates")
        became = [metadata.get(name, 0) for name in names]
        assert metadata["rows_in"] == sum(became), f"{what}: {metadata['rows_in']} became {became}"


def difference(these: Tables, others: Tables) -> Tables:
    """The rows that some tables have and others lack, or have less often."""
    lacking = {name: rows - others.get(name, Counter()) for name, rows in these.items()}
    return {name: rows for name, rows in lacking.items() if rows}


def _rows(tables: Tables) -> int:
    return sum(rows.total() for rows in tables.values())


def _shown(tables: Tables) -> str:
    return "; ".join(
        f"{rows.total()} rows of {name}, such as {next(iter(rows))[:300]}"
        for name, rows in tables.items()
    )


def _mounted(folder: Path) -> bool:
    """Have a disk of its own in a folder, which can be made as small as what lies on it."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", str(folder)]
    with suppress(OSError):
        return subprocess.run(mount, check=False, capture_output=True).returncode == 0
    return False
