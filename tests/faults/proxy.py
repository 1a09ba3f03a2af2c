"""A network between a program and a server that is slow, refuses, or breaks off."""

import socket
import threading
import time
from contextlib import suppress
from typing import Self

_CHUNK = 4096


class Network:
    """Passes connections on to a server on this machine, badly.

    Args:
        port: The server's.
        delay: Seconds that each piece takes on its way.
        refuses: Every how manieth connection is closed at once; 0 refuses none.
        breaks: Every how manieth connection breaks off in the middle; 0 breaks none.
    """

    def __init__(self, port: int, *, delay: float = 0.0, refuses: int = 0, breaks: int = 0) -> None:
        self._to, self._delay, self._refuses, self._breaks = port, delay, refuses, breaks
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.connections = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                if self._refuses and self.connections % self._refuses == 0:
                    client.close()
                    continue
                breaks = bool(self._breaks) and self.connections % self._breaks == 0
                server = socket.create_connection(("127.0.0.1", self._to))
                for way in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(*way, breaks), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, breaks: bool) -> None:
        passed = 0
        with suppress(OSError):
            while piece := one.recv(_CHUNK):
                time.sleep(self._delay)
                passed += len(piece)
                if breaks and passed > 4 * _CHUNK:
                    break
                other.sendall(piece)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
