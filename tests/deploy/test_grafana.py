"""Grafana's dashboards: whole by its schema, and every query run where it is sent to."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from exporter import RETAIL_GAUGES
from grafana_schema import ClickHouseQuery, Dashboard, Panel, PromQuery, Row
from servers import Prometheus

from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.settings import Settings

GRAFANA = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
DASHBOARDS = {
    path.stem: Dashboard.model_validate(json.loads(path.read_text()))
    for path in (GRAFANA / "dashboards").glob("*.json")
}
PANELS = [panel for dashboard in DASHBOARDS.values() for panel in dashboard.drawn()]
PROM_QUERIES = {
    f"{panel.title}: {target.expr}": target.expr
    for panel in PANELS
    for target in panel.targets
    if isinstance(target, PromQuery)
}
SQL_QUERIES = {
    panel.title: (panel, target.rawSql)
    for panel in PANELS
    for target in panel.targets
    if isinstance(target, ClickHouseQuery)
}


def provisioned(what: str) -> dict[str, Any]:
    return yaml.safe_load((GRAFANA / "provisioning" / what / "lakehouse.yml").read_text())


def test_the_two_dashboards_are_there() -> None:
    assert set(DASHBOARDS) == {"data_quality", "pipeline_health"}
    assert len({dashboard.uid for dashboard in DASHBOARDS.values()}) == 2


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_numbers_of_their_own_and_do_not_overlap(name: str) -> None:
    panels = DASHBOARDS[name].panels
    assert len({panel.id for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        cells = panel.gridPos.cells()
        assert not cells & taken, panel.title
        assert max(x for x, _ in cells) < 24, panel.title
        taken |= cells


def test_the_original_two_rows_have_a_tile_for_each_figure() -> None:
    rows: dict[str, list[Panel]] = {}
    for panel in DASHBOARDS["data_quality"].panels:
        if isinstance(panel, Row):
            shown = rows.setdefault(panel.title, [])
        else:
            shown.append(panel)
    assert list(rows)[:2] == ["Anomaly Detection", "Sales Summary"]
    tiles = [*rows["Anomaly Detection"], *rows["Sales Summary"]]
    assert [len(rows["Anomaly Detection"]), len(rows["Sales Summary"])] == [3, 5]
    assert {tile.type for tile in tiles} == {"stat"}
    shown_figures = [tile.targets[0].expr.removeprefix("lakehouse:") for tile in tiles]
    assert shown_figures == list(RETAIL_GAUGES)


def test_every_data_source_is_provisioned() -> None:
    known = {(d["type"], d["uid"]) for d in provisioned("datasources")["datasources"]}
    used = {
        (s.type, s.uid) for p in PANELS for s in (p.datasource, *(t.datasource for t in p.targets))
    }
    used |= {
        (v.datasource.type, v.datasource.uid)
        for dashboard in DASHBOARDS.values()
        for v in dashboard.templating.list
    }
    assert used == known


def test_every_variable_that_is_used_is_defined() -> None:
    for name, dashboard in DASHBOARDS.items():
        used = set(
            re.findall(r"\$\{?(\w+)", json.dumps([p.model_dump() for p in dashboard.panels]))
        )
        assert used == {variable.name for variable in dashboard.templating.list}, name


def test_tables_are_read_by_the_account_that_can_only_read_with_a_secret_from_outside() -> None:
    clickhouse = provisioned("datasources")["datasources"][1]
    settings = Settings.model_fields
    assert clickhouse["jsonData"]["username"] == settings["clickhouse_reader_user"].default
    assert clickhouse["jsonData"]["port"] == settings["clickhouse_port"].default
    assert clickhouse["secureJsonData"] == {"password": "${LAKEHOUSE_CLICKHOUSE_READER_PASSWORD}"}


def test_the_browser_cannot_change_what_is_kept_here() -> None:
    [provider] = provisioned("dashboards")["providers"]
    assert provider["type"] == "file"
    assert not provider["allowUiUpdates"]


@pytest.mark.parametrize("expression", PROM_QUERIES.values(), ids=PROM_QUERIES.keys())
def test_every_expression_gives_something(expression: str, sick: Prometheus) -> None:
    assert sick.query(expression.replace("$dataset", ".*"))


def test_the_data_sets_to_choose_from_are_found(sick: Prometheus) -> None:
    [variable] = DASHBOARDS["pipeline_health"].templating.list
    metric, label = re.fullmatch(r"label_values\((.+), (.+)\)", variable.definition).groups()
    assert {series["metric"][label] for series in sick.query(metric)} == {"drives"}


@pytest.mark.parametrize(("panel", "sql"), SQL_QUERIES.values(), ids=SQL_QUERIES.keys())
def test_every_sql_runs_as_the_reader(panel: Panel, sql: str, retail: str) -> None:
    answer = ClickHouse(Settings(clickhouse_url=retail)).query(sql)
    assert answer.rows
    if panel.type == "barchart":
        assert answer.columns[0] == panel.options["xField"] == "month"
        months = [row[0] for row in answer.rows]
        assert months == sorted(set(months)) == ["2010-11", "2010-12", "2011-01"]
        assert all(isinstance(value, (int, float)) for row in answer.rows for value in row[1:])
