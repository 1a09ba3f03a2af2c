"""Charts: rows of numbers as ECharts options, with the same numbers as a table and in words.

Colours are the style sheet's variables, so that a chart follows the page between light and dark;
that is why charts are drawn as SVG, and why nothing is highlighted: ECharts cannot compute a
shade of a variable.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from math import ceil
from typing import Any, TypeAlias
from urllib.parse import urlencode

from lakehouse.serving.dashboard.formatting import count, number

Options: TypeAlias = dict[str, Any]
Value: TypeAlias = float | int | None

COLOURS = [f"var(--series-{place})" for place in range(1, 8)]
_HEAT = [f"var(--heat-{place})" for place in range(1, 7)]
_COMPACT = "value => new Intl.NumberFormat('en', {notation: 'compact'}).format(value)"
_FULL = (
    "value => value == null ? '' : "
    "new Intl.NumberFormat('en', {maximumFractionDigits: DIGITS}).format(value)"
)
_FEW = 15
"""So many points of a line are marked."""
_MANY = 800
"""A line of more points is thin."""
_GAP = timedelta(days=32)
_BELOW_LEGEND = 64
_ROW_HEIGHT = 28
_NARROW = 420
"""Charts of at most so many pixels have room for less."""
_LABEL_WIDTHS = ((_NARROW, 110), (700, 170))
"""Of charts at most so wide, how wide the names of their rows may be; in pixels."""
_LABEL_WIDTH = 300


@dataclass(frozen=True)
class Series:
    """One measure along a chart.

    Attributes:
        name: What it is.
        values: A number for each label of the chart; None where there is none.
        axis: 0 for the left axis, 1 for the right one.
        digits: Decimals in tooltips and tables.
    """

    name: str
    values: Sequence[Value]
    axis: int = 0
    digits: int = 0


@dataclass(frozen=True)
class Chart:
    """A chart, and the same numbers for those who do not see it.

    Attributes:
        title: Its heading.
        about: What is counted, in a sentence.
        options: ECharts' options.
        summary: The chart in words.
        header: The table's column names.
        rows: The table's cells, as text.
        height: Pixels.
        csv: The address of the rows behind it in the API.
    """

    title: str
    about: str
    options: Options
    summary: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    height: int = 320
    csv: str | None = None

    def at(self, path: str, **parameters: object) -> "Chart":
        """The same, with the address of its rows in the API; None leaves a parameter out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return replace(self, csv=f"/api/{path}?{urlencode(given | {'format': 'csv'})}")


def lines(
    title: str,
    about: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    along: str,
    axes: Sequence[str],
    over_gaps: bool = False,
) -> Chart:
    """Smooth lines along time; where each has an axis of its own, the area below is tinted.

    Where more than a month is missing between days, the lines break off.

    Args:
        title: The heading.
        about: What is counted, in a sentence.
        labels: The days, months or years.
        series: The lines.
        along: What the labels are, such as `Day`.
        axes: Titles of the left and, where a series uses it, the right axis, with their units.
        over_gaps: Whether lines go on over labels that have no number.
    """
    area: Options = {"areaStyle": {"opacity": 0.14}} if len(series) == len(axes) else {}
    options = _framed(series)
    spread = _with_gaps(labels)
    options["xAxis"] |= {
        "data": ["" if place is None else labels[place] for place in spread],
        "boundaryGap": len(labels) <= _FEW,
    }
    options["yAxis"] = [_value_axis(name, place) for place, name in enumerate(axes)]
    options["series"] = [
        _series("line", one)
        | {"data": [None if place is None else one.values[place] for place in spread]}
        | {
            "smooth": True,
            "smoothMonotone": "x",
            "connectNulls": over_gaps,
            "lineStyle": {"width": 2 if len(labels) <= _MANY else 1},
        }
        # A line of one point is none.
        | {"showSymbol": len(labels) <= _FEW, "symbolSize": 7, "sampling": "lttb"}
        | area
        for one in series
    ]
    return _chart("Line chart", title, about, options, along, labels, series)


def stacked_bars(
    title: str,
    about: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    along: str,
    axis: str,
) -> Chart:
    """Upright bars, one upon the other."""
    options = _framed(series)
    options["xAxis"] |= {"data": list(labels)}
    options["yAxis"] = [_value_axis(axis, 0)]
    # Of a single one, the legend says which it is.
    options["legend"]["show"] = True
    options["grid"]["top"] = _BELOW_LEGEND
    options["series"] = [
        _series("bar", one)
        | {"stack": "all", "barMaxWidth": 56}
        | {"itemStyle": {"borderColor": "var(--surface)", "borderWidth": 1}}
        for one in series
    ]
    return _chart("Bar chart", title, about, options, along, labels, series)


def ranking(
    title: str, about: str, labels: Sequence[str], series: Series, *, of: str, axis: str
) -> Chart:
    """Lying bars, the longest on top."""
    options = _lying(labels, axis) | {"tooltip": _tooltip("shadow")}
    options["series"] = [
        _series("bar", series)
        | {"barMaxWidth": 16, "itemStyle": {"borderRadius": [0, 3, 3, 0]}, "color": COLOURS[0]}
        | {
            "label": {
                "show": True,
                "position": "right",
                "color": "var(--muted)",
                ":formatter": f"cell => ({_COMPACT})(cell.value)",
            }
        }
    ]
    chart = _chart("Bar chart", title, about, options, of, labels, [series])
    return replace(chart, height=_lying_height(labels))


def intervals(
    title: str,
    about: str,
    labels: Sequence[str],
    value: Series,
    low: Series,
    high: Series,
    *,
    of: str,
    axis: str,
) -> Chart:
    """A point and its interval for each label, the first on top."""
    options = _lying(labels, axis) | {"tooltip": _tooltip("shadow")}
    widths = [
        None if lower is None or upper is None else upper - lower
        for lower, upper in zip(low.values, high.values, strict=True)
    ]
    hidden = {"stack": "interval", "barWidth": 6, "silent": True, "tooltip": {"show": False}}
    options["series"] = [
        {"type": "bar", "data": list(low.values), "color": "transparent"} | hidden,
        {"type": "bar", "data": widths, "color": "var(--interval)"}
        | hidden
        | {"itemStyle": {"borderRadius": 3}},
        _series("scatter", value) | {"symbolSize": 11, "color": COLOURS[0]},
        # Shown in the tooltip alone.
        *(
            _series("scatter", end) | {"symbolSize": 0.01, "color": "var(--interval)"}
            for end in (low, high)
        ),
    ]
    chart = _chart("Points with intervals", title, about, options, of, labels, [value, low, high])
    return replace(chart, height=_lying_height(labels))


def heat_map(
    title: str,
    about: str,
    columns: Sequence[str],
    rows: Sequence[str],
    cells: Sequence[Sequence[Value]],
    *,
    along: str,
    unit: str,
) -> Chart:
    """A grid of cells, the darker the more (in dark mode the lighter); `cells` is row by row."""
    known = [value for row in cells for value in row if value is not None]
    least = min(known, default=0)
    step = max(1, ceil((max(known, default=0) - least) / len(_HEAT)))
    pieces: list[Options] = [
        {
            "gte": least + place * step,
            # The last one holds the most itself.
            **({"lt": least + (place + 1) * step} if place < len(_HEAT) - 1 else {}),
            "label": f"{count(least + place * step)} to {count(least + (place + 1) * step)}",
            "color": colour,
        }
        for place, colour in enumerate(_HEAT)
    ]
    ends = [count(least + len(_HEAT) * step), count(least)]
    options: Options = _base() | {
        # The names of all steps need more room than there is; those of both ends do not.
        "media": [
            {
                "query": {"maxWidth": _NARROW},
                "option": {"visualMap": {"showLabel": False, "text": ends}},
            }
        ],
        "tooltip": _tooltip(None)
        | {
            "trigger": "item",
            ":formatter": (
                "cell => `${ROWS[cell.value[1]]}, ${COLUMNS[cell.value[0]]}<br><b>"
                "${new Intl.NumberFormat('en').format(cell.value[2])}</b> UNIT`"
            )
            .replace("ROWS", json.dumps(list(rows)))
            .replace("COLUMNS", json.dumps(list(columns)))
            .replace("UNIT", unit),
        },
        "grid": {"left": 8, "right": 8, "top": 8, "bottom": 56, "containLabel": True},
        "xAxis": _category_axis(along)
        | {"data": list(columns), "nameLocation": "middle", "nameGap": 26},
        "yAxis": _category_axis("") | {"data": list(rows), "inverse": True},
        "visualMap": {
            "type": "piecewise",
            "pieces": pieces,
            "orient": "horizontal",
            "left": "center",
            "bottom": 0,
            "itemWidth": 14,
            "itemHeight": 12,
            "itemGap": 14,
            "showLabel": True,
            "textStyle": {"color": "var(--muted)", "fontSize": 11},
        },
        "series": [
            {
                "type": "heatmap",
                "name": unit,
                "data": [
                    [column, row, value]
                    for row, values in enumerate(cells)
                    for column, value in enumerate(values)
                    if value is not None
                ],
                "itemStyle": {"borderColor": "var(--surface)", "borderWidth": 1},
                "emphasis": {"disabled": True},
            }
        ],
    }
    most = max(
        (
            (value, row, column)
            for row, values in zip(rows, cells, strict=True)
            for column, value in zip(columns, values, strict=True)
            if value is not None
        ),
        key=lambda cell: cell[0],
        default=None,
    )
    busiest = f" Most on {most[1]} at {most[2]}: {count(most[0])}." if most else ""
    return Chart(
        title,
        about,
        options,
        f"Heat map. {about}{busiest}",
        ("", *columns),
        [
            (name, *(number(value) for value in values))
            for name, values in zip(rows, cells, strict=True)
        ],
        height=340,
    )


def _with_gaps(labels: Sequence[str]) -> list[int | None]:
    """The places of the labels, with a None wherever days stand more than a month apart."""
    spread: list[int | None] = []
    for place, label in enumerate(labels):
        if place and len(label) == len("2018-01-31"):
            apart = date.fromisoformat(label) - date.fromisoformat(labels[place - 1])
            if apart > _GAP:
                spread.append(None)
        spread.append(place)
    return spread


def _chart(
    kind: str,
    title: str,
    about: str,
    options: Options,
    along: str,
    labels: Sequence[str],
    series: Sequence[Series],
) -> Chart:
    return Chart(
        title,
        about,
        options,
        f"{kind}. {about} {_in_words(labels, series)}",
        (along, *(one.name for one in series)),
        [
            (label, *(number(one.values[place], one.digits) for one in series))
            for place, label in enumerate(labels)
        ],
    )


def _in_words(labels: Sequence[str], series: Sequence[Series]) -> str:
    """From which label to which, and each measure's least and most."""
    if not labels:
        return "No data."
    span = labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]}"
    ranges = []
    for one in series:
        known = [value for value in one.values if value is not None]
        if known:
            least, most = number(min(known), one.digits), number(max(known), one.digits)
            ranges.append(f"{one.name} {least}" + (f" to {most}" if most != least else ""))
    return f"{span}: {'; '.join(ranges)}."


def _base() -> Options:
    return {
        "color": COLOURS,
        "animationDuration": 300,
        "textStyle": {"color": "var(--text)", "fontFamily": "Roboto, system-ui, sans-serif"},
    }


def _framed(series: Sequence[Series]) -> Options:
    """What upright charts share: a legend above, labels along the foot."""
    return _base() | {
        "tooltip": _tooltip("line"),
        "legend": {
            "show": len(series) > 1,
            "type": "scroll",
            "top": 0,
            "left": 0,
            "itemWidth": 14,
            "itemHeight": 8,
            "icon": "roundRect",
            "textStyle": {"color": "var(--text)"},
            "pageTextStyle": {"color": "var(--muted)"},
            "pageIconColor": "var(--text)",
            "pageIconInactiveColor": "var(--line)",
            "inactiveColor": "var(--line)",
        },
        "grid": {
            # The first and last label of the foot reach beyond it.
            "left": 20,
            "right": 28,
            "top": _BELOW_LEGEND if len(series) > 1 else 36,
            "bottom": 4,
            "containLabel": True,
        },
        "xAxis": _category_axis(""),
    }


def _lying(labels: Sequence[str], axis: str) -> Options:
    """What lying charts share."""
    return _base() | {
        "media": [
            {
                "query": {"maxWidth": chart},
                "option": {"yAxis": {"axisLabel": {"width": width}}},
            }
            # Of several that match, the last one counts.
            for chart, width in reversed(_LABEL_WIDTHS)
        ],
        "grid": {"left": 4, "right": 44, "top": 8, "bottom": 30, "containLabel": True},
        "xAxis": _value_axis(axis, 0, least=0)
        | {"nameLocation": "middle", "nameGap": 28}
        | {"nameTextStyle": {"color": "var(--muted)", "align": "center"}},
        "yAxis": _category_axis("")
        | {
            "data": list(labels),
            "inverse": True,
            "axisLabel": {
                "color": "var(--text)",
                "width": _LABEL_WIDTH,
                "overflow": "truncate",
                "interval": 0,
            },
        },
    }


def _lying_height(labels: Sequence[str]) -> int:
    return max(180, 60 + _ROW_HEIGHT * len(labels))


def _category_axis(name: str) -> Options:
    return {
        "type": "category",
        "name": name,
        "axisLine": {"lineStyle": {"color": "var(--line)"}},
        "axisTick": {"show": False},
        "axisLabel": {
            "color": "var(--muted)",
            "hideOverlap": True,
        },
        "nameTextStyle": {"color": "var(--muted)"},
    }


def _value_axis(name: str, place: int, least: float = 1) -> Options:
    return {
        "type": "value",
        "name": name,
        "nameTextStyle": {"color": "var(--muted)", "align": ("left", "right")[place]},
        "axisLabel": {"color": "var(--muted)", ":formatter": _COMPACT, "hideOverlap": True},
        # The lines of a second axis would cross those of the first.
        "splitLine": {"show": place == 0, "lineStyle": {"color": "var(--grid)"}},
        "splitNumber": 4,
        "minInterval": least,
    }


def _tooltip(pointer: str | None) -> Options:
    return {
        "trigger": "axis",
        "confine": True,
        "axisPointer": {
            "type": pointer or "none",
            "lineStyle": {"color": "var(--muted)"},
            "shadowStyle": {"color": "var(--grid)", "opacity": 0.5},
        },
        "backgroundColor": "var(--surface)",
        "borderColor": "var(--line)",
        "textStyle": {"color": "var(--text)", "fontSize": 13},
    }


def _series(kind: str, series: Series) -> Options:
    options: Options = {
        "type": kind,
        "name": series.name,
        "data": list(series.values),
        "emphasis": {"disabled": True},
        "tooltip": {":valueFormatter": _FULL.replace("DIGITS", str(series.digits))},
    }
    return options | ({"yAxisIndex": series.axis} if series.axis else {})
