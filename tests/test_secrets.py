"""A secret is planted in every setting that can hold one; nothing that is kept or shown has it.

The lakehouse of these tests has all its systems elsewhere, each behind a password, and runs with
every logger of every library at its most talkative.
"""

import base64
import functools
import io
import json
import logging
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import httpx
import polars as pl
import psycopg
import pytest
from boto3.session import Session
from homes import Answer, Home, free_port
from psycopg.sql import SQL, Identifier
from resources.buckets import Buckets, running_buckets
from serving.served import served

from lakehouse.automation.alerts.sensors import build_alerts
from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.instance import open_instance
from lakehouse.resources.bigquery import BigQuery
from lakehouse.resources.http_file import HttpFile
from lakehouse.resources.landing import Patience
from lakehouse.resources.notifier import Notifier
from lakehouse.samples.drives import DRIVE_FOLDER, make_drive_archives
from lakehouse.samples.retail import make_retail_workbook
from lakehouse.samples.taxi import make_taxi_months
from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.services.postgres import PostgresService
from lakehouse.serving.metrics import push
from lakehouse.settings import Settings

MARK = "planted-"
"""How every planted secret begins."""


def secret(name: str) -> str:
    """The secret of a setting."""
    return MARK + name.replace("_", "-")


def _disguises(text: str) -> list[bytes]:
    """How a text looks in hexadecimal and in Base64, wherever it begins there."""
    raw = text.encode()
    ends = [(shift, base64.b64encode(b"\0" * shift + raw)) for shift in range(3)]
    encoded = [code[-(-8 * at // 6) : (at + len(raw)) * 8 // 6] for at, code in ends]
    return [raw, raw.hex().encode(), *encoded]


DISGUISES = _disguises(MARK)


def shows(content: bytes | str) -> bool:
    """Whether a secret is in there, as it is or encoded."""
    found = content.encode(errors="replace") if isinstance(content, str) else content
    return any(disguise in found for disguise in DISGUISES)


# The settings

PLANTED = {
    "source_mirror": f"http://publisher:{secret('source_mirror')}@{{neighbour}}",
    "lake_storage_options": json.dumps({"AWS_SECRET_ACCESS_KEY": secret("lake_storage_options")}),
    "clickhouse_password": secret("clickhouse_password"),
    "clickhouse_reader_password": secret("clickhouse_reader_password"),
    "postgres_url": f"postgresql://lakehouse:{secret('postgres')}@{{postgres}}/lakehouse",
    "dagster_postgres_url": f"postgresql://lakehouse:{secret('postgres')}@{{postgres}}/dagster",
    "alert_urls": f"json://me:{secret('alert')}@{{neighbour}}/{secret('alert_path')}"
    f" json://127.0.0.1:1/{secret('alert_away')}",
    "api_token": secret("api_token"),
    "pushgateway_url": f"http://pusher:{secret('pushgateway')}@{{neighbour}}",
}
"""Every setting that can hold a secret, with one."""


def planted(name: str, neighbour: str, postgres: str) -> str:
    """A setting with its secret, of systems at these hosts and ports."""
    return PLANTED[name].replace("{neighbour}", neighbour).replace("{postgres}", postgres)


REFUSES_ACCOUNTS = {"lake_uri", "clickhouse_url", "objects", "dagster_url", "inbox"}
"""Places whose addresses are shown to everybody: one with an account in it is refused."""

HARMLESS = {
    *("home", "without", "taxi_format", "prices", "inbox_settle_seconds"),
    *("clickhouse_port", "gcs_port", "bigquery_port", "postgres_port", "serve_port", "serve_host"),
    *("clickhouse_user", "clickhouse_reader_user", "cors_origins"),
    *("bigquery_project", "bigquery_dataset", "bigquery_location"),
}
"""Numbers, words, names and a folder."""


def test_every_setting_is_planted_or_known_to_hold_no_secret() -> None:
    secrets = {
        name for name, each in Settings.model_fields.items() if "SecretStr" in str(each.annotation)
    }
    assert secrets <= PLANTED.keys()
    assert Settings.model_fields.keys() == PLANTED.keys() | REFUSES_ACCOUNTS | HARMLESS


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_settings_that_are_printed_show_no_secret(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"LAKEHOUSE_{name.upper()}", planted(name, "127.0.0.1:1", "127.0.0.1:1"))
    settings = Settings()
    assert not shows(f"{settings!r} {settings} {vars(settings)['alert_urls']}")


# A lakehouse all of whose systems ask for a password


class Neighbour:
    """The publisher's mirror, a webhook and a Pushgateway; each lets in who has its password."""

    def __init__(self, mirror: Path) -> None:
        self.messages: list[str] = []
        self.pushed: list[str] = []
        self.files: set[str] = set()
        neighbour = self

        class Handler(SimpleHTTPRequestHandler):
            def do_HEAD(self) -> None:
                if self._may("publisher", secret("source_mirror")):
                    super().do_HEAD()

            def do_GET(self) -> None:
                if self._may("publisher", secret("source_mirror")):
                    neighbour.files.add(self.path)
                    super().do_GET()

            def do_POST(self) -> None:
                if self._may("me", secret("alert")):
                    neighbour.messages.append(self._body())
                    self._answer(200)

            def do_PUT(self) -> None:
                if self._may("pusher", secret("pushgateway")):
                    neighbour.pushed.append(self._body())
                    self._answer(200)

            def _may(self, user: str, password: str) -> bool:
                expected = base64.b64encode(f"{user}:{password}".encode()).decode()
                may = self.headers.get("Authorization") == f"Basic {expected}"
                if not may:
                    self._answer(401)
                return may

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _body(self) -> str:
                return self.rfile.read(int(self.headers["Content-Length"])).decode()

            def log_message(self, *_: object) -> None:
                """Keeps the tests' output clean."""

        handler = functools.partial(Handler, directory=str(mirror))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class World:
    """What is around the lakehouse, and how the lakehouse is told of it."""

    neighbour: Neighbour
    buckets: Buckets
    postgres: str
    clickhouse: str

    @property
    def variables(self) -> dict[str, str]:
        secrets = {name: planted(name, self.neighbour.address, self.postgres) for name in PLANTED}
        del secrets["dagster_postgres_url"]  # slow; one test has it
        elsewhere = {
            "objects": "s3://lake/objects",
            "clickhouse_url": self.clickhouse,
            "without": "bigquery",
        }
        return {f"LAKEHOUSE_{name.upper()}": value for name, value in (secrets | elsewhere).items()}


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, clickhouse_service: ClickHouseService
) -> Iterator[World]:
    root = tmp_path_factory.mktemp("world")
    make_drive_archives(root / "mirror", months=["2018-02"], drives=20)
    make_taxi_months(root / "mirror", months={"green": ("2020-01",)}, trips=1000)
    make_retail_workbook(root / "mirror")
    # A month of the archive before, which cannot be read.
    (root / "mirror" / DRIVE_FOLDER / "data_Q2_2018.zip").write_bytes(b"PK\x03\x04, cut short")
    neighbour = Neighbour(root / "mirror")
    service = PostgresService(Settings(home=root / "postgres", postgres_port=free_port()))
    service.start()
    with psycopg.connect(service.owner_url().get_secret_value(), autocommit=True) as connection:
        connection.execute(SQL("ALTER ROLE lakehouse PASSWORD {}").format(secret("postgres")))
        connection.execute("CREATE DATABASE dagster")
    keys = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": secret("aws"),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "NO_PROXY": "127.0.0.1",
    }
    with running_buckets(free_port()) as buckets, pytest.MonkeyPatch.context() as patch:
        for name, value in (keys | {"AWS_ENDPOINT_URL": buckets.address}).items():
            patch.setenv(name, value)
        try:
            yield World(
                neighbour,
                buckets,
                f"127.0.0.1:{service.port}",
                clickhouse_service.status().address,
            )
        finally:
            neighbour.close()
            service.stop()


@dataclass
class Lived:
    """A lakehouse after a day of work, and all that it said."""

    home: Home
    answers: dict[str, Answer] = field(default_factory=dict)
    log: io.StringIO = field(default_factory=io.StringIO)
    served: dict[str, str] = field(default_factory=dict)

    def call(self, *arguments: str) -> None:
        with talkative(self.log):
            self.answers[" ".join(arguments)] = self.home.call(*arguments)


@contextmanager
def talkative(log: io.StringIO) -> Iterator[None]:
    """Everything that any library logs goes there."""
    root = logging.getLogger()
    handler = logging.StreamHandler(log)
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with redirect_stdout(log), redirect_stderr(log):
            yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


COMMANDS = (
    ("backfill", "drives", "--from", "2018-02"),
    ("backfill", "taxi", "--service", "green", "--from", "2020-01"),
    ("backfill", "retail", "--from", "2010-12"),
    ("status",),
    ("status", "--cost"),
    ("query", "SELECT count() FROM drives.daily_summary"),
    ("query", "SELECT * FROM nowhere"),
    ("ps",),
    ("verify",),
    ("rejects", "drives"),
    ("history", "drives/silver/drive_days"),
)
WRONG = ("backfill", "drives", "--from", "2018-04")


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, world: World) -> Lived:
    folder = tmp_path_factory.mktemp("lived")
    home = Home(folder / "home", folder / "mirror", world.variables)
    lived = Lived(home)
    for command in COMMANDS:
        lived.call(*command)
    lived.answers["as a process"] = home.run("status")
    _alert(lived)
    _serve(lived)
    return lived


def _alert(lived: Lived) -> None:
    """A backfill fails, and the sensor tells of it."""
    clock = [time.time()]
    with environment(lived.home), talkative(lived.log):
        settings = Settings()
        resources = {"notifier": Notifier(settings.alert_urls)}
        definitions = dg.Definitions(
            sensors=build_alerts(settings.dagster_url, lambda: clock[0]), resources=resources
        )
        alerts = definitions.resolve_sensor_def("alerts")
        with open_instance(settings) as instance:
            context = dg.build_sensor_context(instance, resources=resources)
            cursor = alerts.evaluate_tick(context).cursor
            lived.answers[" ".join(WRONG)] = lived.home.call(*WRONG)
            for now in (time.time(), time.time() + 3600):
                clock[0] = now
                context = dg.build_sensor_context(instance, cursor=cursor, resources=resources)
                cursor = alerts.evaluate_tick(context).cursor
    lived.served["the sensor's cursor"] = str(cursor)


PAGES = (
    *("/drives", "/taxi", "/retail", "/health", "/metrics", "/healthz", "/readyz"),
    *("/api/openapi.json", "/api/datasets", "/api/failing_checks", "/api/rejects"),
    *("/api/daily_summary", "/api/nothing", "/api/daily_summary?from=yesterday"),
)


def _serve(lived: Lived) -> None:
    port = free_port()
    with lived.home.start("serve", "--port", str(port)) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as stranger:
                _wait_for(stranger)
                for page in ("/drives", "/api/datasets"):
                    lived.served[f"{page} without token"] = _all_of(stranger.get(page))
                for page in PAGES:
                    answer = stranger.get(page, auth=("me", secret("api_token")))
                    lived.served[page] = _all_of(answer)
        finally:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    lived.answers["serve"] = Answer(process.returncode, said + out, err)


def _wait_for(client: httpx.Client) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            client.get("/healthz")
        except httpx.TransportError:
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


def _all_of(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.headers}\n{answer.text}"


@contextmanager
def environment(home: Home, **variables: str) -> Iterator[None]:
    """What a process of the lakehouse finds in its environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (home.environment | variables).items():
            patch.setenv(name, value)
        patch.delenv("DAGSTER_HOME", raising=False)
        yield


def test_the_secrets_were_used(world: World, lived: Lived) -> None:
    """Else it would say nothing that they do not show."""
    codes = {command: answer.code for command, answer in lived.answers.items()}
    wrong = {" ".join(WRONG): 1, "query SELECT * FROM nowhere": 2}
    assert codes == dict.fromkeys(codes, 0) | wrong, lived.answers
    assert any(path.endswith("data_Q1_2018.zip") for path in world.neighbour.files)
    assert "lakehouse_asset_rows" in world.neighbour.pushed[0]
    assert "drives/raw/archive: " in world.neighbour.messages[0]
    assert "address 2 (JSON) did not take it" in lived.log.getvalue()
    assert lived.served["/api/datasets"].startswith("200 ")
    assert lived.served["/drives"].startswith("200 ")
    assert lived.served["/api/datasets without token"].startswith("401 ")
    assert len(lived.log.getvalue()) > 100_000


def test_no_command_says_a_secret(lived: Lived) -> None:
    said = {command: answer.out + answer.err for command, answer in lived.answers.items()}
    assert not [command for command, text in said.items() if shows(text)]


def test_no_log_has_a_secret(lived: Lived) -> None:
    assert not [line for line in lived.log.getvalue().splitlines() if shows(line)]


def test_no_page_no_metric_and_no_message_has_a_secret(world: World, lived: Lived) -> None:
    assert not [page for page, text in lived.served.items() if shows(text)]
    told = world.neighbour.messages + world.neighbour.pushed
    assert not [text for text in told if shows(text)]


def test_no_file_has_a_secret(lived: Lived) -> None:
    assert list(lived.home.folder.rglob("_delta_log/*.json"))
    assert files_that_show(lived.home.folder) == {}


def test_no_object_in_the_bucket_has_a_secret(world: World, lived: Lived) -> None:
    found = []
    bucket = Session().resource("s3", endpoint_url=world.buckets.address).Bucket("lake")
    names = [item.key for item in bucket.objects.all()]
    for name in names:
        content = bucket.Object(name).get()["Body"].read()
        if shows(content) or (name.endswith(".parquet") and shows(text_of(content))):
            found.append(name)
    assert names == ["objects/data/green/green_tripdata_2020-01.parquet"]
    assert found == []


@dg.asset
def made() -> None: ...


def test_no_row_of_a_history_in_postgresql_has_a_secret(
    world: World, troubled: Callable[..., Home]
) -> None:
    address = planted("dagster_postgres_url", "", world.postgres)
    home, log = troubled({"DAGSTER_POSTGRES_URL": address}), io.StringIO()
    with environment(home), talkative(log), open_instance(Settings()) as instance:
        assert dg.materialize([made], instance=instance).success
        assert not shows(str(instance.info_dict()))
    tables = rows_of(address)
    assert any("ASSET_MATERIALIZATION" in row for row in tables["event_logs"])
    assert not [name for name, rows in tables.items() if any(map(shows, rows))]
    assert not shows(log.getvalue())


def rows_of(address: str) -> dict[str, list[str]]:
    """Every row of every table of a database, as text."""
    with psycopg.connect(address) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        return {
            name: [
                text
                for (text,) in connection.execute(
                    SQL("SELECT t::text FROM {} t").format(Identifier(name))
                )
            ]
            for (name,) in tables
        }


def files_that_show(folder: Path) -> dict[str, int]:
    """The files below a folder that show a secret, and their modes."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        packed = path.suffix == ".parquet"
        if shows(content) or (packed and shows(text_of(content))):
            found[path.relative_to(folder).as_posix()] = stat.S_IMODE(path.stat().st_mode)
    return found


def text_of(parquet: bytes) -> str:
    return pl.read_parquet(io.BytesIO(parquet)).select(pl.col(pl.String)).write_csv()


# A lakehouse whose systems are away, or do not let it in


def away(name: str) -> str:
    """An account where nothing listens."""
    return f"me:{secret(name)}@127.0.0.1:1"


DRIVES = ("backfill", "drives", "--from", "2018-02")
TAXI = ("backfill", "taxi", "--service", "green", "--from", "2020-01")
FAILURES: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "the mirror refuses": (
        {"SOURCE_MIRROR": f"http://publisher:{secret('wrong')}@{{neighbour}}"},
        DRIVES,
        "was refused with HTTP 401",
    ),
    "ClickHouse is away": (
        {"CLICKHOUSE_URL": "http://127.0.0.1:1"},
        DRIVES,
        "ClickHouse at http://127.0.0.1:1 does not answer",
    ),
    "PostgreSQL is away": (
        {"POSTGRES_URL": f"postgresql://{away('postgres_away')}/trips"},
        TAXI,
        "PostgreSQL at 127.0.0.1:1 does not answer",
    ),
    "PostgreSQL refuses": (
        {"POSTGRES_URL": f"postgresql://lakehouse:{secret('wrong')}@{{postgres}}/lakehouse"},
        TAXI,
        "refuses the connection: password authentication failed",
    ),
    "the objects are away": (
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"},
        TAXI,
        "S3 does not answer for s3://lake/objects",
    ),
    "the lake is away": (
        {
            "LAKE_URI": "s3://lake/tables",
            "LAKE_STORAGE_OPTIONS": json.dumps(
                {
                    "AWS_SECRET_ACCESS_KEY": secret("lake_away"),
                    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
                    "max_retries": "0",
                }
            ),
        },
        DRIVES,
        "",
    ),
    "Dagster's history is away": (
        {"DAGSTER_POSTGRES_URL": f"postgresql://{away('dagster_away')}/dagster"},
        DRIVES,
        "PostgreSQL at 127.0.0.1:1, which keeps Dagster's history, does not answer",
    ),
    "Dagster's history refuses": (
        {"DAGSTER_POSTGRES_URL": f"postgresql://lakehouse:{secret('wrong')}@{{postgres}}/dagster"},
        DRIVES,
        "refuses the account: check LAKEHOUSE_DAGSTER_POSTGRES_URL",
    ),
}


@pytest.fixture
def troubled(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Home]:
    """Makes lakehouses with other settings, whose history is a file below the home."""
    monkeypatch.setattr("lakehouse.assets.building._FIRST_WAIT", 0)

    def make(changes: Mapping[str, str]) -> Home:
        ours = world.variables
        for name, value in changes.items():
            known = name if name.startswith("AWS") else f"LAKEHOUSE_{name}"
            ours[known] = value.replace("{neighbour}", world.neighbour.address).replace(
                "{postgres}", world.postgres
            )
        return Home(tmp_path / "home", tmp_path / "mirror", ours)

    return make


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_shows_no_secret(failure: str, troubled: Callable[..., Home]) -> None:
    changes, command, says = FAILURES[failure]
    home, log = troubled(changes), io.StringIO()
    with talkative(log):
        # What is no sentence yet is a traceback, which a process of its own shows.
        call = home.run if failure == "the lake is away" else home.call
        answers = [call(*command), call("status")]
    said = "".join(answer.out + answer.err for answer in answers) + log.getvalue()
    assert answers[0].code == 1, said
    assert says in said
    assert not [line for line in said.splitlines() if shows(line)]
    assert files_that_show(home.folder) == {}


def test_a_publisher_that_is_away_is_named_without_the_account() -> None:
    log = io.StringIO()
    file = HttpFile(f"http://{away('source_mirror')}/a.zip", Patience(attempts=2, first=0.01))
    with (
        talkative(log),
        pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:1/a\.zip") as error,
    ):
        file.probe()
    assert not shows(str(error.value) + log.getvalue())


def test_a_gateway_that_does_not_take_metrics_is_named_without_the_account(
    world: World, lived: Lived
) -> None:
    log = io.StringIO()
    for account in (f"pusher:{secret('wrong')}@{world.neighbour.address}", away("gateway")):
        gateway = f"http://{account}"
        with environment(lived.home, LAKEHOUSE_PUSHGATEWAY_URL=gateway), talkative(log):
            push(Settings())
    for address in (world.neighbour.address, "127.0.0.1:1"):
        assert f"The metrics could not be pushed to http://{address} (" in log.getvalue()
    assert not shows(log.getvalue())


def test_what_is_served_while_clickhouse_is_away_shows_no_secret(lived: Lived) -> None:
    log = io.StringIO()
    with environment(lived.home, LAKEHOUSE_CLICKHOUSE_URL="http://127.0.0.1:1"), talkative(log):
        token = {"Authorization": f"Bearer {secret('api_token')}"}
        with served(Settings(), headers=token) as client:
            answers = [client.get(page) for page in ("/api/daily_summary", "/readyz", "/metrics")]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert not shows("".join(map(_all_of, answers)) + log.getvalue())


def test_a_google_key_shows_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = {
        "type": "service_account",
        "project_id": "p",
        "client_email": "me@p.example",
        "private_key_id": secret("key_id"),
        "private_key": f"-----BEGIN PRIVATE KEY-----\n{secret('key')}\n-----END PRIVATE KEY-----\n",
        "token_uri": "http://127.0.0.1:1/token",
    }
    (tmp_path / "key.json").write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    log = io.StringIO()
    with talkative(log), pytest.raises(LakehouseError) as error:
        BigQuery(Settings(home=tmp_path, bigquery_project="p")).query("SELECT 1")
    assert not shows(str(error.value) + log.getvalue())


# Settings that are not as they should be


MALFORMED = {
    "LAKE_URI": f"s3://key:{secret('lake')}@bucket",
    "INBOX": f"s3://key:{secret('inbox')}/x@bucket?region=eu-west-1",
    "DAGSTER_URL": f"https://me:{secret('dagster')}@dagster.example",
    "SOURCE_MIRROR": f"http://me:{secret('mirror')}/x@mirror.example",
    "PUSHGATEWAY_URL": f"me:{secret('gateway')}@gateway.example",
    "DAGSTER_POSTGRES_URL": f"postgresql://me:a@{secret('dagster')}@db.example/dagster",
    "LAKE_STORAGE_OPTIONS": f'{{"AWS_SECRET_ACCESS_KEY": {secret("lake")}',
    "lake_storage_options": json.dumps({"AWS_SECRET_ACCESS_KEY": [secret("lake")]}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_setting_that_cannot_be_used_is_named_without_its_value(
    name: str, tmp_path: Path
) -> None:
    home = Home(
        tmp_path / "home",
        tmp_path / "mirror",
        variables={f"LAKEHOUSE_{name.upper()}": MALFORMED[name]},
    )
    answer = home.call("ps")
    assert answer.code == 2
    assert f"LAKEHOUSE_{name.upper()}" in answer.sentence
    assert not shows(answer.sentence)
    with environment(home), pytest.raises(ValueError, match=name.lower()) as error:
        Settings()
    assert not shows(str(error.value))


@pytest.mark.parametrize(
    ("name", "address", "command"),
    [
        ("CLICKHOUSE_URL", f"http://{away('clickhouse')}", ("query", "SELECT 1")),
        ("OBJECTS", f"s3://key:{secret('objects')}@bucket", TAXI),
        ("POSTGRES_URL", f"postgresql://me:{secret('postgres')}/x@db.example/trips", TAXI),
        ("POSTGRES_URL", f"postgresql://me:a@{secret('postgres')}@db.example/trips", TAXI),
    ],
)
def test_an_address_that_cannot_be_used_is_not_repeated(
    name: str, address: str, command: tuple[str, ...], troubled: Callable[..., Home]
) -> None:
    home = troubled({name: address})
    answer = home.call(*command)
    assert answer.code in (1, 2)
    assert f"LAKEHOUSE_{name}" in answer.out + answer.err
    assert not shows(answer.out + answer.err)
    assert files_that_show(home.folder) == {}


# The services of this machine


KEPT_BY_SERVICES = {
    # Where libpq, and with it the writer's connection, finds them; by nobody else's account.
    "services/postgres/pgpass": 0o600,
}
"""Files that hold a password, and their modes. ClickHouse's has the hash of the reader's."""


def test_the_services_passwords_are_in_private_files_alone(
    tmp_path: Path, make_home: Callable[..., Home]
) -> None:
    make_taxi_months(tmp_path / "mirror", months={"green": ("2020-01",)}, trips=1000)
    reader = secret("clickhouse_reader_password")
    home = make_home(
        tmp_path / "mirror",
        variables={
            "LAKEHOUSE_WITHOUT": "bigquery",
            "LAKEHOUSE_OBJECTS": str(tmp_path / "objects"),
            "LAKEHOUSE_CLICKHOUSE_READER_PASSWORD": reader,
        },
    )
    backfilled = home.call(*TAXI)
    answers = [backfilled, *(home.call(*command) for command in (("ps",), ("query", "SELECT 1")))]
    assert [answer.code for answer in answers] == [0, 0, 0], backfilled

    folder = home.folder / "services"
    made = [line.split(":")[-1] for line in (folder / "postgres/pgpass").read_text().splitlines()]
    passwords = [text.encode() for text in (*made, reader)]
    holding = {
        path.relative_to(home.folder).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in home.folder.rglob("*")
        if path.is_file() and any(password in path.read_bytes() for password in passwords)
    }
    assert len(passwords) == 3
    assert holding == KEPT_BY_SERVICES
    assert stat.S_IMODE((folder / "clickhouse" / "users.xml").stat().st_mode) == 0o600
    said = "".join(answer.out + answer.err for answer in answers).encode()
    assert not any(password in said for password in passwords)
