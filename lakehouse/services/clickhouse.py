"""The ClickHouse server of this machine: HTTP on loopback, a writer and a read-only account."""

import hashlib
import re
import sys
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from xml.sax.saxutils import escape

from lakehouse.errors import LakehouseError
from lakehouse.services.process import LocalService, ServiceStatus
from lakehouse.services.programs import chdb_library, clickhouse_program
from lakehouse.settings import Settings

PUBLISHED_DATABASES = (
    *("drives", "taxi"),
    *("raw", "vault", "marts", "quality", "quality_failures"),
)
"""What the reader account may read."""

_ANSWER_BYTES = 128 * 1024**2
"""What an answer may have before it is put into a file until it is whole, of which libchdb does not
notice that it was never written: on a full disk the answer would be empty."""

_NETWORKS = "<networks><ip>127.0.0.1</ip><ip>::1</ip></networks>"

_CONFIG = """\
<clickhouse>
  <logger><level>warning</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{port}</http_port>
  <path>{data}/</path>
  <tmp_path>{data}/tmp/</tmp_path>
  <user_files_path>{data}/user_files/</user_files_path>
  <user_directories><users_xml><path>{users}</path></users_xml></user_directories>
</clickhouse>
"""

# The server's own session logs in as `default`, so that account cannot have a password.
# The settings at the end of the constraints name files, which libchdb would read or write.
_USERS = """\
<clickhouse>
  <profiles>
    <default>
      <http_response_buffer_size>{answer_bytes}</http_response_buffer_size>
    </default>
    <reader>
      <http_response_buffer_size>{answer_bytes}</http_response_buffer_size>
      <readonly>2</readonly>
      <max_execution_time>60</max_execution_time>
      <max_memory_usage>4000000000</max_memory_usage>
      <max_result_rows>10000000</max_result_rows>
      <constraints>
        <max_execution_time><readonly/></max_execution_time>
        <max_memory_usage><readonly/></max_memory_usage>
        <max_result_rows><readonly/></max_result_rows>
        <format_schema><readonly/></format_schema>
        <format_template_resultset><readonly/></format_template_resultset>
        <format_template_row><readonly/></format_template_row>
        <input_format_record_errors_file_path><readonly/></input_format_record_errors_file_path>
        <output_format_schema><readonly/></output_format_schema>
      </constraints>
    </reader>
  </profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <no_password/>
      {networks}
      <profile>default</profile>
      <quota>default</quota>
    </default>
    <{reader}>
      {password}
      {networks}
      <profile>reader</profile>
      <quota>default</quota>
      <grants>{grants}</grants>
    </{reader}>
  </users>
</clickhouse>
"""


class ClickHouseService(LocalService):
    """ClickHouse on `settings.clickhouse_port`.

    Run from libchdb, ClickHouse does not confine `file('/path')` and `sqlite('/path', 't')`, with
    which a reader could read any file that the process can, and make empty ones. It looks every
    path up from the folder that it works in, so that is removed once the server answers: then it
    finds none. Besides, `chdb_server` has the kernel leave the process no files but its data.
    """

    name = "clickhouse"
    title = "ClickHouse"
    port_variable = "LAKEHOUSE_CLICKHOUSE_PORT"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, settings.clickhouse_port)

    @property
    def working_folder(self) -> Path:
        """A folder for nothing else."""
        return self.folder / "working"

    def start(self) -> ServiceStatus:
        """As any service; from libchdb, without the folder that it works in from then on."""
        status = super().start()
        if not clickhouse_program():
            with suppress(FileNotFoundError):
                self.working_folder.rmdir()
        return status

    def command(self) -> list[str]:
        """Writes the server's configuration and returns the program and its arguments.

        Raises:
            LakehouseError: the reader's name is not one, or the program is missing.
            UnavailableError: the program cannot be fetched.
        """
        config, users = self.folder / "config.xml", self.folder / "users.xml"
        _write_private(users, _users_xml(self.settings))
        _write_private(
            config,
            _CONFIG.format(port=self.port, data=escape(str(self.data)), users=escape(str(users))),
        )
        if program := clickhouse_program():
            # Without its watchdog, the process that is started is the one that listens.
            environment = ["env", "CLICKHOUSE_WATCHDOG_ENABLE=0"]
            return [*environment, program, "server", f"--config-file={config}"]
        library = chdb_library(self.settings.cache)
        paths = map(str, (library, config, users, self.data))
        return [sys.executable, "-m", "lakehouse.services.chdb_server", *paths]

    def address(self, port: int) -> str:
        """The HTTP address of the server."""
        return f"http://127.0.0.1:{port}"

    def ready(self, port: int) -> bool:
        """Whether the server answers a query."""
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/?query=SELECT+1")
            return connection.getresponse().read() == b"1\n"
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def _users_xml(settings: Settings) -> str:
    reader = settings.clickhouse_reader_user
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", reader) or reader == "default":
        raise LakehouseError(
            "LAKEHOUSE_CLICKHOUSE_READER_USER must be letters, digits and underscores, "
            "and not `default`."
        )
    password = settings.clickhouse_reader_password.get_secret_value()
    digest = hashlib.sha256(password.encode()).hexdigest()
    return _USERS.format(
        answer_bytes=_ANSWER_BYTES,
        networks=_NETWORKS,
        reader=reader,
        password=f"<password_sha256_hex>{digest}</password_sha256_hex>"
        if password
        else "<no_password/>",
        grants="".join(f"<query>GRANT SELECT ON {db}.*</query>" for db in PUBLISHED_DATABASES),
    )


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
