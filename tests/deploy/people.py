"""Those who are told: a webhook, Slack's incoming webhook, and a mail server; real and small."""

import base64
import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class People:
    """What they got.

    Attributes:
        webhook, mail: Where they are found.
        alerts: What Alertmanager posted to the webhook.
        slack: What it posted to Slack.
        mails: What it mailed.
        refused: What came without the token or the password.
    """

    def __init__(self) -> None:
        self.webhook = ""
        self.mail = ""
        self.alerts: list[dict[str, Any]] = []
        self.slack: list[dict[str, Any]] = []
        self.mails: list[Message] = []
        self.refused: list[str] = []

    def told(self, alert: str, status: str = "firing") -> list[dict[str, Any]]:
        """The webhook's messages of this alert."""
        return [
            message
            for message in self.alerts
            if message["groupLabels"]["alertname"] == alert and message["status"] == status
        ]


@contextmanager
def people() -> Iterator[People]:
    """A webhook and a mail server that listen."""
    them = People()
    web = ThreadingHTTPServer(("127.0.0.1", 0), _web_handler(them))
    mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _mail_handler(them))
    them.webhook = f"http://127.0.0.1:{web.server_address[1]}"
    them.mail = f"127.0.0.1:{mail.server_address[1]}"
    for server in (web, mail):
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield them
    finally:
        for server in (web, mail):
            server.shutdown()
            server.server_close()


def _web_handler(them: People) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/slack":
                them.slack.append(message)
            elif self.headers["Authorization"] == "Bearer the-token":
                them.alerts.append(message)
            else:
                them.refused.append(f"webhook: {self.headers['Authorization']}")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Keeps the tests' output clean."""

    return Handler


def _mail_handler(them: People) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        """As much of SMTP as one mail needs."""

        def handle(self) -> None:
            self._say("220 mail.example.org ESMTP")
            while line := self.rfile.readline():
                verb = line.split()[0].upper().decode()
                if verb == "EHLO":
                    self._say("250-mail.example.org", "250 AUTH PLAIN LOGIN")
                elif verb == "AUTH":
                    self._authenticate(line.split()[1:])
                elif verb == "DATA":
                    self._say("354 go on")
                    them.mails.append(message_from_bytes(self._data()))
                    self._say("250 taken")
                else:
                    self._say("221 bye" if verb == "QUIT" else "250 ok")

        def _authenticate(self, words: list[bytes]) -> None:
            secret = base64.b64decode(words[1]).split(b"\0")[-1]
            if secret == b"the-password":
                self._say("235 come in")
            else:
                them.refused.append("mail: wrong password")
                self._say("535 no")

        def _data(self) -> bytes:
            lines = []
            while (line := self.rfile.readline()) != b".\r\n":
                lines.append(line)
            return b"".join(lines)

        def _say(self, *lines: str) -> None:
            self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

    return Handler
