"""A real webhook, on a port of its own, that can go down and come back."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest


class Webhook:
    """Collects the messages that apprise posts to `address`."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        self._server = self._listen(port=0)
        self._port = self._server.server_port

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self._port}/the-secret-token"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    def go_down(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def come_back(self) -> None:
        self._server = self._listen(self._port)

    def _listen(self, port: int) -> ThreadingHTTPServer:
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keeps the tests' output clean."""

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.go_down()


@pytest.fixture
def other_webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.go_down()
