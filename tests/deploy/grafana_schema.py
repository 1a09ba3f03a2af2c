"""Grafana's published dashboard schema (kinds/dashboard/dashboard_kind.cue), as far as we use it.

Stricter than Grafana: defaults must be written out, and what it does not know is refused.
"""
# ruff: noqa: N815  the names are Grafana's

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class DataSource(_Strict):
    type: str
    uid: str


class Grid(_Strict):
    h: int = Field(gt=0)
    w: int = Field(gt=0, le=24)
    x: int = Field(ge=0, lt=24)
    y: int = Field(ge=0)

    def cells(self) -> set[tuple[int, int]]:
        """The places that it takes."""
        return {(self.x + x, self.y + y) for x in range(self.w) for y in range(self.h)}


class Step(_Strict):
    color: str
    value: float | int | None


class Thresholds(_Strict):
    mode: Literal["absolute", "percentage"]
    steps: list[Step] = Field(min_length=1)


class Color(_Strict):
    mode: Literal["thresholds", "palette-classic"]


class FieldDefaults(_Strict):
    color: Color
    mappings: list[Any]
    thresholds: Thresholds
    unit: str | None = None
    decimals: int | None = None
    noValue: str | None = None
    custom: dict[str, Any] | None = None


class Matcher(_Strict):
    id: str
    options: Any = None


class Property(_Strict):
    id: str
    value: Any


class Override(_Strict):
    matcher: Matcher
    properties: list[Property]


class FieldConfig(_Strict):
    defaults: FieldDefaults
    overrides: list[Override]


class Transformation(_Strict):
    id: str
    options: dict[str, Any]


class PromQuery(_Strict):
    refId: str
    datasource: DataSource
    expr: str = Field(min_length=1)
    legendFormat: str
    instant: bool
    range: bool
    format: Literal["table"] | None = None


class ClickHouseQuery(_Strict):
    """grafana-clickhouse-datasource's CHSqlQuery."""

    refId: str
    datasource: DataSource
    editorType: Literal["sql"]
    queryType: Literal["table"]
    format: Literal[1]
    rawSql: str = Field(min_length=1)


class Panel(_Strict):
    id: int = Field(gt=0)
    type: Literal["stat", "timeseries", "barchart", "bargauge", "table"]
    title: str = Field(min_length=1)
    description: str = Field(min_length=1)
    datasource: DataSource
    targets: list[PromQuery | ClickHouseQuery] = Field(min_length=1)
    fieldConfig: FieldConfig
    options: dict[str, Any]
    transformations: list[Transformation]
    gridPos: Grid


class Row(_Strict):
    id: int = Field(gt=0)
    type: Literal["row"]
    title: str
    collapsed: Literal[False]
    panels: list[Any] = Field(max_length=0)
    gridPos: Grid


class Variable(_Strict):
    type: Literal["query"]
    name: str
    label: str
    datasource: DataSource
    definition: str
    query: dict[str, str]
    refresh: Literal[0, 1, 2]
    sort: int
    multi: bool
    includeAll: bool
    allValue: str
    current: dict[str, list[str]]
    hide: Literal[0, 1, 2]
    skipUrlSync: bool


class Link(_Strict):
    title: str
    type: Literal["link", "dashboards"]
    icon: str
    tooltip: str
    url: str
    tags: list[str]
    asDropdown: bool
    targetBlank: bool
    includeVars: bool
    keepTime: bool


class Templating(_Strict):
    list: list[Variable]


class Dashboard(_Strict):
    uid: str = Field(min_length=8, max_length=40, pattern=r"[a-z0-9-]+")
    title: str
    description: str
    tags: list[str]
    schemaVersion: int = Field(ge=36)
    version: int
    editable: bool
    graphTooltip: Literal[0, 1, 2]
    timezone: Literal["browser", "utc"]
    refresh: str
    time: dict[Literal["from", "to"], str]
    timepicker: dict[str, Any]
    annotations: dict[Literal["list"], list[Any]]
    links: list[Link]
    templating: Templating
    panels: list[Row | Panel]

    def drawn(self) -> list[Panel]:
        """The panels that are no rows."""
        return [panel for panel in self.panels if isinstance(panel, Panel)]
