"""The page of a report: HTML, CSS and SVG in one text, no script, nothing from elsewhere."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from lakehouse.reports.month import (
    Chart,
    Counts,
    Finding,
    Link,
    MonthReport,
    Section,
    Table,
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6577; --line: #dde1e8;
  --paper: #fff; --bar: #9db4d6; --this: #2358b0; --bad: #b3261e; --warn: #8a5a00; --good: #1b6e3c }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf2; --soft: #a3adbd; --line: #343c4a;
  --paper: #14181f; --bar: #4b648c; --this: #8fb6ff; --bad: #ff8a80; --warn: #f0b95a;
  --good: #7fd6a0 } }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
h1 { margin: 0 } h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line) }
h3 { margin: 1.5rem 0 .25rem; font-size: 1rem } a { color: var(--this) }
p { margin: .25rem 0 } .soft { color: var(--soft) } .bad { color: var(--bad) }
.warn { color: var(--warn) } .good { color: var(--good) }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1rem 0; padding: 0 }
.figures div { display: flex; flex-direction: column-reverse }
.figures dt { color: var(--soft); font-size: .85rem }
.figures dd { margin: 0; font-size: 1.6rem; font-variant-numeric: tabular-nums }
.charts { display: flex; flex-wrap: wrap; gap: 2rem } figure { margin: 0 }
figcaption { color: var(--soft); font-size: .85rem }
svg { display: block; width: 22rem; max-width: 100%; height: auto }
path { stroke: var(--line) } rect { fill: var(--bar) } rect.this { fill: var(--this) }
text { fill: var(--soft); font-size: 9px }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top } th { color: var(--soft); font-weight: 500; font-size: .85rem }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
"""

_BAR_WIDTH, _BAR_STEP, _CHART_HEIGHT = 20, 25, 60


def page(report: MonthReport) -> str:
    """The report as a page; every value in it is escaped."""
    run = report.run
    how = _span("good", "succeeded") if run.succeeded else _span("bad", "failed")
    title = escape(f"{report.dataset} {report.month}")
    return "".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "style-src 'unsafe-inline'\">",
            f"<title>{title}</title><style>{_STYLE}</style></head><body>\n",
            f"<header><h1>{title}</h1>",
            f'<p class="soft">Run {_link(run.link)} {how}, {_moment(run.ended)}.</p></header>\n',
            _list(run.errors, "bad"),
            *(_section(section) for section in report.sections),
            "</body></html>\n",
        ]
    )


def _section(section: Section) -> str:
    return "".join(
        [
            f"<section><h2>{escape(section.name)}</h2>",
            _list(changes(section), ""),
            _figures(section.main.now) if section.main else "",
            _charts(section.charts),
            _rejects(section.rejects),
            _checks(section.checks_passed, section.findings),
            _tables(section.tables),
            "</section>\n",
        ]
    )


def changes(section: Section) -> list[str]:
    """What is another than the time before, and than the month before, in sentences."""
    main = section.main
    told = [_against_the_time_before(main)] if main and main.now.written is not None else []
    return told + [sentence for chart in section.charts if (sentence := _against_before(chart))]


def _against_before(chart: Chart) -> str | None:
    """A chart's last month against the one before; None where there is nothing to say."""
    before, this = chart.bars[-2:]
    if before.value is None or this.value is None or before.value == this.value == 0:
        return None
    if before.value > 0 and this.value > 0:
        return f"{chart.title}: {this.value / before.value:.2f} times those of {before.month}."
    return f"{chart.title}: {this.value:,}, before {before.value:,} in {before.month}."


def _against_the_time_before(main: Table) -> str:
    written = f"{main.now.written:,} rows were written"
    if main.before is None or main.before.written is None:
        return f"{written}, for the first time."
    differences = [
        f"{after - earlier:+,} {what}"
        for what, after, earlier in (
            ("written", main.now.written or 0, main.before.written or 0),
            ("rejected", main.now.rejected or 0, main.before.rejected or 0),
            ("dropped", main.now.dropped or 0, main.before.dropped or 0),
        )
        if after != earlier
    ]
    if not differences:
        return f"{written}, as many as the time before."
    return f"{written}; against the time before: {', '.join(differences)}."


def _figures(counts: Counts) -> str:
    named = [
        ("rows in", counts.rows_in),
        ("written", counts.written),
        ("rejected", counts.rejected),
        ("dropped as duplicates", counts.dropped),
    ]
    figures = [
        f"<div><dt>{name}</dt><dd>{value:,}</dd></div>"
        for name, value in named
        if value is not None
    ]
    return f'<dl class="figures">{"".join(figures)}</dl>'


def _charts(charts: Sequence[Chart]) -> str:
    return f'<div class="charts">{"".join(map(_chart, charts))}</div>' if charts else ""


def _chart(chart: Chart) -> str:
    known = [(place, bar) for place, bar in enumerate(chart.bars) if bar.value is not None]
    highest = max((bar.value or 0 for _, bar in known), default=0)
    rectangles = []
    for place, bar in known:
        height = round(max(bar.value or 0, 0) / highest * _CHART_HEIGHT, 1) if highest else 0
        this = ' class="this"' if place == len(chart.bars) - 1 else ""
        rectangles.append(
            f'<rect{this} x="{place * _BAR_STEP}" y="{_CHART_HEIGHT - height}"'
            f' width="{_BAR_WIDTH}" height="{height}">'
            f"<title>{escape(bar.month)}: {bar.value:,}</title></rect>"
        )
    told = ", ".join(f"{bar.month} {bar.value:,}" for _, bar in known)
    right = len(chart.bars) * _BAR_STEP - _BAR_STEP + _BAR_WIDTH
    below = _CHART_HEIGHT + 11
    return (
        f"<figure><figcaption>{escape(chart.title)}, at most {highest:,}</figcaption>"
        f'<svg viewBox="0 0 {right} {below + 2}" role="img"'
        f' aria-label="{escape(f"{chart.title}: {told}")}">{"".join(rectangles)}'
        f'<path d="M0 {_CHART_HEIGHT}H{right}"/>'
        f'<text x="0" y="{below}">{escape(chart.bars[0].month)}</text>'
        f'<text x="{right}" y="{below}" text-anchor="end">{escape(chart.bars[-1].month)}</text>'
        "</svg></figure>"
    )


def _rejects(rejects: Sequence[tuple[str, int]] | None) -> str:
    if rejects is None:
        return '<h3>Rejected rows</h3><p class="warn">They cannot be read now.</p>'
    if not rejects:
        return ""
    rows = [[escape(reason), f"{count:,}"] for reason, count in rejects]
    return f"<h3>Rejected rows</h3>{_table(['reason', 'rows'], rows, first_number=1)}"


def _checks(passed: int, findings: Sequence[Finding]) -> str:
    if not passed and not findings:
        return ""
    failed = sum(finding.stops for finding in findings)
    counts = f"{passed:,} passed, {failed:,} failed, {len(findings) - failed:,} warned."
    rows = [
        [
            _span("bad", "failed") if finding.stops else _span("warn", "warned"),
            _link(finding.check),
            escape(finding.sentence),
        ]
        for finding in findings
    ]
    table = _table(["", "check", "what it says"], rows) if rows else ""
    return f"<h3>Checks</h3><p>{counts}</p>{table}"


def _tables(tables: Sequence[Table]) -> str:
    rows = [
        [
            _link(table.asset),
            _number(table.now.rows_in),
            _written(table.now),
            *(_number(value) for value in (table.now.rejected, table.now.dropped)),
            _written(table.before) if table.before else "",
            f"{_moment(table.made)} {_link(table.run)}" if table.made and table.run else "missing",
        ]
        for table in tables
    ]
    columns = ["table", "in", "written", "rejected", "dropped", "written before", "made"]
    return f"<h3>Tables</h3>{_table(columns, rows, first_number=1, last_number=5)}"


def _table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    first_number: int = 99,
    last_number: int = 99,
) -> str:
    """A table of cells that are HTML already; the columns between these places are numbers."""

    def cell(tag: str, place: int, content: str) -> str:
        number = ' class="number"' if first_number <= place <= last_number else ""
        return f"<{tag}{number}>{content}</{tag}>"

    head = "".join(cell("th", place, escape(name)) for place, name in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(cell("td", place, content) for place, content in enumerate(row)) + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _list(sentences: Iterable[str], style: str) -> str:
    return "".join(f'<p class="{style}">{escape(sentence)}</p>' for sentence in sentences)


def _span(style: str, word: str) -> str:
    return f'<span class="{style}">{word}</span>'


def _link(link: Link | None) -> str:
    return f'<a href="{escape(link.url)}">{escape(link.name)}</a>' if link else ""


def _written(counts: Counts) -> str:
    """Of a table without months all its rows."""
    if counts.written is None and counts.whole is not None:
        return f"{counts.whole:,} in all"
    return _number(counts.written)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _moment(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
