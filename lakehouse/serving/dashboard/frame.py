"""The frame of every page: head, filters, and what stands there while there is nothing to show.

The address holds the filters, the server nothing: whoever opens an address sees the same. The
data is read anew whenever somebody opens a page, changes a filter or tries again.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import urlencode

from nicegui import context, run, ui
from nicegui.events import GenericEventArguments

from lakehouse.errors import LakehouseError, UsageError
from lakehouse.serving.dashboard.charts import Chart
from lakehouse.serving.dashboard.parts import Content, Filter, Section, chart_table, tiles
from lakehouse.serving.readings import FIRST_DATE, LAST_DATE

_HERE = Path(__file__).parent
_LOG = logging.getLogger(__name__)
_MARK = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="22" height="22" viewBox="0 0 22 22"'
    ' aria-hidden="true" fill="{colour}"><path d="M11 1 21 6v2H1V6zM3 10h3v7H3zM9.5 10h3v7h-3z'
    'M16 10h3v7h-3zM1 18.5h20V21H1z"/></svg>'
)
ICON = _MARK.format(colour="#2f7ad6")
"""The mark, in a colour for light and dark tabs of a browser."""
_HALF = (
    '<svg width="14" height="14" viewBox="0 0 14 14" aria-hidden="true" fill="currentColor">'
    '<path d="M7 0a7 7 0 1 0 0 14A7 7 0 0 0 7 0zm0 1.5v11a5.5 5.5 0 0 1 0-11z"/></svg>'
)
_UNKNOWN = "Something broke that was not foreseen; the server's log says what."


@dataclass(frozen=True)
class Page:
    """A page of the dashboard.

    Attributes:
        path: Its address.
        title: Its heading.
        about: What it shows, in a sentence.
        filters: The query parameters that it understands.
        read: Makes its content of the filters' values, blocking; None where nothing is built yet.
        to_fill: The command that builds something to show.
    """

    path: str
    title: str
    about: str
    filters: frozenset[str]
    read: Callable[[Mapping[str, str]], Content | None]
    to_fill: str


def add_shared() -> None:
    """Puts this package's style and script into every page."""
    ui.add_css((_HERE / "style.css").read_text(), shared=True)
    ui.add_body_html(f"<script>{(_HERE / 'page.js').read_text()}</script>", shared=True)


def draw(page: Page, pages: Sequence[Page], demo: Path) -> None:
    """Builds a page around its filters; the data follows once the browser is there.

    Args:
        page: The page.
        pages: All of them, for the head.
        demo: Where the demo's home would be, for those who look for its tables here.
    """
    ui.page_title(f"{page.title} · Lakehouse")
    query = context.client.request.query_params
    _draw_header(page, pages)
    ui.skip_link("Skip to the content", target=context.client.content)
    with context.client.content.classes("content"):
        _html(escape(page.title), "h1").props("tabindex=-1")
        _html(escape(page.about), "p").classes("about")
        view = _View(page, {name: query[name] for name in page.filters if query.get(name)}, demo)
    ui.timer(0, view.refresh, once=True)


class _View:
    """What one visitor has before them."""

    def __init__(self, page: Page, values: dict[str, str], demo: Path) -> None:
        self._page = page
        self._values = values
        self._demo = demo
        self._asked = 0
        self._bar = ui.element("form").classes("filters").on("submit.prevent")
        self._bar.props["aria-label"] = "Filters"
        self._note = _html("Loading …", "p").classes("note").props("role=status")
        self._body = ui.element()
        with self._body:
            _html("").classes("skeleton")

    async def refresh(self) -> None:
        """Reads and draws, or says why that cannot be."""
        self._asked += 1
        asked = self._asked
        self._note.set_content("Loading …")
        content: Content | None = None
        error: LakehouseError | None = None
        try:
            content = await run.io_bound(self._page.read, dict(self._values))
        except LakehouseError as known:
            error = known
        except Exception:
            _LOG.exception("%s cannot be shown", self._page.path)
            error = LakehouseError(_UNKNOWN)
        # Of two changes in a row, the answer to the first may come last.
        if asked != self._asked:
            return
        self._note.set_content(escape(content.note) if content else "")
        self._body.clear()
        with self._body:
            if error:
                self._draw_error(error)
            elif content is None:
                self._draw_empty()
            else:
                self._draw(content)

    def _draw(self, content: Content) -> None:
        if not self._bar.default_slot.children:
            with self._bar:
                for one in content.filters:
                    self._draw_filter(one)
        _html(tiles(content.tiles))
        if not content.parts:
            _state("Nothing matches these filters", f'<a href="{self._page.path}">Show all</a>')
        with ui.element().classes("parts"):
            for part in content.parts:
                _draw_part(part, "part wide" if part.title in content.wide else "part")

    def _draw_empty(self) -> None:
        command = f"<code>{escape(self._page.to_fill)}</code>"
        with _state(
            "Nothing is built yet", f"Build some months: {command}, then load this page again."
        ):
            if self._demo.is_dir():
                # Both homes' ClickHouse has the same port.
                see = f"lakehouse down && LAKEHOUSE_HOME={self._demo} lakehouse serve"
                _html(
                    "The demo has a home of its own. To see its tables, stop this server, then:"
                    f" <code>{escape(see)}</code>",
                    "p",
                )

    def _draw_error(self, error: LakehouseError) -> None:
        with (
            _state("This cannot be shown", escape(str(error))).classes("error").props("role=alert")
        ):
            if isinstance(error, UsageError):
                _html("Show all", "a").props(f'href="{self._page.path}"')
            else:
                _html("Try again", "button").classes("plain").on("click", self._retry)

    def _draw_filter(self, one: Filter) -> None:
        label = f'<label for="filter-{one.name}">{escape(one.label)}</label>'
        named = f'id="filter-{one.name}" name="{one.name}"'
        if one.choices is None:
            value = escape(self._values.get(one.name, ""))
            days = f'min="{FIRST_DATE}" max="{LAST_DATE}" value="{value}"'
            control = f'<input type="date" {named} {days}>'
        else:
            control = f"<select {named}>{self._options(one)}</select>"
        # Somebody who types 2018 has for a moment typed the year 2, which is before the first day.
        _html(label + control).on(
            "change",
            self._change,
            js_handler="e => e.target.validity.valid && emit(e.target.name, e.target.value)",
        )

    def _options(self, one: Filter) -> str:
        chosen = self._values.get(one.name, "")
        return "".join(
            f'<option value="{escape(choice.value)}"{" selected" * (choice.value == chosen)}>'
            f"{escape(choice.name)}</option>"
            for choice in one.choices or ()
        )

    async def _change(self, event: GenericEventArguments) -> None:
        name, value = event.args
        if name not in self._page.filters:
            return
        self._values[name] = str(value)
        query = urlencode({key: kept for key, kept in self._values.items() if kept})
        address = f"{self._page.path}?{query}" if query else self._page.path
        ui.run_javascript(f"lakehouse.filter({json.dumps(address)})")
        await self.refresh()

    async def _retry(self) -> None:
        # The button is about to go, and the focus must not go with it.
        ui.run_javascript("document.querySelector('h1').focus()")
        await self.refresh()


def _draw_header(page: Page, pages: Sequence[Page]) -> None:
    links = "".join(
        f'<li><a href="{other.path}"{" aria-current=page" * (other is page)}>{other.title}</a></li>'
        for other in pages
    )
    with context.client.layout:
        header = ui.element("header").classes("top")
    with header, ui.element().classes("top-inner"):
        _html(f"{_MARK.format(colour='var(--accent)')}Lakehouse", "span").classes("mark")
        _html(f"<ul>{links}</ul>", "nav").props["aria-label"] = "Pages"
        toggle = _html(f"{_HALF} Theme", "button").classes("plain theme")
        toggle.props["aria-label"] = "Theme: switch between light and dark"
        toggle.on("click", js_handler="() => lakehouse.toggleTheme()")
    header.move(target_index=0)


def _draw_part(part: Chart | Section, classes: str) -> None:
    with ui.element("section").classes(classes) as section:
        heading = _html(escape(part.title), "h2")
        _html(escape(part.about), "p").classes("about")
        section.props["aria-labelledby"] = heading.html_id
        if isinstance(part, Section):
            _html(part.html)
            return
        chart = ui.echart(part.options, renderer="svg").style(f"height: {part.height}px")
        chart.props("role=img")
        chart.props["aria-label"] = part.summary
        _html(chart_table(part))


def _state(title: str, html: str) -> ui.element:
    """What stands where there is nothing to show: a heading and a sentence, given as HTML."""
    with ui.element("section").classes("state") as state:
        _html(escape(title), "h2")
        _html(html, "p")
    return state


def _html(content: str, tag: str = "div") -> ui.html:
    """HTML of our own; whatever came from elsewhere is escaped in it."""
    return ui.html(content, sanitize=False, tag=tag)
