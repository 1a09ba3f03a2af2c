"""A publisher's file at an address: fetched with resume, retried, and verified as it arrives."""

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TypeVar

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from lakehouse.errors import LakehouseError, NotPublishedError, UnavailableError, UsageError
from lakehouse.resources.landing import Fingerprint, Part, Patience, Progress, shown

# It logs each address that it asks, with the account in it.
logging.getLogger("httpx").setLevel(logging.WARNING)

_T = TypeVar("_T")
_NOT_PUBLISHED = (403, 404, 410)
_HEAD_REFUSED = (403, 405, 501)
_TRY_AGAIN = (408, 425, 429)


class HttpFile:
    """A file at an address."""

    def __init__(self, address: str, patience: Patience):
        self._address = address
        self._patience = patience

    def probe(self) -> Fingerprint:
        """The version that the publisher has."""
        return self._persist(self._probe)

    def fetch(self, part: Part, progress: Progress | None) -> tuple[Fingerprint, str]:
        """Bring the part to its end; its version and SHA-256."""
        return self._persist(partial(self._fetch, part, progress))

    def _probe(self) -> Fingerprint:
        with self._client() as client:
            response = client.head(self._address)
            if response.status_code in _HEAD_REFUSED:
                first_byte = {"Range": "bytes=0-0"}
                with client.stream("GET", self._address, headers=first_byte) as response:
                    return self._fingerprint(response)
            return self._fingerprint(response)

    def _fetch(self, part: Part, progress: Progress | None) -> tuple[Fingerprint, str]:
        """Bring the part to its end, continuing where it stopped if the publisher allows it."""
        version, offset = part.version, part.size
        headers = _range_headers(version, offset)
        with (
            self._client() as client,
            client.stream("GET", self._address, headers=headers) as response,
        ):
            if response.status_code == 416 and headers and version:
                if _total(response) != offset:
                    part.drop()
                    raise _TransientError("its length is not what it was")
                return version, part.append((), offset, progress)
            answered = self._fingerprint(response)
            if response.status_code == 206:
                if version is None or not _continues(response, answered, version, offset):
                    part.drop()
                    raise _TransientError("another range came than was asked for")
            else:
                version = answered
                part.begin(version)
            sha256 = part.append(response.iter_raw(), version.size, progress)
        if version.size not in (None, part.size):
            part.drop()
            raise _TransientError("its length is not what was announced")
        return version, sha256

    def _client(self) -> httpx.Client:
        # Compressed in transit, a file has other offsets: CloudFront then ignores Range.
        return httpx.Client(
            headers={"Accept-Encoding": "identity"},
            timeout=httpx.Timeout(self._patience.silence, connect=self._patience.connect),
            follow_redirects=True,
        )

    def _fingerprint(self, response: httpx.Response) -> Fingerprint:
        """The version that a response is of, or the error that it stands for."""
        status, address = response.status_code, shown(self._address)
        if status in _NOT_PUBLISHED:
            raise NotPublishedError(
                f"{address} is not there (HTTP {status}); it may not be published yet: "
                "choose an earlier month or try again later."
            )
        if status in _TRY_AGAIN or status >= 500:
            raise _TransientError(f"HTTP {status}", _retry_after(response))
        if status not in (200, 206):
            raise LakehouseError(
                f"{address} was refused with HTTP {status}; check the address, and "
                "LAKEHOUSE_SOURCE_MIRROR if it is set."
            )
        length = response.headers.get("Content-Length")
        whole = int(length) if length else None
        return Fingerprint(
            size=_total(response) if status == 206 else whole,
            # Backblaze sends no ETag, and the time of the request as Last-Modified.
            etag=response.headers.get("ETag") or response.headers.get("X-Bz-File-Id"),
            last_modified=response.headers.get("Last-Modified"),
        )

    def _persist(self, call: Callable[[], _T]) -> _T:
        passing = (_TransientError, httpx.RequestError)
        retrying = Retrying(
            retry=retry_if_exception_type(passing),
            stop=stop_after_attempt(self._patience.attempts),
            wait=self._wait,
            reraise=True,
        )
        try:
            return retrying(call)
        except passing as error:
            raise UnavailableError(
                f"{shown(self._address)} could not be read in {self._patience.attempts} tries "
                f"({str(error) or type(error).__name__}); check the network and run again: "
                "what has arrived is kept."
            ) from error
        except httpx.InvalidURL as error:
            raise UsageError(
                f"{shown(self._address)} is not an address; correct LAKEHOUSE_SOURCE_MIRROR."
            ) from error

    def _wait(self, state: RetryCallState) -> float:
        patience = self._patience
        growing = wait_exponential(multiplier=patience.first, max=patience.longest)
        backoff = (growing + wait_random(0, patience.first))(state)
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, _TransientError) else 0.0
        return max(backoff, min(asked, patience.longest))


class _TransientError(Exception):
    """What may go better next time; `retry_after` is in seconds."""

    def __init__(self, reason: str, retry_after: float = 0.0):
        super().__init__(reason)
        self.retry_after = retry_after


def _range_headers(version: Fingerprint | None, offset: int) -> dict[str, str]:
    """Headers that ask for the rest of a part; none where it cannot be told to be the rest."""
    if version is None or offset == 0:
        return {}
    rest = {"Range": f"bytes={offset}-"}
    validator = version.etag or version.last_modified
    if validator is None or validator.startswith("W/"):
        return {}
    # Backblaze's file id is no validator of HTTP: it is compared with the answer's instead.
    is_file_id = version.etag is not None and not version.etag.startswith('"')
    return rest if is_file_id else rest | {"If-Range": validator}


def _continues(
    response: httpx.Response, answered: Fingerprint, version: Fingerprint, offset: int
) -> bool:
    """Whether an answer holds all that is missing of this version."""
    same_date = answered.last_modified in (None, version.last_modified)
    expected = f"bytes {offset}-{answered.size - 1}/{answered.size}" if answered.size else None
    return (
        response.headers.get("Content-Range") == expected
        and version.size in (None, answered.size)
        and version.etag == answered.etag
        and (version.etag is not None or same_date)
    )


def _total(response: httpx.Response) -> int | None:
    """The length of the whole file, from Content-Range."""
    found = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the publisher asks to wait."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
