"""Objects in S3, or in another store that speaks its language."""

import base64
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
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

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

# boto3 reads up to ten parts ahead, and as many are on their way.
_PART_BYTES = 8 * 1024**2
_ACCOUNT_CODES = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "401"),
    *("AuthFailure", "InvalidClientTokenId", "TokenRefreshRequired", "RequestTimeTooSkewed"),
}
_TRANSIENT_CODES = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException"}
_CHANGED_CODES = {"BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest"}


class S3Target:
    """A bucket, and the prefix of its objects' names; the rest is read from the AWS variables."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket, self._prefix = bucket, prefix
        self._seen: dict[tuple[str, str], StoredObject] = {}

    def put(self, name: str, file: Path, sha256: str) -> StoredObject:
        """Uploads the file; S3 refuses other bytes than those of its checksum."""
        from boto3.s3.transfer import TransferConfig

        crc32 = _file_crc32(file)
        with self._explained(), file.open("rb") as stream:
            self._client.upload_fileobj(
                stream,
                self._bucket,
                self._key(name),
                ExtraArgs={"Metadata": {"sha256": sha256}, "ChecksumCRC32": crc32},
                Config=TransferConfig(
                    multipart_threshold=CHUNK_BYTES, multipart_chunksize=_PART_BYTES
                ),
            )
            head = self._head(name, ChecksumMode="ENABLED")
        stored = self._stored(name, head)
        # Where somebody replaced it meanwhile, theirs is what is there.
        if stored.sha256 == sha256 and _differs(head, crc32, file.stat().st_size):
            raise self._arrived_changed()
        return stored

    def stat(self, name: str) -> StoredObject | None:
        """The object as it is now."""
        from botocore.exceptions import ClientError

        with self._explained():
            try:
                return self._stored(name, self._head(name))
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise

    def list(self, prefix: str) -> Iterator[tuple[str, StoredObject]]:
        """The objects whose name begins with the prefix, in the order of their names.

        S3 tells the metadata of one object at a time; what was seen once is not asked for again.
        """
        with self._explained():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key(prefix)
            )
            for item in (item for page in pages for item in page.get("Contents", ())):
                name = item["Key"].removeprefix(self._key(""))
                if name.endswith("/"):
                    continue
                seen = (name, f"{item['ETag']} {item['LastModified']}")
                if seen not in self._seen and (stored := self.stat(name)):
                    self._seen[seen] = stored
                if seen in self._seen:
                    yield name, self._seen[seen]

    def fetch(self, name: str, stored: StoredObject, stream: BinaryIO) -> None:
        """Downloads the object, if it still has this ETag."""
        from botocore.exceptions import ClientError, FlexibleChecksumError

        with self._explained():
            try:
                answer = self._client.get_object(
                    Bucket=self._bucket, Key=self._key(name), IfMatch=stored.version
                )
                for chunk in answer["Body"].iter_chunks(1024**2):
                    stream.write(chunk)
            except ClientError as error:
                if _status(error) in (404, 412):
                    raise ReplacedError from error
                raise
            except FlexibleChecksumError as error:
                raise CorruptedError from error

    @cached_property
    def _client(self) -> Any:
        from boto3.session import Session
        from botocore.config import Config

        connect, read = TIMEOUT_SECONDS
        return Session().client("s3", config=Config(connect_timeout=connect, read_timeout=read))

    def _head(self, name: str, **arguments: str) -> dict[str, Any]:
        return dict(self._client.head_object(Bucket=self._bucket, Key=self._key(name), **arguments))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _stored(self, name: str, head: dict[str, Any]) -> StoredObject:
        return StoredObject(
            uri=f"{self.uri}/{name}",
            size=head["ContentLength"],
            sha256=head["Metadata"].get("sha256"),
            version=head["ETag"],
            updated=head["LastModified"],
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from botocore import exceptions

        try:
            yield
        except exceptions.ClientError as error:
            raise self._refusal(error) from error
        except (
            exceptions.ConnectionError,
            exceptions.HTTPClientError,
            exceptions.IncompleteReadError,
        ) as error:
            raise self._unavailable() from error
        except (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.ProfileNotFound,
            exceptions.SSOError,
        ) as error:
            raise self._unknown_account() from error
        except (exceptions.BotoCoreError, ValueError) as error:
            raise LakehouseError(
                f"S3 cannot be reached for {self.uri} with these settings "
                f"({type(error).__name__}): check LAKEHOUSE_OBJECTS and the AWS_* variables."
            ) from error

    def _refusal(self, error: "ClientError") -> LakehouseError:
        code, status = error.response["Error"].get("Code", ""), _status(error)
        if code in _ACCOUNT_CODES:
            return self._unknown_account()
        if code in _CHANGED_CODES:
            return self._arrived_changed()
        if code in _TRANSIENT_CODES or status in (408, 429) or status >= 500:
            return self._unavailable()
        if status == 403:
            return LakehouseError(
                f"S3 does not let this account use {self.uri}: allow it s3:GetObject, "
                "s3:PutObject and s3:ListBucket there, or name a bucket of your own in "
                "LAKEHOUSE_OBJECTS."
            )
        if status == 404:
            return LakehouseError(
                f"The bucket of {self.uri} does not exist: create it, or change LAKEHOUSE_OBJECTS."
            )
        if status == 301 or code == "AuthorizationHeaderMalformed":
            return LakehouseError(
                f"The bucket of {self.uri} is in another region: set AWS_DEFAULT_REGION to it."
            )
        return LakehouseError(
            f"S3 refuses {self.uri} ({code}): check LAKEHOUSE_OBJECTS and the bucket's settings."
        )

    def _unknown_account(self) -> LakehouseError:
        return LakehouseError(
            f"S3 does not accept the credentials for {self.uri}: set AWS_PROFILE, or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and check the clock of this machine."
        )

    def _unavailable(self) -> UnavailableError:
        return UnavailableError(
            f"S3 does not answer for {self.uri}: run again later; if it stays so, check the "
            "network, and AWS_ENDPOINT_URL if it is set."
        )

    def _arrived_changed(self) -> UnavailableError:
        return UnavailableError(
            f"A file did not arrive whole in {self.uri}: run again; if it stays so, look at the "
            "network or the proxy in between."
        )


def _differs(head: dict[str, Any], crc32: str, size: int) -> bool:
    """Whether it is another object; some stores name no checksum, or one of the parts'."""
    found = str(head.get("ChecksumCRC32", ""))
    return head["ContentLength"] != size or (found not in ("", crc32) and "-" not in found)


def _status(error: "ClientError") -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _file_crc32(path: Path) -> str:
    """The CRC32 of a file, as S3 writes it."""
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(1024**2):
            checksum = zlib.crc32(chunk, checksum)
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()
