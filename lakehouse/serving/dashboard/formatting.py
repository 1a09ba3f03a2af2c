"""Numbers and ages as people read them."""

from datetime import datetime

NONE = "\N{EN DASH}"


def number(value: float | int | None, digits: int = 0) -> str:
    """With thousands separated, and so many decimals; a dash for None."""
    return NONE if value is None else f"{value:,.{digits}f}"


def count(value: float | int | None) -> str:
    """Short, for labels: 1.2 k, 3.4 M."""
    if value is None:
        return NONE
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def age(moment: datetime | None) -> str:
    """How long ago a moment was; a dash for None."""
    if moment is None:
        return NONE
    minutes = int((datetime.now(moment.tzinfo) - moment).total_seconds() // 60)
    for size, unit in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            whole = minutes // size
            return f"{whole:,} {unit}{'s' if whole > 1 else ''} ago"
    return "just now"
