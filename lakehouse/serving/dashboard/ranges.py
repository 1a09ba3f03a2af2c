"""What the filters of several pages share: from and to, and reading past the most rows of one."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, NamedTuple

from lakehouse.errors import UsageError
from lakehouse.serving.dashboard.parts import Choice, Filter
from lakehouse.serving.readings import MAX_ROWS, Row

FROM, TO = Filter("from", "From"), Filter("to", "To")


class Range(NamedTuple):
    """From which day to which; None leaves an end open."""

    first: date | None
    last: date | None

    @property
    def query(self) -> dict[str, date | None]:
        """The same as parameters of the API."""
        return {"from": self.first, "to": self.last}


def chosen_range(values: Mapping[str, str]) -> Range:
    """The range that the filters say.

    Raises:
        UsageError: An end is no day, or the first lies after the last.
    """
    first, last = _day(values, "from"), _day(values, "to")
    if first and last and first > last:
        raise UsageError(f"From {first} lies after to {last}.")
    return Range(first, last)


def _day(values: Mapping[str, str], name: str) -> date | None:
    text = values.get(name)
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{name}={text} is not a day; write it as 2018-01-31.") from None


def chosen(values: Mapping[str, str], name: str, choices: list[str]) -> str | None:
    """What a filter is set to; None where it is not.

    Raises:
        UsageError: It is none of the choices.
    """
    value = values.get(name) or None
    if value is not None and value not in choices:
        raise UsageError(f"There is no {name} {value}.")
    return value


def choices(everything: str, values: list[str]) -> list[Choice]:
    """Everything, or one of the values."""
    return [Choice("", everything), *(Choice(value, value) for value in values)]


def all_rows(reading: Callable[..., list[Row]], *arguments: Any, **options: Any) -> list[Row]:
    """The rows of a reading, page by page."""
    rows: list[Row] = []
    while True:
        page = reading(*arguments, **options, limit=MAX_ROWS, offset=len(rows))
        rows += page
        if len(page) < MAX_ROWS:
            return rows


def span(rows: list[Row], column: str = "date") -> str:
    """From which day to which the rows are."""
    first, last = rows[0][column], rows[-1][column]
    return str(first) if first == last else f"{first} to {last}"
