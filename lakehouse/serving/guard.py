"""What stands before every answer: the token, where one is set, and the security headers."""

import base64
import binascii
import hmac
import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = ("/healthz", "/readyz")
_PROGRAMS = ("/api/", "/metrics")

_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
# Vue compiles the dashboard's templates in the browser, hence the eval.
_PAGES = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)


class Guard:
    """Lets nobody pass without the token, and has browsers trust nothing but what is served here.

    Programs send the token as `Authorization: Bearer`; a browser asks people for it as a password,
    with any name.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 401."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        policy = _NOTHING if scope["path"].startswith((*_OPEN, *_PROGRAMS)) else _PAGES

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers["content-security-policy"] = policy
            await send(message)

        if self._token and scope["path"] not in _OPEN and not self._knows(Headers(scope=scope)):
            await _refuse(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)

    def _knows(self, headers: Headers) -> bool:
        kind, _, value = headers.get("authorization", "").partition(" ")
        given = value.strip().encode("latin-1")  # as it came over the wire
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif kind.lower() != "bearer":
            return False
        return hmac.compare_digest(given, self._token)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    challenge = "Bearer" if scope["path"].startswith(_PROGRAMS) else 'Basic realm="lakehouse"'
    detail = "A token is needed: send the header Authorization: Bearer with LAKEHOUSE_API_TOKEN."
    await send(
        {
            "type": "http.response.start",
            "status": 401,
            "headers": [
                (b"content-type", b"application/json"),
                (b"www-authenticate", challenge.encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps({"detail": detail}).encode()})
