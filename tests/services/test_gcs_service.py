"""The local GCS service: started once, found again, and whole after it was killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Blob, Client

from lakehouse.errors import LakehouseError
from lakehouse.services.gcs import LOCAL_BUCKET, GcsService
from lakehouse.services.process import ServiceStatus
from lakehouse.settings import Settings

UPLOAD = """
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
client = Client("test", AnonymousCredentials(), client_options={"api_endpoint": sys.argv[1]})
for turn in range(1000):
    blob = client.bucket("lakehouse").blob("a/b")
    blob.upload_from_string(bytes([turn % 256]) * 3_000_000)
"""


@pytest.fixture
def service(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[GcsService]:
    service = GcsService(Settings(home=tmp_path / "home", gcs_port=free_port()))
    yield service
    service.stop()


def blob(status: ServiceStatus, name: str = "a/b") -> Blob:
    options = {"api_endpoint": status.address}
    client = Client("test", AnonymousCredentials(), client_options=options)
    return client.bucket(LOCAL_BUCKET).blob(name, chunk_size=256 * 1024)


def generation(status: ServiceStatus) -> int | None:
    found = blob(status).bucket.get_blob("a/b")
    return found.generation if found else None


def kill(status: ServiceStatus) -> None:
    os.kill(status.pid, signal.SIGKILL)
    psutil.Process(status.pid).wait(10)


def test_it_is_started_once_found_again_and_stopped(service: GcsService) -> None:
    assert not service.status().running
    started = service.start()
    assert requests.get(started.address, timeout=5).text == "OK"
    assert service.start() == started
    assert service.stop()
    assert not service.status().running
    with pytest.raises(requests.ConnectionError):
        requests.get(started.address, timeout=5)


def test_it_listens_on_loopback_and_on_one_port_only(service: GcsService) -> None:
    connections = psutil.Process(service.start().pid).net_connections(kind="inet")
    listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", service.port)]


def test_it_has_the_bucket_after_each_start(service: GcsService) -> None:
    for _ in range(2):
        assert blob(service.start()).bucket.exists()
        service.stop()


def test_its_objects_survive_a_restart_and_lie_below_the_home(service: GcsService) -> None:
    blob(service.start()).upload_from_string(b"old")
    service.stop()
    assert blob(service.start()).download_as_bytes() == b"old"
    assert any(path.read_bytes() == b"old" for path in service.data.rglob("*") if path.is_file())


def test_an_object_may_be_named_like_the_folder_of_another(service: GcsService) -> None:
    status = service.start()
    for name in ("a", "a/b", "a/" + "long" * 100):
        blob(status, name).upload_from_string(name.encode())
        assert blob(status, name).download_as_bytes() == name.encode()


def test_a_replaced_object_leaves_nothing_behind(service: GcsService) -> None:
    status = service.start()
    for content in (b"one", b"two", b"3" * 9_000_000):
        blob(status).upload_from_string(content)
    service.stop()
    service.start()
    files = [path for path in service.data.rglob("*") if path.is_file() and path.name != ".meta"]
    assert [path.stat().st_size for path in files] == [9_000_000]


def test_an_upload_with_another_checksum_than_it_says_is_refused(service: GcsService) -> None:
    target = blob(service.start())
    target.upload_from_string(b"old")
    target.crc32c = "AAAAAA=="
    with pytest.raises(Exception, match="400"):
        target.upload_from_string(b"new", checksum=None)
    assert blob(service.start()).download_as_bytes() == b"old"


def test_killed_while_an_object_arrives_it_has_the_old_one(service: GcsService) -> None:
    status = service.start()
    blob(status).upload_from_string(b"old")
    upload = requests.post(
        f"{status.address}/upload/storage/v1/b/{LOCAL_BUCKET}/o?uploadType=resumable&name=a/b",
        json={},
        timeout=5,
    )
    part = {"Content-Range": "bytes 0-999/2000"}
    assert requests.put(upload.headers["Location"], b"n" * 1000, headers=part, timeout=5)
    kill(status)
    status = service.start()
    assert blob(status).download_as_bytes() == b"old"
    blob(status).upload_from_string(b"new")
    assert blob(status).download_as_bytes() == b"new"


def test_killed_at_any_moment_it_starts_again_with_a_whole_object(service: GcsService) -> None:
    status = service.start()
    # It tries again what the server was killed over.
    with subprocess.Popen([sys.executable, "-c", UPLOAD, status.address]) as writer:
        try:
            for moment in range(8):
                before = generation(status)
                while generation(status) == before:
                    time.sleep(0.01)
                time.sleep(0.011 * moment)
                writer.send_signal(signal.SIGSTOP)  # what it writes next is not what is looked at
                kill(status)
                status = service.start()
                content = blob(status).download_as_bytes(checksum="crc32c")
                assert len(content) == 3_000_000
                assert len(set(content)) == 1
                writer.send_signal(signal.SIGCONT)
        finally:
            writer.kill()


def test_a_taken_port_is_named_with_the_setting(service: GcsService) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", service.port))
        other.listen()
        with pytest.raises(LakehouseError, match="LAKEHOUSE_GCS_PORT to a free port"):
            service.start()


def test_a_list_that_cannot_be_read_is_told_with_the_log(service: GcsService) -> None:
    service.start()
    service.stop()
    next(service.data.rglob(".meta")).write_text("{")
    with pytest.raises(LakehouseError, match="GCS ended while it was starting: json") as error:
        service.start()
    assert str(service.log) in str(error.value)


def test_without_the_emulator_the_remedy_is_named(
    service: GcsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcp_storage_emulator", None)
    with pytest.raises(LakehouseError, match=r"pip install 'lakehouse\[local\]'"):
        service.start()
