"""What the report of a month says."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A name that leads somewhere."""

    name: str
    url: str


@dataclass(frozen=True)
class Run:
    """The run that the report was written after; `ended` is a Unix time."""

    link: Link
    succeeded: bool
    ended: float
    errors: Sequence[str]


@dataclass(frozen=True)
class Counts:
    """Rows of a materialization, as far as it tells of them; `whole` of the whole table."""

    rows_in: int | None = None
    written: int | None = None
    rejected: int | None = None
    dropped: int | None = None
    whole: int | None = None


@dataclass(frozen=True)
class Table:
    """A table's month: how it was made last, and the time before.

    Attributes:
        asset: Its page in Dagster.
        run: The run that made it last; None where it was never made.
        made: When that was, as a Unix time.
        now: What came of it.
        before: What came of it the time before; None where there was none.
    """

    asset: Link
    run: Link | None = None
    made: float | None = None
    now: Counts = Counts()
    before: Counts | None = None


@dataclass(frozen=True)
class Finding:
    """A check that does not pass; `stops` tells whether it stops what follows."""

    check: Link
    stops: bool
    sentence: str


@dataclass(frozen=True)
class Bar:
    """A month of a chart; None where nothing is known of it."""

    month: str
    value: int | None


@dataclass(frozen=True)
class Chart:
    """A figure over two months or more; the last one is the report's."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Section:
    """A part of a data set, such as a taxi service.

    Attributes:
        name: What it is called.
        tables: Its tables, each behind what it is made from.
        main: The table whose rows are those of the source; None where none is.
        rejects: Reasons, and how many rows were rejected for each; None where they cannot be read.
        checks_passed: Checks that pass.
        findings: Checks that do not, those that stop what follows first.
        charts: Figures against the months before.
    """

    name: str
    tables: Sequence[Table]
    main: Table | None
    rejects: Sequence[tuple[str, int]] | None
    checks_passed: int
    findings: Sequence[Finding]
    charts: Sequence[Chart]


@dataclass(frozen=True)
class MonthReport:
    """What there is to say of a month of a data set after a run."""

    dataset: str
    month: str
    run: Run
    sections: Sequence[Section]
