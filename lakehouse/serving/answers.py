"""Answers as JSON or CSV, kept for as long as the data they were made of stays as it is."""

import asyncio
import csv
import hashlib
import io
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from fastapi import Request, Response
from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send

from lakehouse.errors import UnavailableError
from lakehouse.serving.readings import Readings, Row

Format = Literal["json", "csv"]

_FRESH_SECONDS = 1.0
"""How long the version of the data is taken for granted."""
_OLD_SECONDS = 5.0
"""How old it may be while it is asked again; after that, requests wait for the answer."""
_WAIT_SECONDS = 30.0
_KEPT_BYTES = 64 * 1024**2
_KEPT_ANSWERS = 2000
# Few, since each asks ClickHouse for something; what is kept needs none.
_READERS = 4

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer:
    """A body that was made once, and what is sent with it; of which version of a data set."""

    dataset: str
    version: str
    body: bytes
    headers: dict[str, str]


class Answers:
    """Makes answers in a few threads, each once for all who ask at the same time, and keeps them.

    Each method raises:
        UnavailableError: What is asked does not answer.
        LakehouseError: It refuses.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="reading")
        self._under_way: dict[object, asyncio.Future[Any]] = {}
        self._versions: dict[str, tuple[str, float]] = {}
        self._kept: OrderedDict[object, Answer] = OrderedDict()
        self._bytes = 0

    def close(self) -> None:
        """Take no more work; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, key: object, work: Callable[[], _T]) -> _T:
        """The work's result; those who ask for the same key meanwhile wait for the same work."""
        return await self._within_time(self._start(key, work))

    async def of_dataset(
        self,
        request: Request,
        dataset: str,
        read: Callable[[], Sequence[Row]],
        columns: Sequence[str],
        *,
        limit: int | None = None,
        output: Format | None = None,
    ) -> Response:
        """What a reading of a data set's tables returns, or 304 where the asker has it already.

        Args:
            request: The request, whose address names the answer.
            dataset: Whose tables are read.
            read: The reading; with a limit it returns one row more if there are more.
            columns: Its columns, for a CSV without rows.
            limit: Rows of a page; the header Link leads to the next one.
            output: How it is written; by the header Accept where not given.
        """
        form = output or _accepted(request)
        version = await self._version(dataset)
        key = _key(request)
        answer = self._kept.get(key)
        if answer is None or answer.version != version:
            # Work that was begun for an older version may have read older rows.
            made = await self.run(
                (key, version), lambda: _made(request, read(), columns, limit, form)
            )
            answer = Answer(dataset, version, *made)
            self._keep(key, answer)
        return _response(request, answer)

    def kept(self, request: Request) -> Response | None:
        """The answer where it is kept, and its data was seen not to have changed a moment ago."""
        key = _key(request)
        answer = self._kept.get(key)
        if answer is None:
            return None
        version, asked = self._versions.get(answer.dataset, ("", float("-inf")))
        if version != answer.version or time.monotonic() - asked > _FRESH_SECONDS:
            return None
        self._kept.move_to_end(key)
        return _response(request, answer)

    async def of_rows(
        self,
        request: Request,
        read: Callable[[], Sequence[Row]],
        columns: Sequence[str],
        *,
        limit: int,
        output: Format | None = None,
    ) -> Response:
        """What a reading returns that is cheap to repeat, so that it is not kept."""
        form = output or _accepted(request)
        made = await self.run(_key(request), lambda: _made(request, read(), columns, limit, form))
        return _response(request, Answer("", "", *made))

    async def _version(self, dataset: str) -> str:
        known = self._versions.get(dataset)
        age = time.monotonic() - known[1] if known else float("inf")
        if known and age < _FRESH_SECONDS:
            return known[0]
        asked = self._start(("version", dataset), lambda: self._ask_version(dataset))
        return known[0] if known and age < _OLD_SECONDS else await self._within_time(asked)

    def _ask_version(self, dataset: str) -> str:
        try:
            version = self._readings.version(dataset)
        except BaseException:
            self._versions.pop(dataset, None)
            raise
        self._versions[dataset] = version, time.monotonic()
        return version

    def _start(self, key: object, work: Callable[[], _T]) -> asyncio.Future[_T]:
        under_way = self._under_way.get(key)
        if under_way is None:
            under_way = asyncio.get_running_loop().run_in_executor(self._threads, work)
            self._under_way[key] = under_way
            under_way.add_done_callback(lambda done: self._done(key, done))
        return under_way

    def _done(self, key: object, done: asyncio.Future[Any]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # asked for, or asyncio would log what nobody waited for

    async def _within_time(self, asked: Awaitable[_T]) -> _T:
        try:
            return await asyncio.wait_for(asyncio.shield(asked), _WAIT_SECONDS)
        except TimeoutError as error:
            raise UnavailableError(
                f"There was no answer within {_WAIT_SECONDS:.0f} seconds: try again in a moment."
            ) from error

    def _keep(self, key: object, answer: Answer) -> None:
        if older := self._kept.pop(key, None):
            self._bytes -= len(older.body)
        self._kept[key] = answer
        self._bytes += len(answer.body)
        while self._bytes > _KEPT_BYTES or len(self._kept) > _KEPT_ANSWERS:
            self._bytes -= len(self._kept.popitem(last=False)[1].body)


def _accepted(request: Request) -> Format:
    return "csv" if request.headers.get("accept", "").startswith("text/csv") else "json"


def _key(request: Request) -> tuple[str, bytes, Format]:
    return request.scope["path"], request.scope["query_string"], _accepted(request)


def _made(
    request: Request,
    rows: Sequence[Row],
    columns: Sequence[str],
    limit: int | None,
    form: Format,
) -> tuple[bytes, dict[str, str]]:
    headers = {"vary": "Accept", "cache-control": "no-cache"}
    if limit is not None and len(rows) > limit:
        rows = rows[:limit]
        offset = int(request.query_params.get("offset", 0)) + limit
        following = request.url.include_query_params(offset=offset, limit=limit)
        headers["link"] = f'<{following.path}?{following.query}>; rel="next"'
    if form == "csv":
        name = request.url.path.rpartition("/")[2]
        headers["content-type"] = "text/csv; charset=utf-8"
        headers["content-disposition"] = f'attachment; filename="{name}.csv"'
        body = _csv(rows, columns)
    else:
        headers["content-type"] = "application/json"
        body = to_json(rows, inf_nan_mode="null")
    headers["etag"] = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return body, headers


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _response(request: Request, answer: Answer) -> Response:
    has = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if {answer.headers["etag"], f"W/{answer.headers['etag']}", "*"} & set(has):
        kept = ("etag", "vary", "cache-control", "link")
        return Response(
            status_code=304, headers={n: answer.headers[n] for n in kept if n in answer.headers}
        )
    return Response(answer.body, headers=answer.headers)


class KeptFirst:
    """Sends what is kept before FastAPI looks at the request, which costs more than the rest."""

    def __init__(self, app: ASGIApp, answers: Answers) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] == "http" and scope["method"] == "GET":
            answer = self._answers.kept(Request(scope))
            if answer is not None:
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
