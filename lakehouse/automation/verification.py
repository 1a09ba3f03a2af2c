"""Verification: what lies on disk, in the lake and in the databases, held against the records.

Nothing is changed, not even where something is wrong.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import polars as pl
from deltalake.exceptions import DeltaError

from lakehouse.automation.dataset import Dataset
from lakehouse.checks.factory import Check, Partition
from lakehouse.errors import LakehouseError
from lakehouse.history import (
    Materialization,
    latest_materialization,
    latest_materializations,
)
from lakehouse.partitions import WHOLE
from lakehouse.resources.bigquery import BigQuery
from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.resources.inbox import Inbox
from lakehouse.resources.lake import Lake
from lakehouse.resources.landing import is_intact, read_record, record_of
from lakehouse.resources.maintenance import DataFile, Size, data_files, problem, unnamed_files
from lakehouse.resources.objects import Objects
from lakehouse.resources.postgres import Postgres
from lakehouse.settings import Settings

_CHAIN = ("rows_conserved", "matches_gold", "matches_file")
"""The checks that hold one table against the one before it."""

_ON_THE_WAY = (".part", ".part.json", ".lock")
_FACTS = {"Fact_Sales": "Normal", "Fact_Sale_Returns": "Return"}


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was recorded, and where."""

    place: str
    sentence: str


@dataclass
class Verification:
    """What was looked at of a data set, and what differs.

    Attributes:
        dataset: Its name.
        examined: By what it is, such as `landed files`, how many files were read to their end, and
            their bytes; of `comparisons`, how many numbers were held against each other.
        differences: What is not as it should be.
        notes: What is worth knowing and harms nobody.
    """

    dataset: str
    examined: dict[str, Size] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all is as it was recorded."""
        return not self.differences


Telling = Callable[[str], None]
"""Called with what is looked at now."""


def verify(
    settings: Settings,
    instance: dg.DagsterInstance,
    dataset: Dataset,
    telling: Telling = lambda _: None,
) -> Verification:
    """Read again all that a data set has on disk and in the lake, and count along its chain.

    Landed files are held against their hashes; files of Delta tables against the log and their
    hashes; objects against what was recorded when they were put; and, of every partition that was
    materialized, the rows of each table against those of the one before it, of ClickHouse,
    BigQuery and PostgreSQL too. Files are read a piece at a time, partitions one by one.

    Args:
        settings: Where everything is.
        instance: What Dagster remembers.
        dataset: The data set.
        telling: Told what is looked at.
    """
    return _Verifier(settings, instance, dataset, telling).run()


class _Verifier:
    def __init__(
        self,
        settings: Settings,
        instance: dg.DagsterInstance,
        dataset: Dataset,
        telling: Telling,
    ) -> None:
        self._settings, self._instance, self._dataset = settings, instance, dataset
        self._telling = telling
        self._found = Verification(dataset.name)
        self._lake = Lake(settings)
        self._objects = Objects(settings)
        self._clickhouse = ClickHouse(settings)
        self._bigquery = BigQuery(settings)
        self._postgres = Postgres(settings)

    def run(self) -> Verification:
        made = {spec.key: _made(self._instance, spec) for spec in self._dataset.specs}
        self._landed_files()
        for name in lake_tables(self._dataset):
            self._lake_table(name, made.get(dg.AssetKey(name.split("/")), {}))
        # By partition, since an object is fetched once for all that is compared with it.
        for partition in sorted({partition for each in made.values() for partition in each}):
            for key, each in made.items():
                if partition in each:
                    self._telling(f"{key.to_user_string()} {partition}")
                    self._stored_object(key, partition, each[partition])
                    self._chain(key, partition)
        self._facts(made)
        return self._found

    def _differs(self, place: str, sentence: str) -> None:
        self._found.differences.append(Difference(place, sentence))

    def _saw(self, what: str, size: int = 0) -> None:
        self._found.examined.setdefault(what, Size()).add(size)

    def _landed_files(self) -> None:
        """The files of the publisher, and those that people dropped."""
        self._telling("landed files")
        folder = self._settings.state / "landing" / self._dataset.name
        for path in sorted(folder.glob("*")):
            if not path.is_file() or path.name.endswith(_ON_THE_WAY):
                continue
            if path.name.endswith(".landed.json"):
                self._landed_file(path)
            elif not record_of(path).exists():
                self._found.notes.append(
                    f"{path} has no record of its landing: it will be landed anew."
                )
        for manifest in sorted(folder.glob("staged/*/*/manifest.json")):
            self._staged_files(manifest)
        for taken in Inbox(self._settings, self._dataset.name).taken():
            self._saw("landed files", taken.size)
            if _sha256(taken.path) != taken.sha256:
                self._differs(
                    str(taken.path), "has other bytes than were taken from the inbox: drop it again"
                )

    def _landed_file(self, record: Path) -> None:
        path = record.with_name(record.name.removesuffix(".landed.json"))
        try:
            landed = read_record(path, json.loads(record.read_text())["url"])
        except (OSError, ValueError, KeyError):
            landed = None
        if landed is None:
            self._differs(str(path), "is gone or cut short since it landed: materialize it again")
            return
        self._saw("landed files", landed.size)
        if not is_intact(landed):
            self._differs(
                str(path), "has other bytes than landed: delete it and materialize it again"
            )

    def _staged_files(self, manifest: Path) -> None:
        """What a landed workbook was taken apart into."""
        for name, sha256 in json.loads(manifest.read_text()).items():
            path = manifest.with_name(name)
            if path.exists():
                self._saw("landed files", path.stat().st_size)
            if not path.exists() or _sha256(path) != sha256:
                self._differs(
                    str(path),
                    f"is not what was staged: delete {manifest.parent} and materialize it again",
                )

    def _lake_table(self, name: str, made: Mapping[str, Materialization]) -> None:
        """The files of a table of the lake, and its rows by its log."""
        self._telling(f"files of {name}")
        try:
            table = self._lake.find(name)
            if table is None:
                if any("delta_version" in each.metadata for each in made.values()):
                    self._differs(name, "the table is gone: backfill it again with --force")
                return
            files = data_files(self._lake.snapshot(table), table)
            forgotten = unnamed_files(self._lake, table)
        except (DeltaError, OSError, ValueError) as error:
            self._differs(name, f"its log cannot be read ({str(error).splitlines()[0]})")
            return
        for file in files:
            self._saw("files of Delta tables", file.bytes)
            if wrong := problem(self._lake, table, file):
                self._differs(
                    f"{name} {file.partition}",
                    f"{self._lake.uri(table)}/{file.path} {wrong}: backfill it again with --force",
                )
        if forgotten:
            self._found.notes.append(
                f"{name}: no version names {len(forgotten):,} files, of killed runs or of one that"
                " is writing; maintenance removes them."
            )
        self._recorded_rows(name, files, made)

    def _recorded_rows(
        self, name: str, files: Sequence[DataFile], made: Mapping[str, Materialization]
    ) -> None:
        """That a table has the rows that its materializations wrote."""
        counts: Counter[str] = Counter()
        for file in files:
            counts[file.partition] += file.rows
        for partition, materialization in sorted(made.items()):
            recorded = materialization.metadata.get("rows_written", counts[partition])
            self._saw("comparisons")
            if counts[partition] != recorded:
                self._differs(
                    f"{name} {partition}",
                    f"{counts[partition]:,} rows in the table, and {recorded:,} were written when"
                    " it was materialized",
                )
        unknown = sorted(counts.keys() - made.keys()) if made else []
        if unknown:
            self._found.notes.append(
                f"{name} has rows of {', '.join(unknown)} that no run wrote which Dagster"
                " remembers."
            )

    def _stored_object(self, key: dg.AssetKey, partition: str, made: Materialization) -> None:
        """That an object has the bytes that were put there."""
        if key.path[1] != "objects":
            return
        place = f"{key.to_user_string()} {partition}"
        try:
            uri = str(made.metadata["dagster/uri"])
            with self._objects.local(uri.removeprefix(f"{self._objects.targets[0]}/")) as local:
                self._saw("objects", local.stored.size)
                if local.stored.sha256 != made.metadata.get("sha256"):
                    self._differs(place, f"{uri} is another object than was put there")
        except _broken() as error:
            self._differs(place, str(error))

    def _chain(self, key: dg.AssetKey, partition: str) -> None:
        for check in self._dataset.checks.get(key.to_user_string(), ()):
            if check.name in _CHAIN:
                self._compared(key, check, partition)

    def _compared(self, key: dg.AssetKey, check: Check, partition: str) -> None:
        self._saw("comparisons")
        place = f"{key.to_user_string()} {partition}".strip()
        try:
            outcome = check.run(self._partition(key, partition))
        except _broken() as error:
            self._differs(place, f"cannot be compared: {str(error).splitlines()[0]}")
        else:
            if not outcome.passed:
                self._differs(place, outcome.sentence)

    def _partition(self, key: dg.AssetKey, partition: str) -> Partition:
        return Partition(
            *(partition, key, self._instance),
            lake=self._lake,
            clickhouse=self._clickhouse,
            objects=self._objects,
            bigquery=self._bigquery,
            postgres=self._postgres,
        )

    def _facts(self, made: Mapping[dg.AssetKey, Mapping[str, Materialization]]) -> None:
        """That the facts of Online Retail have the lines of its staging table, to the cent."""
        for fact, status in _FACTS.items():
            months = made.get(dg.AssetKey(["retail", "marts", fact]), {})
            if not months:
                continue
            self._telling(f"retail/marts/{fact}")
            try:
                staged = self._sums(
                    "raw.psa_online_retails",
                    *("InvoiceDate", "TotalAmount"),
                    f"CustomerID != 0 AND ReturnStatus = '{status}'",
                )
                facts = self._sums(f"marts.{fact}", "invoice_date", "total_amount")
            except _broken() as error:
                self._differs(f"retail/marts/{fact}", f"cannot be compared: {error}")
                continue
            for month in sorted(months):
                self._saw("comparisons")
                if facts.get(month) != staged.get(month):
                    self._differs(
                        f"retail/marts/{fact} {month}",
                        f"{_said(facts.get(month))} here, {_said(staged.get(month))} in staging",
                    )

    def _sums(
        self, table: str, time: str, amount: str, condition: str = "true"
    ) -> dict[str, tuple[int, str]]:
        """By month, the rows of a table and what they add up to."""
        with self._clickhouse.client() as client:
            rows = client.query(
                f"SELECT formatDateTime({time}, '%Y-%m') AS month, count(),"  # noqa: S608
                f" toString(sum({amount})) FROM {table} WHERE {condition} GROUP BY month"
            ).result_rows
        return {month: (count, total) for month, count, total in rows}


def lake_tables(dataset: Dataset) -> list[str]:
    """The names that tables of a data set have in the lake, if they are there."""
    names = [spec.key.to_user_string() for spec in dataset.specs]
    return names + [stage.rejects.name for stage in dataset.stages if stage.rejects]


def _made(instance: dg.DagsterInstance, spec: dg.AssetSpec) -> Mapping[str, Materialization]:
    if spec.partitions_def is not None:
        return latest_materializations(instance, spec.key)
    made = latest_materialization(instance, spec.key)
    return {WHOLE: made} if made else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _said(sums: tuple[int, str] | None) -> str:
    return f"{sums[0]:,} rows that add up to {sums[1]}" if sums else "no row"


def _broken() -> tuple[type[Exception], ...]:
    """What reading something that is not as it should be raises."""
    from clickhouse_connect.driver.exceptions import DatabaseError

    return (LakehouseError, pl.exceptions.PolarsError, DatabaseError, DeltaError, OSError)
