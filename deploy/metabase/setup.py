"""Connects Metabase to the tables and makes the dashboard "Online Retail" in it.

    METABASE_URL=https://metabase.example.org METABASE_API_KEY=… python deploy/metabase/setup.py

The key is made under Admin > Settings > Authentication > API keys, for the group Administrators.
Metabase reads as the account that can only read; it must reach ClickHouse at the address in
LAKEHOUSE_CLICKHOUSE_URL (default the local service), and logs in there as
LAKEHOUSE_CLICKHOUSE_READER_USER (default `reader`) with LAKEHOUSE_CLICKHOUSE_READER_PASSWORD.

What is there already is found by its name, and changed only where it differs: a second run changes
nothing, and one that was interrupted is completed by the next. Cards that people added to the
dashboard, or moved on it, stay.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

DATABASE = "Lakehouse"
COLLECTION = "Lakehouse"
DASHBOARD = "Online Retail"

Json = dict[str, Any]
Say = Callable[[str], object]


class SetupError(Exception):
    """What went wrong and what to do, in a sentence."""


@dataclass(frozen=True)
class Question:
    """A query and how it is drawn.

    Attributes:
        place: Column, row, width and height on the dashboard, whose grid has 24 columns.
    """

    name: str
    description: str
    display: str
    dimension: str
    sql: str
    place: tuple[int, int, int, int]


QUESTIONS = (
    Question(
        name="Daily sales",
        description="Pounds sterling a day, of customers that are known, without returns.",
        display="line",
        dimension="day",
        sql=(
            "SELECT toDate(invoice_date) AS day, sum(total_amount) AS sales\n"
            "FROM marts.Fact_Sales\n"
            "GROUP BY day\n"
            "ORDER BY day"
        ),
        place=(0, 0, 24, 7),
    ),
    Question(
        name="Sales by country",
        description="Pounds sterling, of customers that are known, without returns.",
        display="row",
        dimension="country",
        sql=(
            "SELECT country_name AS country, sum(total_amount) AS sales\n"
            "FROM marts.Fact_Sales\n"
            "INNER JOIN marts.Dim_Country USING (country_key)\n"
            "GROUP BY country\n"
            "ORDER BY sales DESC, country"
        ),
        place=(0, 7, 12, 9),
    ),
    Question(
        name="Top 10 products",
        description="The products that were sold for most, in pounds sterling.",
        display="row",
        dimension="product",
        sql=(
            "SELECT stock_code AS product, sum(total_amount) AS sales,"
            " any(description) AS description\n"
            "FROM marts.Fact_Sales\n"
            "INNER JOIN marts.Dim_Product USING (product_key)\n"
            "GROUP BY product\n"
            "ORDER BY sales DESC, product\n"
            "LIMIT 10"
        ),
        place=(12, 7, 12, 9),
    ),
)


class Metabase:
    """Metabase's API, as an administrator."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._client = httpx.Client(base_url=url, headers={"x-api-key": api_key}, timeout=60)

    def get(self, path: str, **parameters: Any) -> Any:
        """What the address answers."""
        return self._call("GET", path, params=parameters)

    def post(self, path: str, body: Json) -> Any:
        """Makes something; what Metabase has made of it."""
        return self._call("POST", path, json=body)

    def put(self, path: str, body: Json) -> Any:
        """Changes something; what it is now."""
        return self._call("PUT", path, json=body)

    def _call(self, method: str, path: str, **content: Any) -> Any:
        try:
            answer = self._client.request(method, path, **content)
        except httpx.HTTPError as error:
            raise SetupError(
                f"Metabase at {self._url} does not answer: start it, or check METABASE_URL."
            ) from error
        if answer.status_code in (401, 403):
            raise SetupError(
                "Metabase refuses the key: make one under Admin > Settings > Authentication > "
                "API keys for the group Administrators, and set METABASE_API_KEY."
            )
        if answer.is_error:
            raise SetupError(f"Metabase refuses {method} {path}: {_reason(answer)}")
        try:
            return answer.json()
        except ValueError as error:
            raise SetupError(
                f"What answers at {self._url} is not Metabase: check METABASE_URL."
            ) from error


def set_up(metabase: Metabase, details: Json, say: Say) -> None:
    """Makes what is missing and mends what differs.

    Args:
        metabase: The server.
        details: How Metabase reaches ClickHouse, in the words of its ClickHouse driver.
        say: Is told each thing that was done.

    Raises:
        SetupError: Metabase does not answer, refuses the key, or does not reach ClickHouse.
    """
    database = _database(metabase, details, say)
    collection = _collection(metabase, say)
    items = metabase.get(f"/api/collection/{collection}/items")["data"]
    there = {(item["model"], item["name"]): item["id"] for item in items}
    cards = {
        question: _card(
            metabase, question, database, collection, there.get(("card", question.name)), say
        )
        for question in QUESTIONS
    }
    _dashboard(metabase, cards, collection, there.get(("dashboard", DASHBOARD)), say)


def _database(metabase: Metabase, details: Json, say: Say) -> int:
    known = [d["id"] for d in metabase.get("/api/database")["data"] if d["name"] == DATABASE]
    if not known:
        body = {"name": DATABASE, "engine": "clickhouse", "details": details}
        made = metabase.post("/api/database", body)
        say(f"connected the database {DATABASE}")
        return int(made["id"])
    number = int(known[0])
    now = metabase.get(f"/api/database/{number}")["details"]
    # Metabase never shows the password; where it no longer fits, the connection is not healthy.
    same = all(now.get(name) == value for name, value in details.items() if name != "password")
    if not same or metabase.get(f"/api/database/{number}/healthcheck")["status"] != "ok":
        metabase.put(f"/api/database/{number}", {"details": now | details})
        say(f"changed how the database {DATABASE} is reached")
    return number


def _collection(metabase: Metabase, say: Say) -> int:
    for collection in metabase.get("/api/collection"):
        if collection["name"] == COLLECTION and collection.get("location") == "/":
            return int(collection["id"])
    body = {"name": COLLECTION, "description": "Made by deploy/metabase/setup.py."}
    made = metabase.post("/api/collection", body)
    say(f"made the collection {COLLECTION}")
    return int(made["id"])


def _card(
    metabase: Metabase,
    question: Question,
    database: int,
    collection: int,
    known: int | None,
    say: Say,
) -> int:
    wanted: Json = {
        "name": question.name,
        "description": question.description,
        "display": question.display,
        "visualization_settings": {
            "graph.dimensions": [question.dimension],
            "graph.metrics": ["sales"],
        },
        "dataset_query": {
            "type": "native",
            "database": database,
            "native": {"query": question.sql, "template-tags": {}},
        },
        "collection_id": collection,
    }
    if known is None:
        made = metabase.post("/api/card", wanted)
        say(f"made the question {question.name}")
        return int(made["id"])
    # Metabase 57 and newer answer in another query language unless they are asked for this one.
    now = metabase.get(f"/api/card/{known}", **{"legacy-mbql": "true"})
    if not _has(now, wanted):
        metabase.put(f"/api/card/{known}", wanted)
        say(f"changed the question {question.name}")
    return known


def _dashboard(
    metabase: Metabase,
    cards: Mapping[Question, int],
    collection: int,
    known: int | None,
    say: Say,
) -> None:
    if known is None:
        body = {"name": DASHBOARD, "collection_id": collection}
        known = int(metabase.post("/api/dashboard", body)["id"])
        say(f"made the dashboard {DASHBOARD}")
    now = metabase.get(f"/api/dashboard/{known}")
    tabs = now.get("tabs") or []
    shown = {dashcard.get("card_id") for dashcard in now["dashcards"]}
    missing = [(question, card) for question, card in cards.items() if card not in shown]
    if missing:
        added = [
            _dashcard(question, card, -place, tabs)
            for place, (question, card) in enumerate(missing, start=1)
        ]
        # What is not in the list is taken off the dashboard, so what is there is sent as well.
        body = {"dashcards": [*now["dashcards"], *added], "tabs": tabs}
        metabase.put(f"/api/dashboard/{known}", body)
        say(f"put {len(missing)} questions on the dashboard {DASHBOARD}")


def _dashcard(question: Question, card: int, number: int, tabs: list[Json]) -> Json:
    column, row, width, height = question.place
    return {
        "id": number,  # Metabase gives a number of its own in place of a negative one.
        "card_id": card,
        "col": column,
        "row": row,
        "size_x": width,
        "size_y": height,
        "dashboard_tab_id": tabs[0]["id"] if tabs else None,
        "parameter_mappings": [],
        "series": [],
        "visualization_settings": {},
    }


def _has(now: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; Metabase adds much of its own."""
    if isinstance(wanted, dict):
        return isinstance(now, dict) and all(_has(now.get(n), v) for n, v in wanted.items())
    return bool(now == wanted)


def _reason(answer: httpx.Response) -> str:
    """Metabase's own words, in whichever of its forms they come, in one line."""
    try:
        body = answer.json()
    except ValueError:
        body = answer.text
    if isinstance(body, dict):
        body = body.get("message") or body.get("specific-errors") or body.get("errors") or body
    return " ".join(str(body).split())[:200] or str(answer.status_code)


def clickhouse_details(environment: Mapping[str, str]) -> Json:
    """How Metabase reaches ClickHouse, in the words of its ClickHouse driver.

    Raises:
        SetupError: the address is none.
    """
    address = environment.get("LAKEHOUSE_CLICKHOUSE_URL") or "http://127.0.0.1:18123"
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname or url.port is None:
        raise SetupError(
            "LAKEHOUSE_CLICKHOUSE_URL must be an address with a port, "
            "such as https://clickhouse.example.org:8443."
        )
    return {
        "host": url.hostname,
        "port": url.port,
        "ssl": url.scheme == "https",
        "user": environment.get("LAKEHOUSE_CLICKHOUSE_READER_USER") or "reader",
        "password": environment.get("LAKEHOUSE_CLICKHOUSE_READER_PASSWORD") or "",
        "dbname": "marts",
        "enable-multiple-db": True,
        "db-filters-type": "inclusion",
        "db-filters-patterns": "drives,taxi,marts,quality",
    }


def main() -> None:
    """Sets up the Metabase that the environment names; exit code 1 where it cannot."""
    done: list[str] = []

    def say(sentence: str) -> None:
        done.append(sentence)
        sys.stdout.write(f"{sentence}\n")

    try:
        missing = [n for n in ("METABASE_URL", "METABASE_API_KEY") if not os.environ.get(n)]
        if missing:
            raise SetupError(f"Set {' and '.join(missing)}; the head of this file says how.")
        metabase = Metabase(os.environ["METABASE_URL"], os.environ["METABASE_API_KEY"])
        set_up(metabase, clickhouse_details(os.environ), say)
    except SetupError as error:
        sys.exit(f"error: {error}")
    if not done:
        say("all is there already")


if __name__ == "__main__":
    main()
