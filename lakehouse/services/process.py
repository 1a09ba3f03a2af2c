"""A local server as a process: started once, found again, stopped."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil
from filelock import FileLock

from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.settings import Settings

_LOOPBACK = "127.0.0.1"
_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0
_LEAST_FREE_BYTES = 1 << 20
# psutil derives the create time from the system clock, which may be adjusted a little meanwhile. Of
# a clock that was set, the port that the process listens on tells that it is the one.
_CREATE_TIME_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True)
class ServiceStatus:
    """What a person wants to know of a local service."""

    name: str
    running: bool
    pid: int | None
    address: str
    data: Path
    log: Path


class LocalService(ABC):
    """A server on 127.0.0.1 whose state lives in `<home>/services/<name>`.

    A subclass says how its program is started and when it is ready.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """The name as people write it, for messages."""
    port_variable: ClassVar[str]
    """The environment variable that sets the port."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    """What the server takes as a request to end at once, and cleanly."""

    def __init__(self, settings: Settings, port: int) -> None:
        self.settings = settings
        self.port = port
        self.folder = settings.state / "services" / self.name
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self._record = self.folder / "service.json"

    @property
    def working_folder(self) -> Path:
        """The folder that the server works in."""
        return self.folder

    @abstractmethod
    def address(self, port: int) -> str:
        """Where clients find a server on this port."""

    @abstractmethod
    def command(self) -> list[str]:
        """Writes the configuration and returns the program and its arguments."""

    @abstractmethod
    def ready(self, port: int) -> bool:
        """Whether the server on this port answers."""

    def status(self) -> ServiceStatus:
        """Whether the server runs, and where its data and log are."""
        process, port = self._find()
        return ServiceStatus(
            name=self.name,
            running=process is not None,
            pid=process.pid if process else None,
            address=self.address(port),
            data=self.data,
            log=self.log,
        )

    def start(self) -> ServiceStatus:
        """Finds the server running, or starts it and waits until it answers.

        Raises:
            LakehouseError: the port is taken, the program is missing, or the server ended.
            UnavailableError: the program cannot be fetched, or the server does not answer in time.
        """
        with self._lock():
            process, port = self._find()
            if process is None:
                self._end_unrecorded()
                self._require_free_port()
                process = self._launch()
            self._wait_until_ready(process, port)
            return self.status()

    def stop(self) -> bool:
        """Stops the server; returns whether it was running."""
        with self._lock():
            process, _ = self._find()
            if process is not None:
                _end(process, self.stop_signal)
            self._record.unlink(missing_ok=True)
            return process is not None

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(self.folder / "service.lock"):
            yield

    def _find(self) -> tuple[psutil.Process | None, int]:
        """The process that an earlier start recorded, if it still is that one, and its port."""
        try:
            record = json.loads(self._record.read_text())
            process = psutil.Process(record["pid"])
            drift = abs(process.create_time() - record["created"])
        except (FileNotFoundError, ValueError, psutil.Error):
            return None, self.port
        is_the_one = drift < _CREATE_TIME_TOLERANCE_SECONDS or _listens(process, record["port"])
        if not is_the_one or _ended(process):
            return None, self.port
        return process, record["port"]

    def _end_unrecorded(self) -> None:
        """Ends a server of this folder that has the port: who started it was killed over it."""
        process = _listener(self.port)
        with suppress(psutil.Error):
            # Every server works in its folder, or in its data.
            if process and Path(process.cwd()).is_relative_to(self.folder):
                _end(process, self.stop_signal)

    def _require_free_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_LOOPBACK, self.port))
            except OSError as error:
                raise LakehouseError(
                    f"{self.title} cannot use port {self.port}, {_holder(self.port)} has it: "
                    f"set {self.port_variable} to a free port."
                ) from error

    def _launch(self) -> psutil.Process:
        self.data.mkdir(exist_ok=True, mode=0o700)
        self.working_folder.mkdir(exist_ok=True)
        command = self.command()
        if self.log.exists():
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        with self.log.open("wb") as log:
            child = subprocess.Popen(
                command,
                cwd=self.working_folder,
                # One time zone everywhere, so that no result depends on the machine's own.
                env={**os.environ, "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = psutil.Process(child.pid)
        record = {"pid": process.pid, "created": process.create_time(), "port": self.port}
        draft = self._record.with_suffix(".tmp")
        try:
            draft.write_text(json.dumps(record))
            draft.replace(self._record)
        except OSError:
            # Nobody would find it again, and it has the port.
            child.kill()
            child.wait()
            raise
        return process

    def _wait_until_ready(self, process: psutil.Process, port: int) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        # A server of another home may answer on the port, so ours must be the one that listens.
        while not (_listens(process, port) and self.ready(port)):
            if _ended(process):
                if shutil.disk_usage(self.folder).free < _LEAST_FREE_BYTES:
                    raise LakehouseError(
                        f"{self.title} ended while it was starting: the disk of {self.folder} is "
                        "full; make room and run again."
                    )
                raise LakehouseError(
                    f"{self.title} ended while it was starting: {_last_line(self.log)} "
                    f"(the log is {self.log})."
                )
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"{self.title} did not answer within {_READY_SECONDS:.0f} seconds: "
                    f"look into {self.log}, then run `lakehouse down` and try again."
                )
            time.sleep(0.02)


def _ended(process: psutil.Process) -> bool:
    try:
        # Of a process that has not been reaped, the last thread to go gives back the port.
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def _end(process: psutil.Process, stop_signal: signal.Signals) -> None:
    """Asks the process to end, and makes it end when it does not."""
    with suppress(psutil.NoSuchProcess):
        for number in (stop_signal, signal.SIGKILL):
            process.send_signal(number)
            deadline = time.monotonic() + _STOP_SECONDS
            while time.monotonic() < deadline:
                if _ended(process):
                    return
                time.sleep(0.02)


def _listens(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.Error):
        return any(_is_listener(c, port) for c in process.net_connections(kind="tcp"))
    return False


def _holder(port: int) -> str:
    """Who listens on the port, as far as the operating system tells."""
    with suppress(psutil.Error):
        if process := _listener(port):
            return f"{process.name()} (process {process.pid})"
    return "another program"


def _listener(port: int) -> psutil.Process | None:
    with suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            if _is_listener(connection, port) and connection.pid:
                return psutil.Process(connection.pid)
    return None


def _is_listener(connection: Any, port: int) -> bool:
    return connection.status == psutil.CONN_LISTEN and connection.laddr.port == port


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote nothing"
