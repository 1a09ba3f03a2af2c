"""The few endpoints of Metabase that the set-up needs, as strict as Metabase is where it counts.

Written after Metabase's own definitions of its endpoints (version 57 and newer): what a body may
hold, of which type; that an unknown key is refused where Metabase refuses it; that the password is
never shown; that a card comes in another query language unless the older one is asked for; that a
dashboard loses the cards that are not sent. Whether a database can be reached is tried for real.
Not here: permissions, syncing, drawing, and whatever people see.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

KEY = "mb_the-key"
HIDDEN = "**MetabasePass**"

Filled = Annotated[str, Field(min_length=1, pattern=r"\S")]
Positive = Annotated[int, Field(gt=0)]
Place = Annotated[int, Field(ge=0)]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewDatabase(_Closed):
    name: Filled
    engine: Literal["clickhouse"]
    details: dict[str, Any]
    is_full_sync: bool | None = True
    is_on_demand: bool | None = False


class ChangedDatabase(_Closed):
    name: Filled | None = None
    engine: Literal["clickhouse"] | None = None
    details: dict[str, Any] | None = None


class NewCollection(_Open):
    name: Filled
    description: Filled | None = None
    parent_id: Positive | None = None


class Native(_Closed):
    query: Filled
    template_tags: dict[str, Any] = Field(alias="template-tags")


class NativeQuery(_Closed):
    type: Literal["native"]
    database: Positive
    native: Native


class NewCard(_Closed):
    name: Filled
    description: Filled | None = None
    display: Filled
    visualization_settings: dict[str, Any]
    dataset_query: NativeQuery
    collection_id: Positive | None = None


class NewDashboard(_Open):
    name: Filled
    description: str | None = None
    collection_id: Positive | None = None


class DashCard(_Open):
    id: int
    size_x: Positive
    size_y: Positive
    row: Place
    col: Place
    card_id: Positive | None = None
    dashboard_tab_id: int | None = None


class Tab(_Open):
    id: int
    name: Filled


class ChangedDashboard(_Open):
    dashcards: list[DashCard]
    tabs: list[Tab] | None = None


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


class Metabase:
    """What the server holds, and what it was asked to change."""

    def __init__(self) -> None:
        self.url = ""
        self.changes: list[str] = []
        self.databases: dict[int, dict[str, Any]] = {}
        self.cards: dict[int, dict[str, Any]] = {}
        self.dashboards: dict[int, dict[str, Any]] = {}
        self.collections: dict[int, dict[str, Any]] = {}
        self._last = 0
        self._routes: dict[tuple[str, str], Callable[..., Any]] = {
            ("GET", "database"): self._list_databases,
            ("POST", "database"): self._add_database,
            ("GET", "database/:id"): self._database,
            ("GET", "database/:id/healthcheck"): self._healthcheck,
            ("PUT", "database/:id"): self._change_database,
            ("GET", "collection"): self._list_collections,
            ("POST", "collection"): self._add_collection,
            ("GET", "collection/:id/items"): self._items,
            ("POST", "card"): self._add_card,
            ("GET", "card/:id"): self._card,
            ("PUT", "card/:id"): self._change_card,
            ("POST", "dashboard"): self._add_dashboard,
            ("GET", "dashboard/:id"): self._dashboard,
            ("PUT", "dashboard/:id"): self._change_dashboard,
        }

    def answer(self, method: str, path: str, query: dict[str, Any], body: Any) -> Any:
        route, number = path.removeprefix("/api/").rstrip("/"), None
        if found := re.search(r"/(\d+)", route):
            number, route = int(found[1]), re.sub(r"/\d+", "/:id", route)
        if (method, route) not in self._routes:
            raise RefusedError(404, "API endpoint does not exist.")
        given = {"number": number} if number else {}
        try:
            return self._routes[method, route](**given, query=query, body=body)
        except ValidationError as error:
            problems = {".".join(map(str, e["loc"])): e["msg"] for e in error.errors()}
            raise RefusedError(400, {"errors": problems, "specific-errors": problems}) from error
        finally:
            if method != "GET":
                self.changes.append(f"{method} {path}")

    def _list_databases(self, **_: Any) -> Any:
        shown = [self._shown(database) for database in self.databases.values()]
        return {"data": shown, "total": len(shown)}

    def _add_database(self, body: Any, **_: Any) -> Any:
        database = NewDatabase.model_validate(body).model_dump()
        if problem := _unreachable(database["details"]):
            raise RefusedError(400, {"message": problem, "errors": {"password": problem}})
        return self._shown(self._add(self.databases, database))

    def _database(self, number: int, **_: Any) -> Any:
        return self._shown(self._known(self.databases, number))

    def _healthcheck(self, number: int, **_: Any) -> Any:
        problem = _unreachable(self._known(self.databases, number)["details"])
        return {"status": "error", "message": problem} if problem else {"status": "ok"}

    def _change_database(self, number: int, body: Any, **_: Any) -> Any:
        database = self._known(self.databases, number)
        changed = ChangedDatabase.model_validate(body).model_dump(exclude_none=True)
        details = database["details"] | changed.pop("details", {})
        if details["password"] == HIDDEN:
            details["password"] = database["details"]["password"]
        if problem := _unreachable(details):
            raise RefusedError(400, {"message": problem})
        database |= changed | {"details": details}
        self.databases[number] = database
        return self._shown(database)

    def _list_collections(self, **_: Any) -> Any:
        return [{"id": "root", "name": "Our analytics"}, *self.collections.values()]

    def _add_collection(self, body: Any, **_: Any) -> Any:
        collection = NewCollection.model_validate(body).model_dump()
        return self._add(self.collections, collection | {"location": "/", "archived": False})

    def _items(self, number: int, **_: Any) -> Any:
        self._known(self.collections, number)
        items = [
            {"model": model, "id": key, "name": thing["name"]}
            for model, things in (("card", self.cards), ("dashboard", self.dashboards))
            for key, thing in things.items()
            if thing["collection_id"] == number
        ]
        return {"data": items, "total": len(items)}

    def _add_card(self, body: Any, **_: Any) -> Any:
        return self._add(self.cards, self._checked_card(body) | {"type": "question"})

    def _card(self, number: int, query: dict[str, Any], **_: Any) -> Any:
        if query.keys() - {"legacy-mbql"}:
            raise RefusedError(400, {"errors": {"query": "disallowed key"}})
        card = self._known(self.cards, number)
        asked = card["dataset_query"]
        stage = {"lib/type": "mbql.stage/native", "native": asked["native"]["query"]}
        newer = {"lib/type": "mbql/query", "database": asked["database"], "stages": [stage]}
        return card if query.get("legacy-mbql") == ["true"] else card | {"dataset_query": newer}

    def _change_card(self, number: int, body: Any, **_: Any) -> Any:
        self._known(self.cards, number)
        self.cards[number] |= self._checked_card(body)
        return self.cards[number]

    def _checked_card(self, body: Any) -> dict[str, Any]:
        card = NewCard.model_validate(body).model_dump(by_alias=True)
        self._known(self.databases, card["dataset_query"]["database"])
        self._known(self.collections, card["collection_id"])
        return card

    def _add_dashboard(self, body: Any, **_: Any) -> Any:
        dashboard = NewDashboard.model_validate(body).model_dump()
        self._known(self.collections, dashboard["collection_id"])
        return self._add(self.dashboards, dashboard | {"dashcards": [], "tabs": []})

    def _dashboard(self, number: int, **_: Any) -> Any:
        return self._known(self.dashboards, number)

    def _change_dashboard(self, number: int, body: Any, **_: Any) -> Any:
        dashboard = self._known(self.dashboards, number)
        changed = ChangedDashboard.model_validate(body).model_dump()
        cards, tabs = changed["dashcards"], changed["tabs"] or []
        if len({card["id"] for card in cards}) != len(cards):
            raise RefusedError(400, {"errors": {"dashcards": "the ids must be unique"}})
        if tabs and not all(card["dashboard_tab_id"] for card in cards):
            raise RefusedError(400, "This dashboard has tab, makes sure every card has a tab")
        for card in cards:
            if card["card_id"]:
                self._known(self.cards, card["card_id"])
            if card["id"] < 0:
                self._last += 1
                card["id"] = self._last
        dashboard |= {"dashcards": cards, "tabs": tabs}
        return dashboard

    def _add(self, where: dict[int, dict[str, Any]], thing: dict[str, Any]) -> dict[str, Any]:
        self._last += 1
        where[self._last] = thing | {"id": self._last}
        return where[self._last]

    def _known(self, where: dict[int, dict[str, Any]], number: int) -> dict[str, Any]:
        if number not in where:
            raise RefusedError(404, "Not found.")
        return where[number]

    def _shown(self, database: dict[str, Any]) -> dict[str, Any]:
        return database | {"details": database["details"] | {"password": HIDDEN}}


def _unreachable(details: dict[str, Any]) -> str:
    """Why ClickHouse does not take the account there, if it does not."""
    try:
        return "" if run(details, "SELECT 1").is_success else "The username or password is wrong."
    except httpx.ConnectError:
        return "Hmm, we couldn't connect to the database. Make sure your Host and Port are correct"


def run(details: dict[str, Any], sql: str) -> httpx.Response:
    """Sends a query as Metabase's driver does, over ClickHouse's HTTP port."""
    scheme = "https" if details["ssl"] else "http"
    return httpx.post(
        f"{scheme}://{details['host']}:{details['port']}/",
        params={"database": details["dbname"], "default_format": "JSONCompact"},
        headers={
            "X-ClickHouse-User": details["user"],
            "X-ClickHouse-Key": details["password"],
        },
        content=sql,
    )


@contextmanager
def metabase_server() -> Iterator[Metabase]:
    """A server that holds nothing yet."""
    metabase = Metabase()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers["Content-Length"] or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            try:
                if self.headers["x-api-key"] != KEY:
                    raise RefusedError(401, "Unauthenticated")
                status = 200
                content = metabase.answer(self.command, url.path, parse_qs(url.query), body)
            except RefusedError as refusal:
                status, content = refusal.status, refusal.body
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PUT = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keeps the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    metabase.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield metabase
    finally:
        server.shutdown()
        server.server_close()
