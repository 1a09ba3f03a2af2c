"""The GCS of this machine: an emulator on loopback, with its objects on disk."""

import sys
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec

from lakehouse.errors import LakehouseError
from lakehouse.services.process import LocalService
from lakehouse.settings import Settings

LOCAL_BUCKET = "lakehouse"
"""The bucket that the local service has."""


class GcsService(LocalService):
    """gcp-storage-emulator on `settings.gcs_port`; it asks nobody for credentials."""

    name = "gcs"
    title = "GCS"
    port_variable = "LAKEHOUSE_GCS_PORT"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, settings.gcs_port)

    def command(self) -> list[str]:
        """The program and its arguments.

        Raises:
            LakehouseError: the emulator is not installed.
        """
        if find_spec("gcp_storage_emulator") is None:
            raise LakehouseError(
                "The local GCS service needs gcp-storage-emulator, which is not here: "
                "run `pip install 'lakehouse[local]'`, or set LAKEHOUSE_OBJECTS."
            )
        arguments = [str(self.data), str(self.port), LOCAL_BUCKET]
        return [sys.executable, "-m", "lakehouse.services.gcs_server", *arguments]

    def address(self, port: int) -> str:
        """The endpoint of the JSON API."""
        return f"http://127.0.0.1:{port}"

    def ready(self, port: int) -> bool:
        """Whether the server answers."""
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read() == b"OK"
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
