"""A web server on this machine that misbehaves as publishers do, page by page."""

import gzip
import re
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass
class Page:
    """A file that is published, and what goes wrong with it."""

    body: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = "Wed, 01 Jan 2025 00:00:00 GMT"
    content_type: str = "application/zip"
    headers: dict[str, str] = field(default_factory=dict)
    heads_allowed: bool = True
    ranges_obeyed: bool = True
    if_range_obeyed: bool = True
    gzips_if_asked: bool = False
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses and headers that the first requests get."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the connection breaks, for the first downloads."""
    stalls_at: int | None = None
    """After how many bytes nothing more comes."""
    announced: int | None = None
    """A Content-Length that is not the body's."""
    content_range: str | None = None
    """A Content-Range that is not the one asked for."""
    seconds: float = 0.0
    """How long a download takes to begin."""
    then: "Page | None" = None
    """What is published in its place once a download has begun."""


class MisbehavingServer:
    """Serves `pages`, by path, and counts what was asked for and sent."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[str | None] = []
        self.bytes_sent = 0
        self.closing = threading.Event()
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._httpd.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._httpd.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._httpd.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._httpd.shutdown()
        self._httpd.server_close()


def _handler(server: MisbehavingServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer("HEAD")

        def do_GET(self) -> None:
            self._answer("GET")

        def _answer(self, method: str) -> None:
            server.requests[method] += 1
            page = server.pages.get(self.path)
            if page is None:
                self._send(404, {"Content-Length": "0"})
            elif method == "HEAD" and not page.heads_allowed:
                self._send(405, {"Content-Length": "0"})
            elif page.failures:
                status, headers = page.failures.pop(0)
                self._send(status, {"Content-Length": "0"} | headers)
            elif method == "HEAD":
                self._send(200, _described(page) | {"Content-Length": str(len(page.body))})
            else:
                self._download(page)

        def _download(self, page: Page) -> None:
            server.ranges.append(self.headers["Range"])
            time.sleep(page.seconds)
            if page.then:
                server.pages[self.path] = page.then
            status, headers, body = self._selected(page)
            stops_at = page.cuts.pop(0) if page.cuts else page.stalls_at
            # First: a client that needs the headers alone may be done before the body is sent.
            server.bytes_sent += len(body[:stops_at])
            self._send(status, _described(page) | headers)
            with suppress(ConnectionError):
                self.wfile.write(body[:stops_at])
            if stops_at is not None and stops_at == page.stalls_at:
                server.closing.wait(30)
            self.close_connection = True

        def _selected(self, page: Page) -> tuple[int, dict[str, str], bytes]:
            if page.gzips_if_asked and "gzip" in self.headers["Accept-Encoding"]:
                zipped = gzip.compress(page.body)
                return 200, {"Content-Encoding": "gzip", "Content-Length": str(len(zipped))}, zipped
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
            expected = self.headers["If-Range"]
            is_same = expected in (None, page.etag or page.last_modified)
            is_same = is_same or not page.if_range_obeyed
            size = len(page.body)
            if not asked or not page.ranges_obeyed or not is_same:
                return 200, {"Content-Length": str(page.announced or size)}, page.body
            start = int(asked[1])
            if start >= size:
                return 416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"}, b""
            body = page.body[start : int(asked[2]) + 1 if asked[2] else None]
            content_range = page.content_range or f"bytes {start}-{start + len(body) - 1}/{size}"
            return 206, {"Content-Range": content_range, "Content-Length": str(len(body))}, body

        def _send(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    return Handler


def _described(page: Page) -> dict[str, str]:
    headers = {
        "ETag": page.etag,
        "Last-Modified": page.last_modified,
        "Content-Type": page.content_type,
    }
    return {name: value for name, value in headers.items() if value} | page.headers
