"""The set-up of Metabase, against a server with Metabase's rules."""

import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from metabase_server import KEY, Metabase, metabase_server, run

from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.services.clickhouse import PUBLISHED_DATABASES, ClickHouseService
from lakehouse.settings import Settings

SETUP = Path(__file__).resolve().parents[2] / "deploy" / "metabase" / "setup.py"
ALL = [
    "connected the database Lakehouse",
    "made the collection Lakehouse",
    "made the question Daily sales",
    "made the question Sales by country",
    "made the question Top 10 products",
    "made the dashboard Online Retail",
    "put 3 questions on the dashboard Online Retail",
]
NOTHING = ["all is there already"]


@pytest.fixture
def metabase() -> Iterator[Metabase]:
    with metabase_server() as server:
        yield server


class Ended(NamedTuple):
    """How the program ended, and what it said."""

    code: Any
    out: list[str]


@pytest.fixture
def set_up(
    metabase: Metabase,
    retail: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Ended]:
    """Runs the program in this process."""

    def run_it(**variables: str) -> Ended:
        environment = {
            "METABASE_URL": metabase.url,
            "METABASE_API_KEY": KEY,
            "LAKEHOUSE_CLICKHOUSE_URL": retail,
            **variables,
        }
        monkeypatch.setattr(os, "environ", environment)
        code = None
        try:
            runpy.run_path(str(SETUP), run_name="__main__")
        except SystemExit as end:
            code = end.code
        return Ended(code, capsys.readouterr().out.splitlines())

    return run_it


def said(ended: Ended) -> list[str]:
    assert ended.code is None
    return ended.out


def only(things: dict[int, Any]) -> dict[str, Any]:
    [thing] = things.values()
    return thing


def test_it_makes_all_of_it_and_a_second_run_changes_nothing(set_up, metabase: Metabase) -> None:
    assert said(set_up()) == ALL
    metabase.changes.clear()
    assert said(set_up()) == NOTHING
    assert metabase.changes == []


def test_the_account_can_only_read(set_up, metabase: Metabase) -> None:
    said(set_up())
    database = only(metabase.databases)
    assert database["details"]["user"] == Settings.model_fields["clickhouse_reader_user"].default
    refused = run(
        database["details"], "INSERT INTO marts.Dim_Country VALUES (generateUUIDv4(), 'X')"
    )
    assert "ACCESS_DENIED" in refused.text
    shown = set(database["details"]["db-filters-patterns"].split(","))
    assert shown <= set(PUBLISHED_DATABASES)


def test_the_questions_answer_what_they_say(set_up, metabase: Metabase) -> None:
    said(set_up())
    details = only(metabase.databases)["details"]
    answers = {
        card["name"]: run(details, card["dataset_query"]["native"]["query"]).json()["data"]
        for card in metabase.cards.values()
    }
    assert answers["Daily sales"] == [
        ["2010-11-02", 36.55],
        ["2010-12-01", 1.1],
        ["2010-12-02", 2102.1],
        ["2011-01-04", 3.3],
        ["2011-01-05", 12.6],
    ]
    assert answers["Sales by country"] == [
        ["United Kingdom", 2141.95],
        ["EIRE", 12.6],
        ["Italy", 1.1],
    ]
    assert answers["Top 10 products"] == [
        ["CUP", 2147.25, "WHITE CUP"],
        ["MUG", 8.4, "RED MUG"],
        ["POST", 0, None],
    ]


def test_every_question_is_drawn_by_columns_that_it_has(set_up, metabase: Metabase) -> None:
    said(set_up())
    details = only(metabase.databases)["details"]
    for card in metabase.cards.values():
        columns = run(details, card["dataset_query"]["native"]["query"]).json()["meta"]
        settings = card["visualization_settings"]
        drawn = {*settings["graph.dimensions"], *settings["graph.metrics"]}
        assert drawn <= {column["name"] for column in columns}


def test_the_questions_do_not_overlap_on_the_dashboard(set_up, metabase: Metabase) -> None:
    said(set_up())
    taken: set[tuple[int, int]] = set()
    for card in only(metabase.dashboards)["dashcards"]:
        cells = {
            (card["col"] + x, card["row"] + y)
            for x in range(card["size_x"])
            for y in range(card["size_y"])
        }
        assert not cells & taken
        assert max(column for column, _ in cells) < 24
        taken |= cells
    assert len(only(metabase.dashboards)["dashcards"]) == 3


def test_a_question_that_was_changed_is_put_back(set_up, metabase: Metabase) -> None:
    said(set_up())
    next(iter(metabase.cards.values()))["dataset_query"]["native"]["query"] = "SELECT 1"
    assert said(set_up()) == ["changed the question Daily sales"]
    assert said(set_up()) == NOTHING


def test_what_people_did_to_the_dashboard_stays(set_up, metabase: Metabase) -> None:
    said(set_up())
    dashboard = only(metabase.dashboards)
    dashboard["tabs"] = [{"id": 7, "name": "First"}]
    first, second, _ = dashboard["dashcards"]
    first["row"] = 40
    own = {"id": 99, "card_id": None, "row": 50, "col": 0, "size_x": 4, "size_y": 4}
    dashboard["dashcards"] = [c | {"dashboard_tab_id": 7} for c in (first, second, own)]
    assert said(set_up()) == ["put 1 questions on the dashboard Online Retail"]
    kept = {card["id"]: card["row"] for card in only(metabase.dashboards)["dashcards"]}
    assert kept.items() >= {first["id"]: 40, 99: 50}.items()
    assert len(kept) == 4
    assert only(metabase.dashboards)["tabs"][0]["name"] == "First"
    assert said(set_up()) == NOTHING


@pytest.mark.parametrize("done", range(len(ALL)))
def test_a_run_that_was_interrupted_is_completed_by_the_next(
    set_up, metabase: Metabase, done: int
) -> None:
    answer = metabase.answer

    def stop(method: str, *arguments: Any) -> Any:
        if method != "GET" and len(metabase.changes) >= done:
            raise ConnectionAbortedError
        return answer(method, *arguments)

    metabase.answer = stop
    assert set_up().code
    metabase.answer = answer
    assert said(set_up()) == ALL[done:]
    assert said(set_up()) == NOTHING


def test_a_new_password_is_passed_on(
    set_up, metabase: Metabase, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    passwords = ("the-first-secret", "the-second-secret")
    for number, password in enumerate(passwords):
        settings = Settings(
            home=tmp_path / password, clickhouse_port=port, clickhouse_reader_password=password
        )
        service = ClickHouseService(settings)
        service.start()
        with ClickHouse(settings).client() as client:
            client.command("CREATE DATABASE IF NOT EXISTS marts")
        try:
            account = {
                "LAKEHOUSE_CLICKHOUSE_URL": f"http://127.0.0.1:{port}",
                "LAKEHOUSE_CLICKHOUSE_READER_PASSWORD": password,
            }
            result = set_up(**account)
            change = "changed how the database Lakehouse is reached"
            assert said(result) == [ALL, [change]][number]
            assert said(set_up(**account)) == NOTHING
            assert "secret" not in " ".join(result.out)
        finally:
            service.stop()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"METABASE_API_KEY": ""}, "Set METABASE_API_KEY; the head of this file says how."),
        ({"METABASE_API_KEY": "wrong-key"}, "Metabase refuses the key: make one under Admin"),
        (
            {"METABASE_URL": "http://127.0.0.1:1"},
            "does not answer: start it, or check METABASE_URL",
        ),
        ({"LAKEHOUSE_CLICKHOUSE_URL": "here"}, "must be an address with a port"),
        ({"LAKEHOUSE_CLICKHOUSE_URL": "http://127.0.0.1:1"}, "your Host and Port are correct"),
        (
            {
                "LAKEHOUSE_CLICKHOUSE_READER_USER": "nobody",
                "LAKEHOUSE_CLICKHOUSE_READER_PASSWORD": "no-secret",
            },
            "username or password is wrong",
        ),
    ],
)
def test_what_goes_wrong_is_told_in_a_sentence(
    set_up, metabase: Metabase, variables: dict[str, str], sentence: str
) -> None:
    told = set_up(**variables).code
    assert told.startswith("error: ")
    assert sentence in told
    assert "\n" not in told
    assert not any(secret in told for secret in ("wrong-key", "no-secret", KEY))
    assert metabase.databases == {}


def test_another_server_at_the_address_is_told(set_up, retail: str) -> None:
    told = set_up(METABASE_URL=retail).code
    assert told.startswith("error: Metabase refuses GET /api/database: ")
    assert "\n" not in told
