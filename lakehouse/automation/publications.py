"""The sensor for publications: files that are new or were published again make their months."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from lakehouse.automation.dataset import Job
from lakehouse.errors import LakehouseError, NotPublishedError
from lakehouse.history import Materialization, latest_materializations
from lakehouse.resources.landing import Fingerprint, Patience
from lakehouse.resources.source import Source
from lakehouse.settings import Settings

FILES_A_TICK = 8
"""Files asked after at a time; the whole history takes a few ticks."""

ASK_ONCE = Patience(attempts=1, connect=5.0, silence=5.0)
"""Dagster ends a tick after 60 s, and the next one is due anyway."""

_SECONDS_A_TICK = 30


@dataclass(frozen=True)
class PublishedFile:
    """A publisher's file, and the partitions that its publication would materialize."""

    url: str
    partitions: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[-1]


@dataclass(frozen=True)
class Watch:
    """What is watched for an asset that lands files.

    Attributes:
        raw: The asset; its materializations say which version of a file they were made from.
        job: The job that materializes a partition with all that follows.
        partitions: The asset's partitions.
        url_of: Where the publisher has the file that a partition is in.
    """

    raw: dg.AssetsDefinition
    job: Job
    partitions: dg.PartitionsDefinition
    url_of: Callable[[str], str]


def build_publications_sensor(
    name: str, watches: Sequence[Watch], settings: Settings
) -> dg.SensorDefinition:
    """The sensor of a data set's publisher; off at first, since it downloads.

    Asks after the files of the partitions that are there, a few at a time, and after the one that
    would come next.
    """
    publisher = Source(settings.state / "landing", settings.source_mirror, patience=ASK_ONCE)

    @dg.sensor(
        name=name,
        jobs=[watch.job for watch in watches],
        minimum_interval_seconds=3600,
        description="Materializes the months of files that are new or were published again. Off at"
        " first: it downloads from the publisher.",
    )
    def publications(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        files = [
            (watch, made, file)
            for watch in watches
            for made in [latest_materializations(context.instance, watch.raw.key)]
            for file in _files_to_watch(watch, sorted(made))
        ]
        start = int(context.cursor or 0) % max(len(files), 1)
        requests: list[dg.RunRequest] = []
        observations: list[dg.AssetObservation] = []
        said: list[str] = []
        deadline = time.monotonic() + _SECONDS_A_TICK
        asked = 0
        for watch, made, file in (files[start:] + files[:start])[:FILES_A_TICK]:
            if time.monotonic() > deadline:
                break
            asked += 1
            said.append(f"Asked after {file.name}.")
            try:
                found = publisher.probe(file.url)
            except NotPublishedError:
                continue
            except LakehouseError as error:
                said.append(str(error))
                continue
            _compare(watch, made, file, found, requests, observations)
        context.log.info(" ".join(said))
        return dg.SensorResult(
            run_requests=requests,
            asset_events=observations,
            cursor=str(start + asked),
            skip_reason=None if requests else " ".join(said),
        )

    return publications


def _compare(
    watch: Watch,
    made: dict[str, Materialization],
    file: PublishedFile,
    found: Fingerprint,
    requests: list[dg.RunRequest],
    observations: list[dg.AssetObservation],
) -> None:
    """Ask for the partitions of a file that were not made from the version that was found."""
    identity = found.etag or f"{found.last_modified}:{found.size}"
    for partition in file.partitions:
        if partition in made and found.is_same(made_from(made[partition])):
            continue
        requests.append(
            dg.RunRequest(
                run_key=f"{partition}:{file.name}:{identity}",
                partition_key=partition,
                job_name=watch.job.name,
            )
        )
        if partition in made:
            observations.append(
                dg.AssetObservation(
                    watch.raw.key,
                    partition=partition,
                    metadata={"etag": found.etag or "", "published_again": True},
                )
            )


def made_from(made: Materialization) -> Fingerprint:
    """The version of the file that a partition was made from.

    Not that of the landed file: another partition may have landed a newer one since.
    """
    etag, modified = made.metadata.get("etag"), made.metadata.get("last_modified")
    return Fingerprint(made.metadata.get("size_bytes"), etag or None, modified or None)


def _files_to_watch(watch: Watch, made: Sequence[str]) -> list[PublishedFile]:
    """The files to ask after: those of the partitions that are there, and the one after them.

    Where nothing is there yet, the newest one of all.
    """
    partitions = watch.partitions.get_partition_keys()
    newest = max(made, default=None)
    coming = [key for key in partitions if newest is None or key > newest]
    following = watch.url_of(coming[0 if newest else -1]) if coming else None
    watched: dict[str, list[str]] = {}
    for key in partitions:
        url = watch.url_of(key)
        if key in made or url == following:
            watched.setdefault(url, []).append(key)
    return [PublishedFile(url, tuple(keys)) for url, keys in watched.items()]
