"""What a page is made of besides charts: tiles, tables, calendars, as HTML."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lakehouse.serving.dashboard.charts import Chart

_MOST_ROWS = 400
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass(frozen=True)
class Tile:
    """A figure with its name, and a few words to go with it."""

    name: str
    value: str
    aside: str = ""


@dataclass(frozen=True)
class Choice:
    """What a filter can be set to, as it stands in the address, and as people read it."""

    value: str
    name: str


@dataclass(frozen=True)
class Filter:
    """A control whose value lives in the address.

    Attributes:
        name: The query parameter.
        label: Its label.
        choices: What can be chosen; a day is to be entered where this is None.
    """

    name: str
    label: str
    choices: Sequence[Choice] | None = None


@dataclass(frozen=True)
class Section:
    """A part of a page that is no chart; `html` is trusted."""

    title: str
    about: str
    html: str


@dataclass(frozen=True)
class Month:
    """How a month stands: the style sheet's class, a sign that needs no colour, and words."""

    style: str
    sign: str
    words: str


@dataclass(frozen=True)
class Content:
    """What a page shows of the data.

    Attributes:
        filters: The controls above it.
        note: What is shown, in a few words.
        tiles: The figures on top.
        parts: Charts and sections; those in `wide` take the whole width.
        wide: Their titles.
    """

    filters: Sequence[Filter]
    note: str
    tiles: Sequence[Tile]
    parts: Sequence[Chart | Section]
    wide: frozenset[str] = frozenset()


def tiles(shown: Sequence[Tile]) -> str:
    """A list of figures and their names."""
    return '<dl class="tiles">' + "".join(map(_tile, shown)) + "</dl>" if shown else ""


def _tile(tile: Tile) -> str:
    aside = f'<dd class="aside">{escape(tile.aside)}</dd>' if tile.aside else ""
    return (
        f'<div class="tile"><dt>{escape(tile.name)}</dt><dd>{escape(tile.value)}</dd>{aside}</div>'
    )


def table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1
) -> str:
    """A table whose first column names the row; all but the first `texts` hold numbers.

    Cells know their column, for narrow screens, on which the style sheet may stack them.
    """
    head = "".join(
        f'<th scope="col"{_number(place, texts)}>{escape(name)}</th>'
        for place, name in enumerate(header)
    )
    body = "".join(_row(row, header, texts) for row in rows[-_MOST_ROWS:])
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}, table">'
        f'<table><caption class="quiet">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(cells: Sequence[str], header: Sequence[str], texts: int) -> str:
    first, *others = map(escape, cells)
    rest = "".join(
        f'<td{_number(place, texts)} data-column="{escape(header[place])}">{cell}</td>'
        for place, cell in enumerate(others, start=1)
    )
    return f'<tr><th scope="row">{first}</th>{rest}</tr>'


def _number(place: int, texts: int) -> str:
    return ' class="n"' if place >= texts else ""


def chart_table(chart: Chart) -> str:
    """The numbers of a chart, behind a line that opens them."""
    shortened = ""
    if len(chart.rows) > _MOST_ROWS:
        shortened = f"<p>The last {_MOST_ROWS} of {len(chart.rows):,} rows.</p>"
    name = "Download the rows behind it (CSV)"
    link = f'<a href="{escape(chart.csv)}">{name}</a>' if chart.csv else ""
    quiet = f'<span class="quiet"> of {escape(chart.title)}</span>'
    return (
        f"<details><summary>Show as table{quiet}</summary>{shortened}"
        f"{table(chart.title, chart.header, chart.rows)}{link}</details>"
    )


def calendar(name: str, months: Mapping[str, Month]) -> str:
    """A row of twelve months for each year, from the first to the last of these months."""
    years = range(int(min(months)[:4]), int(max(months)[:4]) + 1)
    head = "".join(f'<th scope="col" aria-label="{long}">{long[0]}</th>' for long in _MONTHS)
    body = "".join(
        f'<tr><th scope="row">{year}</th>'
        + "".join(_month(months.get(f"{year}-{place:02d}")) for place in range(1, 13))
        + "</tr>"
        for year in years
    )
    return (
        f'<div><h3>{escape(name)}</h3><table class="calendar">'
        f'<caption class="quiet">{escape(name)}: state of each month</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _month(month: Month | None) -> str:
    if month is None:
        return '<td><span class="month later"></span></td>'
    return (
        f'<td><span class="month {month.style}" title="{escape(month.words)}">'
        f'<span aria-hidden="true">{month.sign}</span>'
        f'<span class="quiet">{escape(month.words)}</span></span></td>'
    )


def legend(months: Iterable[Month]) -> str:
    """What the signs of a calendar mean."""
    items = "".join(
        f'<li><span class="month {month.style}" aria-hidden="true">{month.sign}</span>'
        f"{escape(month.words.capitalize())}</li>"
        for month in months
    )
    return f'<ul class="legend">{items}</ul>'
