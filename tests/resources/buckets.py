"""An object store on this machine: moto speaks S3, and enough of GCS for delta-rs and Polars.

Run as a program, it serves on the port that it is given.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

_ANYBODY = (
    "AWS4-HMAC-SHA256 Credential=test/20240101/us-east-1/s3/aws4_request,"
    " SignedHeaders=host, Signature=0"
)


@dataclass(frozen=True)
class Buckets:
    """A running store with one bucket, `lake`."""

    address: str

    def options(self, scheme: str) -> dict[str, str]:
        """What delta-rs and Polars need to know to find it."""
        if scheme == "s3":
            return {"AWS_ENDPOINT_URL": self.address, "AWS_ALLOW_HTTP": "true"}
        account = {"gcs_base_url": self.address, "disable_oauth": True}
        nobody = {"client_email": "", "private_key": "", "private_key_id": ""}
        return {
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account | nobody),
            "ALLOW_HTTP": "true",
        }


@contextmanager
def running_buckets(port: int) -> Iterator[Buckets]:
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, __file__, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            for _ in range(300):
                try:
                    httpx.put(f"{address}/lake", headers={"Authorization": _ANYBODY})
                    break
                except httpx.ConnectError:
                    time.sleep(0.1)
            yield Buckets(address)
        finally:
            server.kill()


class _AlsoGcs:
    """Puts the two headers in which GCS's XML API differs into the words of S3."""

    def __init__(self, app: Callable[..., Any]):
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH") == "0":
            environ["HTTP_IF_NONE_MATCH"] = "*"
        if not environ.get("HTTP_AUTHORIZATION", "").startswith("AWS4"):
            environ["HTTP_AUTHORIZATION"] = _ANYBODY
        return self._app(environ, start_response)


def _serve(port: int) -> None:
    # Imported here, since tests that only talk to a running store should not wait for moto.
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    moto = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", port, _AlsoGcs(moto), threaded=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
