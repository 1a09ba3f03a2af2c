"""All that is served over HTTP, put together; and the server itself."""

import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware

from lakehouse.errors import LakehouseError, UnavailableError, UsageError
from lakehouse.services.clickhouse import ClickHouseService
from lakehouse.serving.answers import Answers, KeptFirst
from lakehouse.serving.api import build_router, problems
from lakehouse.serving.guard import Guard, OnlyReads, Trust
from lakehouse.serving.health import Health
from lakehouse.serving.metrics import CONTENT_TYPE, Metrics
from lakehouse.serving.readings import Readings
from lakehouse.settings import Settings

_RETRY_SECONDS = "5"


def create_app(settings: Settings) -> FastAPI:
    """The API and the metrics, behind the guard; `app.state` has its `readings` and `health`."""
    readings, health = Readings(settings), Health(settings)
    answers, metrics = Answers(readings), Metrics(readings, health)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Importing all data sets takes seconds, which the first asker need not wait for.
        threading.Thread(target=_warm_up, args=(health,), daemon=True).start()
        yield
        answers.close()

    app = FastAPI(
        title="lakehouse",
        summary="Public data sets, and how they stand.",
        version="1",
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        # Both would load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.readings, app.state.health = readings, health
    app.include_router(build_router(answers, readings, health))

    @app.get("/healthz", tags=["server"])
    async def healthz() -> dict[str, str]:
        """That the server runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["server"], responses=problems(503))
    async def readyz() -> dict[str, str]:
        """That ClickHouse answers, too."""
        await answers.run("ready", readings.ready)
        return {"status": "ok"}

    @app.get(
        "/metrics",
        tags=["server"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **problems(401, 503)},
    )
    async def show_metrics() -> Response:
        """The metrics, as Prometheus reads them."""
        return Response(await answers.run("metrics", metrics.text), media_type=CONTENT_TYPE)

    @app.get("/api", include_in_schema=False)
    @app.get("/api/{path:path}", include_in_schema=False)
    async def unknown(request: Request) -> None:
        raise HTTPException(
            404, f"There is no {request.url.path}; /api/openapi.json says what there is."
        )

    app.add_exception_handler(RequestValidationError, _unusable)
    app.add_exception_handler(LakehouseError, _failed)
    app.add_exception_handler(Exception, _broken)
    # Of these, the last one is asked first.
    app.add_middleware(KeptFirst, answers=answers)
    app.add_middleware(OnlyReads)
    app.add_middleware(Guard, token=settings.api_token.get_secret_value())
    if origins := settings.cors_origins.split():
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD"],
            allow_headers=["Authorization", "If-None-Match"],
            expose_headers=["ETag", "Link"],
        )
    app.add_middleware(Trust)
    return app


def _warm_up(health: Health) -> None:
    with suppress(LakehouseError):  # who asks is told
        health.current()


def _unusable(_: Request, error: Exception) -> JSONResponse:
    """422: which parameter, and why."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return JSONResponse({"detail": "; ".join(map(_sentence, error.errors()))}, 422)


def _sentence(problem: dict[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"][1:])
    if problem["type"] == "extra_forbidden":
        return f"there is no parameter {name}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message


def _failed(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, UsageError):
        return JSONResponse({"detail": str(error)}, 422)
    retry = {"retry-after": _RETRY_SECONDS} if isinstance(error, UnavailableError) else None
    return JSONResponse({"detail": str(error)}, 503, retry)


def _broken(_: Request, error: Exception) -> JSONResponse:
    """500; the server's log has the traceback."""
    return JSONResponse({"detail": "Something broke; the server's log says what."}, 500)


def serve(settings: Settings, started: Callable[[], None]) -> None:
    """Serve everything until somebody presses Ctrl-C.

    Args:
        settings: Where to listen, and where everything is.
        started: Called once the port is ours and ClickHouse is there.

    Raises:
        LakehouseError: The port is taken, or ClickHouse cannot be started.
    """
    listener = _listener(settings.serve_host, settings.serve_port)
    if settings.clickhouse_url is None:
        ClickHouseService(settings).start()
    from lakehouse.serving.dashboard import add_dashboard

    app = create_app(settings)
    add_dashboard(app, settings)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    started()
    with suppress(KeyboardInterrupt):  # which is how it ends
        uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise LakehouseError(
            f"port {port} of {host} cannot be listened on ({error.strerror}): stop what has it, or"
            " name another with --port or LAKEHOUSE_SERVE_PORT"
        ) from error
    return listener
