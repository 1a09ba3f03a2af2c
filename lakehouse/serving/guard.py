"""What stands before every answer: security headers, the token where one is set, and methods."""

import base64
import binascii
import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = ("/healthz", "/readyz")
_PROGRAMS = (*_OPEN, "/metrics", "/api")

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


class Trust:
    """Has browsers trust nothing but what is served here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and put the headers on the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = _NOTHING if _for_programs(scope) else _PAGES

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers["content-security-policy"] = policy
            await send(message)

        await self._app(scope, receive, send_guarded)


class Guard:
    """Lets nobody pass without the token.

    Programs send the token as `Authorization: Bearer`; a browser asks people for it as a password,
    with any name.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 401."""
        asked = self._token and scope["type"] in ("http", "websocket")
        if asked and scope["path"] not in _OPEN and not self._knows(Headers(scope=scope)):
            await _refuse(scope, receive, send)
        else:
            await self._app(scope, receive, send)

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
    challenge = "Bearer" if _for_programs(scope) else 'Basic realm="lakehouse"'
    detail = "A token is needed: send the header Authorization: Bearer with LAKEHOUSE_API_TOKEN."
    answer = JSONResponse({"detail": detail}, 401, {"www-authenticate": challenge})
    await answer(scope, receive, send)


class OnlyReads:
    """Answers HEAD as GET, and with 405 whatever else programs try.

    Without it, what the API does not know would be looked for among the dashboard's pages.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 405."""
        method = scope.get("method")
        if method == "HEAD":
            # The server, which has the scope as it was, leaves the body out.
            await self._app({**scope, "method": "GET"}, receive, send)
        elif scope["type"] == "http" and method != "GET" and _for_programs(scope):
            detail = f"{method} cannot be answered: everything here is read with GET."
            refusal = JSONResponse({"detail": detail}, 405, {"allow": "GET, HEAD"})
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _for_programs(scope: Scope) -> bool:
    return scope["path"] in _PROGRAMS or scope["path"].startswith("/api/")
