"""What is put into the object store: whole, verified, and the same in every target."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from uuid import uuid4

import pytest
from buckets import running_buckets

from lakehouse.errors import LakehouseError, UnavailableError, UsageError
from lakehouse.resources.object_targets import gcs
from lakehouse.resources.object_targets.copies import COPIES
from lakehouse.resources.objects import Objects
from lakehouse.services.gcs import GcsService
from lakehouse.settings import Settings

NAME = "data/green/green_tripdata_2020-03.parquet"

PUT = """
import sys
from pathlib import Path
from lakehouse.resources.objects import Objects
from lakehouse.settings import Settings
objects = Objects(Settings())
objects.stat("x")
print("ready", flush=True)
sys.stdin.readline()
for file in sys.argv[2:]:
    objects.put(sys.argv[1], Path(file))
"""

READ = """
import hashlib, os
from lakehouse.resources.objects import Objects
from lakehouse.settings import Settings
with Objects(Settings()).local("a/b") as local:
    print(hashlib.sha256(local.path.read_bytes()).hexdigest())
"""

MEMORY = """
import resource, sys
from pathlib import Path
from lakehouse.resources.objects import Objects
from lakehouse.settings import Settings

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

objects = Objects(Settings())
for file in sys.argv[1:]:
    objects.put("a/b", Path(file))
    with objects.local("a/b") as local:
        assert local.path.stat().st_size == Path(file).stat().st_size
    print(peak())
"""


@dataclass(frozen=True)
class Store:
    """A store of one kind: what the setting names it, and what of the environment it needs."""

    kind: str
    target: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def bucketless(self) -> str:
        return f"{self.target.split('://')[0]}://no-such-bucket/prefix"


@pytest.fixture(scope="module")
def gcs_address(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[str]:
    service = GcsService(Settings(home=tmp_path_factory.mktemp("gcs"), gcs_port=free_port()))
    yield service.start().address
    service.stop()


@pytest.fixture(scope="module")
def s3_address(free_port: Callable[[], int]) -> Iterator[str]:
    with running_buckets(free_port()) as buckets:
        yield buckets.address


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own clouds, and no long waits for one that does not answer."""
    for name in [n for n in os.environ if n.startswith(("LAKEHOUSE_", "AWS_", "STORAGE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hush-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(gcs, "RETRY_SECONDS", 0.5)


def make_store(kind: str, request: pytest.FixtureRequest) -> Store:
    prefix = f"prefix-{uuid4().hex}"
    if kind == "gcs":
        address = request.getfixturevalue("gcs_address")
        return Store(kind, f"gs://lakehouse/{prefix}", {"STORAGE_EMULATOR_HOST": address})
    if kind == "s3":
        address = request.getfixturevalue("s3_address")
        return Store(kind, f"s3://lake/{prefix}", {"AWS_ENDPOINT_URL": address})
    return Store(kind, str(request.getfixturevalue("tmp_path") / "store"))


@pytest.fixture(params=["folder", "gcs", "s3"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    made = make_store(request.param, request)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture(params=["gcs", "s3"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    made = make_store(request.param, request)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def objects(store: Store, tmp_path: Path) -> Objects:
    return Objects(Settings(home=tmp_path / "home", objects=store.target))


def bucket_objects(store: Store, tmp_path: Path) -> Objects:
    return Objects(Settings(home=tmp_path / "home", objects=store.target))


def made(tmp_path: Path, content: bytes, name: str = "cleaned.parquet") -> Path:
    file = tmp_path / name
    file.write_bytes(content)
    return file


def read(objects: Objects, name: str = NAME) -> bytes:
    with objects.local(name) as local:
        return local.path.read_bytes()


def child(code: str, store: Store, home: Path, *arguments: str) -> subprocess.Popen[str]:
    settings = {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_OBJECTS": store.target}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


class Wire:
    """Stands between a client and a store, and alters or stops what passes."""

    def __init__(
        self, address: str, altered: tuple[bytes, bytes] | None = None, stops_at: int | None = None
    ) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._store, self._altered, self._stops_at = (host, int(port)), altered, stops_at
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.stopped = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._store)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if self._stops_at is not None and passed > self._stops_at:
                    self.stopped.set()
                    continue
                if self._altered:
                    data = data.replace(*self._altered)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def refusing(status: int) -> Iterator[str]:
    """A store that answers every request with this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_was_put_is_read_again_and_described(objects, store, tmp_path):
    content = os.urandom(100_000)
    (stored,) = objects.put(NAME, made(tmp_path, content))
    assert read(objects) == content
    assert objects.stat(NAME) == stored
    assert stored.uri == objects.uri(NAME) == f"{store.target}/{NAME}"
    assert (stored.size, stored.sha256) == (100_000, hashlib.sha256(content).hexdigest())
    assert abs(stored.updated.timestamp() - time.time()) < 60
    assert stored.updated.tzinfo is not None
    assert objects.targets == (store.target,)


def test_a_file_larger_than_a_chunk_arrives_whole(objects, tmp_path):
    content = os.urandom(1_000_000) * 40
    objects.put(NAME, made(tmp_path, content))
    assert read(objects) == content


@pytest.mark.parametrize("content", [b"", b"\r\n--\r\n", b"\n"], ids=["empty", "lines", "line"])
def test_any_bytes_arrive_as_they_are(objects, tmp_path, content):
    objects.put(NAME, made(tmp_path, content))
    assert read(objects) == content


def test_the_same_file_again_is_not_uploaded_again(objects, tmp_path):
    (first,) = objects.put(NAME, made(tmp_path, b"rows"))
    (second,) = objects.put(NAME, made(tmp_path, b"rows", "made again"))
    assert second == first


def test_another_file_takes_the_place_of_the_old_one(objects, tmp_path):
    (first,) = objects.put(NAME, made(tmp_path, b"rows"))
    assert read(objects) == b"rows"
    (second,) = objects.put(NAME, made(tmp_path, b"ROWS"))
    assert read(objects) == b"ROWS"
    assert second.version != first.version
    assert second.sha256 != first.sha256


def test_what_is_not_there_is_none_and_cannot_be_read(objects, store):
    assert objects.stat(NAME) is None
    assert objects.list("data/") == []
    with pytest.raises(LakehouseError) as error, objects.local(NAME):
        pass
    assert str(error.value) == (
        f"There is no object {store.target}/{NAME}: materialize what puts it there, "
        "or check LAKEHOUSE_OBJECTS."
    )


def test_all_below_a_prefix_are_listed_in_order(objects, tmp_path):
    file = made(tmp_path, b"rows")
    for name in ("data/green/b", "data/green/a", "data/yellow/a", "other/a"):
        objects.put(name, file)
    assert [name for name, _ in objects.list("data/green/")] == ["data/green/a", "data/green/b"]
    assert [name for name, _ in objects.list("data/gr")] == ["data/green/a", "data/green/b"]
    assert len(objects.list()) == 4
    assert dict(objects.list("other/")) == {"other/a": objects.stat("other/a")}
    objects.put("other/a", made(tmp_path, b"others"))
    assert dict(objects.list("other/")) == {"other/a": objects.stat("other/a")}


def put_by_somebody_else(store: Store, name: str, content: bytes) -> None:
    scheme, _, place = store.target.partition("://")
    bucket, _, prefix = place.partition("/")
    if scheme == "gs":
        from google.cloud.storage import Client

        Client().bucket(bucket).blob(f"{prefix}/{name}").upload_from_string(content)
    elif scheme == "s3":
        import boto3

        boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=content)
    else:
        path = Path(store.target) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)


def test_an_object_of_somebody_else_has_no_hash_and_is_read(objects, store):
    put_by_somebody_else(store, NAME, b"theirs")
    assert objects.stat(NAME).sha256 is None
    assert [stored.sha256 for _, stored in objects.list("data/")] == [None]
    assert read(objects) == b"theirs"


def test_an_object_that_somebody_replaced_is_noticed_and_mended(objects, store, tmp_path):
    (ours,) = objects.put(NAME, made(tmp_path, b"ours"))
    assert read(objects) == b"ours"
    put_by_somebody_else(store, NAME, b"diff")
    theirs = objects.stat(NAME)
    assert theirs.sha256 is None
    assert theirs.version != ours.version
    assert read(objects) == b"diff"
    objects.put(NAME, made(tmp_path, b"ours"))
    assert read(objects) == b"ours"


@pytest.mark.parametrize(
    "name", ["../a", "/a", "a/../../b", "a//b", "", ".a", "a/", "a\\b", "a\nb"]
)
def test_a_name_that_leaves_the_target_is_refused(objects, tmp_path, name):
    file = made(tmp_path, b"rows")
    for call in (lambda: objects.put(name, file), lambda: objects.stat(name)):
        with pytest.raises(UsageError, match="cannot be an object's name"):
            call()
    with pytest.raises(UsageError), objects.local(name):
        pass


def test_a_prefix_that_leaves_the_target_is_refused(objects):
    for prefix in ("/", "../", "a/../../"):
        with pytest.raises(UsageError):
            objects.list(prefix)


@pytest.mark.parametrize(
    "target",
    [
        "s3://me:hush@bucket/p",
        "gs://bucket?key=hush",
        "http://host/hush",
        "s3:///hush",
        "file:///hush",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(tmp_path, target):
    with pytest.raises(UsageError, match="LAKEHOUSE_OBJECTS takes folders") as error:
        Objects(Settings(home=tmp_path, objects=target)).stat(NAME)
    assert "hush" not in str(error.value)


def test_nothing_secret_shows(objects, store, tmp_path):
    (stored,) = objects.put(NAME, made(tmp_path, b"rows"))
    shown = [repr(objects), repr(stored), repr(objects.targets), objects.uri(NAME)]
    missing = Objects(Settings(home=tmp_path, objects=store.bucketless))
    if store.kind != "folder":
        with pytest.raises(LakehouseError) as error:
            missing.put(NAME, made(tmp_path, b"rows"))
        shown.append(str(error.value))
    assert "hush" not in " ".join(shown)


def test_a_missing_bucket_is_named_with_the_remedy(bucket, tmp_path):
    objects = Objects(Settings(home=tmp_path, objects=bucket.bucketless))
    for call in (lambda: objects.put(NAME, made(tmp_path, b"rows")), objects.list):
        with pytest.raises(LakehouseError) as error:
            call()
        assert str(error.value) == (
            f"The bucket of {bucket.bucketless} does not exist: "
            "create it, or change LAKEHOUSE_OBJECTS."
        )
        assert not isinstance(error.value, UnavailableError)


def test_a_store_that_does_not_answer_may_be_tried_again(
    bucket, tmp_path, monkeypatch, free_port: Callable[[], int]
):
    for name in bucket.environment:
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    objects = bucket_objects(bucket, tmp_path)
    calls = (
        lambda: objects.put(NAME, made(tmp_path, b"rows")),
        lambda: objects.stat(NAME),
        objects.list,
        lambda: read(objects),
    )
    for call in calls:
        with pytest.raises(UnavailableError, match=f"does not answer for {bucket.target}: run"):
            call()


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (401, LakehouseError, "does not accept the credentials"),
        (403, LakehouseError, "does not let this account use"),
        (400, LakehouseError, "refuses"),
        (429, UnavailableError, "does not answer"),
        (503, UnavailableError, "does not answer"),
    ],
)
def test_a_refusal_says_what_to_do(bucket, tmp_path, monkeypatch, status, kind, remedy):
    with refusing(status) as address:
        for name in bucket.environment:
            monkeypatch.setenv(name, address)
        with pytest.raises(LakehouseError, match=f"{remedy}.* {bucket.target}") as error:
            bucket_objects(bucket, tmp_path).stat(NAME)
    assert type(error.value) is kind


def test_without_credentials_the_remedy_is_named(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    for target, remedy in (("s3://b", "AWS_PROFILE"), ("gs://b", "gcloud auth application-def")):
        with pytest.raises(LakehouseError, match=f"the credentials for {target}: .*{remedy}"):
            Objects(Settings(home=tmp_path, objects=target)).stat(NAME)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    objects = Objects(Settings(home=tmp_path, objects=str(tmp_path / "taken")))
    with pytest.raises(LakehouseError, match=r"taken cannot be used .*LAKEHOUSE_OBJECTS"):
        objects.put(NAME, made(tmp_path, b"rows"))


def test_all_targets_have_the_same_and_the_first_is_read(request, tmp_path, monkeypatch):
    stores = [make_store(kind, request) for kind in ("gcs", "s3", "folder")]
    for store in stores:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
    targets = [store.target for store in stores]
    settings = Settings(home=tmp_path / "home", objects=" ".join(targets))
    stored = Objects(settings).put(NAME, made(tmp_path, b"rows"))
    assert [one.uri for one in stored] == [f"{target}/{NAME}" for target in targets]
    assert len({one.sha256 for one in stored}) == 1
    for target in targets:
        assert read(Objects(Settings(home=tmp_path / "home", objects=target))) == b"rows"
    assert Objects(settings).put(NAME, made(tmp_path, b"rows")) == stored

    put_by_somebody_else(stores[2], NAME, b"changed")
    again = Objects(settings).put(NAME, made(tmp_path, b"rows"))
    assert again[:2] == stored[:2]
    assert (Path(targets[2]) / NAME).read_bytes() == b"rows"


def test_a_target_that_fails_is_named_and_the_others_keep_what_they_have(bucket, tmp_path):
    folder = tmp_path / "store"
    settings = Settings(home=tmp_path, objects=f"{folder} {bucket.bucketless}")
    with pytest.raises(LakehouseError, match="no-such-bucket"):
        Objects(settings).put(NAME, made(tmp_path, b"rows"))
    assert (folder / NAME).read_bytes() == b"rows"


def test_bytes_that_change_on_their_way_there_leave_the_old_object(
    gcs_address, tmp_path, monkeypatch
):
    """Only here for GCS: moto takes what comes, whatever its checksum."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_address)
    settings = Settings(home=tmp_path / "home", objects=f"gs://lakehouse/{uuid4().hex}")
    Objects(settings).put(NAME, made(tmp_path, b"the old rows"))
    for padding in (0, 9_000_000):  # in one request, and in several
        with Wire(gcs_address, altered=(b"the new rows", b"the NEW rows")) as wire:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", wire.address)
            with pytest.raises(UnavailableError, match="did not arrive whole in gs://lakehouse/"):
                Objects(settings).put(NAME, made(tmp_path, b"the new rows" + bytes(padding)))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_address)
        assert read(Objects(settings)) == b"the old rows"


def test_bytes_that_change_on_their_way_back_are_not_read(bucket, tmp_path, monkeypatch):
    bucket_objects(bucket, tmp_path).put(NAME, made(tmp_path, b"rows" * 1000))
    ((variable, address),) = bucket.environment.items()
    with Wire(address, altered=(b"rowsrows", b"rowsROWS")) as wire:
        monkeypatch.setenv(variable, wire.address)
        with pytest.raises(LakehouseError, match="are not those that were put there: remove it"):
            read(bucket_objects(bucket, tmp_path))
    monkeypatch.setenv(variable, address)
    assert read(bucket_objects(bucket, tmp_path)) == b"rows" * 1000


def test_a_flipped_byte_in_a_folder_or_in_a_copy_is_noticed(objects, store, tmp_path):
    objects.put(NAME, made(tmp_path, b"rows"))
    with objects.local(NAME) as local:
        path = local.path
        status = path.stat()
    path.write_bytes(b"rowz")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    if store.kind == "folder":
        with pytest.raises(LakehouseError, match="are not those that were put there"):
            read(objects)
    else:
        assert read(objects) == b"rows"


def test_killed_while_it_uploads_the_old_object_stays(bucket, tmp_path, monkeypatch):
    objects = bucket_objects(bucket, tmp_path)
    objects.put(NAME, made(tmp_path, b"the old rows"))
    new = made(tmp_path, bytes(40_000_000), "new.parquet")
    ((variable, address),) = bucket.environment.items()
    with Wire(address, stops_at=5_000_000) as wire:
        monkeypatch.setenv(variable, wire.address)
        process = child(PUT, bucket, tmp_path / "home", NAME, str(new))
        process.stdin.write("\n")
        process.stdin.flush()
        assert wire.stopped.wait(30)
        process.kill()
        process.communicate()
    monkeypatch.setenv(variable, address)
    assert read(bucket_objects(bucket, tmp_path)) == b"the old rows"
    objects.put(NAME, new)
    assert read(objects) == new.read_bytes()


def test_killed_at_any_moment_a_folder_has_a_whole_object(tmp_path):
    store = Store("folder", str(tmp_path / "store"))
    objects = bucket_objects(store, tmp_path)
    old, new = made(tmp_path, b"old" * 9_000_000, "old"), made(tmp_path, b"new" * 9_000_000, "new")
    process = child(PUT, store, tmp_path / "home", NAME, *([str(old), str(new)] * 200))
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()
    while objects.stat(NAME) is None:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert read(objects) in (old.read_bytes(), new.read_bytes())
    (stored,) = objects.put(NAME, new)
    assert objects.stat(NAME) == stored
    assert read(objects) == new.read_bytes()
    assert [name for name, _ in objects.list()] == [NAME]


def test_what_a_crash_left_in_a_folder_is_removed_after_a_day(tmp_path):
    store = Store("folder", str(tmp_path / "store"))
    left = tmp_path / "store" / "data" / ".a.parquet.0.part"
    younger = left.with_name(".a.parquet.1.part")
    left.parent.mkdir(parents=True)
    for part in (left, younger):
        part.write_bytes(b"half")
    os.utime(left, (1, 1))
    bucket_objects(store, tmp_path).put("data/a.parquet", made(tmp_path, b"rows"))
    assert not left.exists()
    assert younger.exists()


def test_two_processes_that_put_one_name_leave_one_of_their_files(
    objects, store, tmp_path, monkeypatch
):
    # moto answers 500 now and then, when two write one key at once.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "8")
    files = [made(tmp_path, bytes([n]) * 1_000_000, f"{n}.parquet") for n in range(2)]
    contents = {file.read_bytes() for file in files}
    names = [str(file) for file in files]
    putters = [
        child(PUT, store, tmp_path / "home", NAME, *turn * 4) for turn in (names, names[::-1])
    ]
    for putter in putters:
        assert putter.stdout.readline() == "ready\n"
    for putter in putters:
        putter.stdin.write("\n")
        putter.stdin.flush()
    while any(putter.poll() is None for putter in putters):
        if objects.stat(NAME):
            # One that is replaced each time it is read is worth another try.
            with suppress(UnavailableError):
                assert read(objects) in contents
        time.sleep(0.05)
    for putter in putters:
        putter.communicate()
    assert [putter.returncode for putter in putters] == [0, 0]
    assert read(objects) in contents
    assert objects.stat(NAME).sha256 == hashlib.sha256(read(objects)).hexdigest()


def test_two_processes_that_read_one_object_have_it_whole(request, tmp_path, monkeypatch):
    bucket = make_store("s3", request)
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.environment["AWS_ENDPOINT_URL"])
    content = os.urandom(5_000_000)
    bucket_objects(bucket, tmp_path).put("a/b", made(tmp_path, content))
    readers = [child(READ, bucket, tmp_path / "home") for _ in range(2)]
    answers = {reader.communicate(timeout=60)[0].strip() for reader in readers}
    assert answers == {hashlib.sha256(content).hexdigest()}
    assert len(list((tmp_path / "home/cache/objects").iterdir())) == 1


def test_a_copy_is_downloaded_once_for_each_version(bucket, tmp_path):
    objects = bucket_objects(bucket, tmp_path)
    objects.put(NAME, made(tmp_path, b"rows"))
    with objects.local(NAME) as first, objects.local(NAME) as second:
        assert first == second
        assert first.path.name.endswith("-green_tripdata_2020-03.parquet")
        inode = first.path.stat().st_ino
    with objects.local(NAME) as third:
        assert third.path.stat().st_ino == inode
    objects.put(NAME, made(tmp_path, b"more rows"))
    with objects.local(NAME) as fourth:
        assert fourth.path != first.path


def test_the_oldest_copies_are_removed_but_not_while_they_are_read(bucket, tmp_path):
    objects = bucket_objects(bucket, tmp_path)
    for number in range(COPIES + 4):
        objects.put(f"{number}", made(tmp_path, str(number).encode()))
    with objects.local("0") as oldest:
        for number in range(1, COPIES + 4):
            assert read(objects, f"{number}") == str(number).encode()
        assert oldest.path.read_bytes() == b"0"
        kept = {path.name.rpartition("-")[2] for path in oldest.path.parent.iterdir()}
        assert kept == {"0"} | {str(number) for number in range(4, COPIES + 4)}
    read(objects, "11")
    assert not oldest.path.exists()


def test_a_download_that_broke_off_is_forgotten(bucket, tmp_path):
    objects = bucket_objects(bucket, tmp_path)
    objects.put(NAME, made(tmp_path, b"rows"))
    cache = tmp_path / "home/cache/objects"
    cache.mkdir(parents=True)
    left = cache / ".0.part"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    assert read(objects) == b"rows"
    assert not left.exists()


def test_memory_does_not_grow_with_the_file(store, tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    for file, size in ((small, 9_000_000), (large, 300_000_000)):
        file.touch()
        os.truncate(file, size)
    process = child(MEMORY, store, tmp_path / "home", str(small), str(large))
    first, second = map(int, process.communicate(timeout=120)[0].split())
    assert second - first < 150, f"{first} MB, then {second} MB"


@pytest.fixture
def local(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Settings]:
    settings = Settings(home=tmp_path / "home", gcs_port=free_port())
    yield settings
    GcsService(settings).stop()


def test_without_a_setting_the_local_service_is_started_and_keeps_it(local, tmp_path):
    objects = Objects(local)
    assert objects.uri(NAME) == f"gs://lakehouse/{NAME}"
    assert not GcsService(local).status().running
    objects.put(NAME, made(tmp_path, b"rows"))
    GcsService(local).stop()
    assert read(objects) == b"rows"
    assert GcsService(local).status().running


def test_the_local_service_needs_no_account_and_no_proxy(local, tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing"))
    monkeypatch.delenv("NO_PROXY")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    Objects(local).put(NAME, made(tmp_path, b"rows"))
    assert read(Objects(local)) == b"rows"


def test_an_emulator_that_the_environment_names_is_used(local, gcs_address, tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_address)
    Objects(local).put("elsewhere", made(tmp_path, b"rows"))
    assert not GcsService(local).status().running


def test_importing_it_brings_no_client(tmp_path):
    code = (
        "import sys, lakehouse.resources.objects\n"
        "print({'boto3', 'google.cloud.storage', 'dagster'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"
