"""Objects in Google Cloud Storage, or in the local service that stands for it."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.resources.object_targets.target import (
    CHUNK_BYTES,
    TIMEOUT_SECONDS,
    CorruptedError,
    ReplacedError,
    StoredObject,
)
from lakehouse.services.gcs import GcsService

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.storage import Blob, Client

RETRY_SECONDS = 30.0
"""How long one call is tried again where GCS does not answer."""

_LOGIN = (
    "run `gcloud auth application-default login`, or let GOOGLE_APPLICATION_CREDENTIALS name "
    "a service account's key file"
)


class GcsTarget:
    """A bucket, and the prefix of its objects' names.

    Args:
        bucket: Its name.
        prefix: Without slashes at its ends; may be empty.
        service: The local service that has the bucket, started when it is needed; None for
            Google's own, or what STORAGE_EMULATOR_HOST names.
    """

    def __init__(self, bucket: str, prefix: str, service: GcsService | None) -> None:
        self.uri = f"gs://{bucket}/{prefix}".rstrip("/")
        self._bucket, self._prefix, self._service = bucket, prefix, service
        self._connected: tuple[str, Client] | None = None

    def put(self, name: str, file: Path, sha256: str) -> StoredObject:
        """Uploads the file; GCS refuses other bytes than those of its checksum."""
        crc32c = _file_crc32c(file)
        with self._explained(), file.open("rb") as stream:
            blob = self._blob(name, chunk_size=CHUNK_BYTES)
            blob.metadata = {"sha256": sha256}
            blob.upload_from_file(
                stream,
                size=file.stat().st_size,
                checksum="crc32c",
                crc32c_checksum_value=crc32c,
                **_patience(),
            )
        if blob.crc32c != crc32c:
            raise self._arrived_changed()
        return self._stored(name, blob)

    def stat(self, name: str) -> StoredObject | None:
        """The object as it is now."""
        from google.api_core.exceptions import NotFound

        with self._explained():
            blob = self._blob(name)
            try:
                blob.reload(**_patience())
            except NotFound as error:
                if "bucket does not exist" in str(error):
                    raise
                return None
        return self._stored(name, blob)

    def list(self, prefix: str) -> Iterator[tuple[str, StoredObject]]:
        """The objects whose name begins with the prefix, in the order of their names."""
        with self._explained():
            for blob in self._client().list_blobs(
                self._bucket, prefix=self._key(prefix), **_patience()
            ):
                name = blob.name.removeprefix(self._key(""))
                if not name.endswith("/"):
                    yield name, self._stored(name, blob)

    def fetch(self, name: str, stored: StoredObject, stream: BinaryIO) -> None:
        """Downloads this generation of the object."""
        from google.api_core.exceptions import NotFound
        from google.cloud.storage.exceptions import DataCorruption

        with self._explained():
            blob = self._blob(name, generation=int(stored.version))
            try:
                # Raw, since GCS would unpack what is named gzip, and could not vouch for it.
                blob.download_to_file(stream, raw_download=True, checksum="crc32c", **_patience())
            except NotFound as error:
                raise ReplacedError from error
            except DataCorruption as error:
                raise CorruptedError from error

    def _client(self) -> "Client":
        """The client; the local service is found running, or started, at each call."""
        address = self._service.start().address if self._service else ""
        if self._connected is None or self._connected[0] != address:
            self._connected = address, _connect(address)
        return self._connected[1]

    def _blob(self, name: str, **arguments: Any) -> "Blob":
        return self._client().bucket(self._bucket).blob(self._key(name), **arguments)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _stored(self, name: str, blob: "Blob") -> StoredObject:
        return StoredObject(
            uri=f"{self.uri}/{name}",
            size=blob.size,
            sha256=(blob.metadata or {}).get("sha256"),
            version=str(blob.generation),
            updated=blob.updated,
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError, TransportError
        from requests import RequestException

        try:
            yield
        except GoogleAPICallError as error:
            raise self._refusal(error) from error
        except (RetryError, TransportError, RequestException, ConnectionError) as error:
            raise self._unavailable() from error
        except GoogleAuthError as error:
            raise self._unknown_account() from error

    def _refusal(self, error: "GoogleAPICallError") -> LakehouseError:
        if error.code == 401:
            return self._unknown_account()
        if error.code == 403:
            return LakehouseError(
                f"GCS does not let this account use {self.uri}: give it the role Storage Object "
                "User on the bucket, or name a bucket of your own in LAKEHOUSE_OBJECTS."
            )
        if error.code == 404:
            return LakehouseError(
                f"The bucket of {self.uri} does not exist: create it, or change LAKEHOUSE_OBJECTS."
            )
        if error.code == 400 and "calculated" in str(error):
            return self._arrived_changed()
        if error.code in (408, 429) or (error.code or 500) >= 500:
            return self._unavailable()
        return LakehouseError(
            f"GCS refuses {self.uri} ({error.code} {error.reason or ''}): "
            "check LAKEHOUSE_OBJECTS and the bucket's settings."
        )

    def _unknown_account(self) -> LakehouseError:
        return LakehouseError(f"GCS does not accept the credentials for {self.uri}: {_LOGIN}.")

    def _unavailable(self) -> UnavailableError:
        return UnavailableError(
            f"GCS does not answer for {self.uri}: run again later; if it stays so, check the "
            "network, and STORAGE_EMULATOR_HOST if it is set."
        )

    def _arrived_changed(self) -> UnavailableError:
        return UnavailableError(
            f"A file did not arrive whole in {self.uri}: run again; if it stays so, look at the "
            "network or the proxy in between."
        )


def _connect(address: str) -> "Client":
    """A client of the local service at this address; of Google's own without one."""
    if address:
        from lakehouse.resources.object_targets.local_gcs import LocalGCSResource

        return LocalGCSResource(endpoint=address).get_client()
    from dagster_gcp import GCSResource

    return GCSResource().get_client()


def _patience() -> dict[str, Any]:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return {"timeout": TIMEOUT_SECONDS, "retry": DEFAULT_RETRY.with_timeout(RETRY_SECONDS)}


def _file_crc32c(path: Path) -> str:
    """The CRC32C of a file, as GCS writes it."""
    from google_crc32c import Checksum

    checksum = Checksum()
    with path.open("rb") as file:
        while chunk := file.read(1024**2):
            checksum.update(chunk)
    return base64.b64encode(checksum.digest()).decode()
