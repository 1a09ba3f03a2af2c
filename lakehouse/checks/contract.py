"""Whether a frame keeps a pandera contract, and if not, what breaks it: counted, with examples."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import polars as pl

from lakehouse.imports import absent

UNUSED = ("pandas", "hypothesis")
"""What pandera would import, now or at the first check, which takes longer than its own import."""

with absent(*UNUSED):
    import pandera.backends.polars.builtin_checks  # noqa: F401  # fields then know Polars at once
    import pandera.polars as pa
    from pandera.backends.polars.checks import PolarsCheckBackend

EXAMPLES = 5
"""Failing rows that are kept of each finding; a bad file can have millions."""


@dataclass
class Finding:
    """A rule that rows break: which, on which column, how many rows, and the first of them."""

    rule: str
    column: str
    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        values = ", ".join(dict.fromkeys(self._values()))
        rows = f"{self.count:,} row{'s' if self.count != 1 else ''}" if self.count else "the table"
        where = next((_origin(example) for example in self.examples if "_source" in example), "")
        return f"{rows}: {self.column} breaks {self.rule}{f' ({values})' if values else ''}{where}"

    def _values(self) -> list[str]:
        """The bad values; for a rule of several columns, those of the first row."""
        if not self.examples or self.column in self.examples[0]:
            return [str(example[self.column]) or "''" for example in self.examples]
        row, several = self.examples[0], self.column.split(" and ")
        named = [name for name in row if name in several] or list(row)
        return [f"{name} {row[name]}" for name in named]


def _origin(row: dict[str, Any]) -> str:
    return f", first in {row['_source']} line {row['_row']}"


@dataclass
class Verdict:
    """What an examination found: rows looked at, findings, and columns that are not as declared."""

    rows: int
    findings: list[Finding]
    missing: list[str]
    extra: list[str]
    mistyped: dict[str, tuple[str, str]]
    """Column to its expected and its found type."""

    @property
    def passed(self) -> bool:
        """Whether the contract is kept; extra columns do not break it."""
        return not (self.findings or self.missing or self.mistyped)

    def __str__(self) -> str:
        problems = [str(finding) for finding in self.findings]
        problems += [f"column {name} is missing" for name in self.missing]
        problems += [
            f"column {name} is {found}, not {expected}"
            for name, (expected, found) in self.mistyped.items()
        ]
        if not problems:
            return f"All {self.rows:,} rows keep the contract."
        return f"Of {self.rows:,} rows, " + "; ".join(problems) + "."


def examine(
    frames: Iterable[pl.DataFrame],
    contract: type[pa.DataFrameModel],
    expected: pl.Schema,
    found: pl.Schema,
) -> Verdict:
    """Hold frames, together one partition, against a contract and a table against its columns.

    A rule that looks at several rows (uniqueness) sees one frame at a time.
    """
    findings: dict[tuple[str, str], Finding] = {}
    rows = 0
    for frame in frames:
        rows += frame.height
        for finding in _findings(frame, contract):
            known = findings.setdefault(
                (finding.column, finding.rule), Finding(finding.rule, finding.column)
            )
            known.count += finding.count
            known.examples += finding.examples[: EXAMPLES - len(known.examples)]
    missing = [name for name in expected if name not in found]
    mistyped = {
        name: (str(dtype), str(found[name]))
        for name, dtype in expected.items()
        if name in found and found[name] != dtype
    }
    return Verdict(
        rows=rows,
        # What pandera says of the table then follows from this, in other words.
        findings=[f for f in findings.values() if f.count or not (missing or mistyped)],
        missing=missing,
        extra=[name for name in found if name not in expected],
        mistyped=mistyped,
    )


def keeps(frame: pl.DataFrame, contract: type[pa.DataFrameModel]) -> bool:
    """Whether a frame is known to keep a contract: all rules are asked at once.

    pandera has several queries for each rule, which together take longer than the rules of a month
    do. Where this does not say that a contract is kept, pandera is to be asked.
    """
    schema = _plain_schema(contract)
    if schema is None or not set(schema.columns) <= set(frame.columns):
        return False
    rows = frame.lazy()
    rules: list[pl.LazyFrame] = []
    for name, column in schema.columns.items():
        if not column.dtype.check(frame.schema[name], pa.PolarsData(rows, name)):
            return False
        if column.unique and frame[name].is_duplicated().any():
            return False
        if not column.nullable:
            rules.append(rows.select(_is_there(name, frame.schema[name])))
    try:
        if schema.unique and frame.select(schema.unique).is_duplicated().any():
            return False
        for name, column in schema.columns.items():
            rules += [_asked(check, pa.PolarsData(rows, name)) for check in column.checks]
        rules += [_asked(check, pa.PolarsData(rows)) for check in schema.checks]
        answers = pl.collect_all([rule.select(pl.all().all()) for rule in rules])
    except Exception:
        # Of a rule that breaks off, or is none that is known here, pandera tells.
        return False
    return all(answer.item() for answer in answers)


@cache
def _plain_schema(contract: type[pa.DataFrameModel]) -> pa.DataFrameSchema | None:
    """What a contract asks for, if `keeps` knows all of that; None where it asks for more."""
    schema = contract.to_schema()
    known = pa.DataFrameSchema(
        {
            name: pa.Column(
                *(column.dtype, column.checks),
                nullable=column.nullable,
                unique=column.unique,
                name=name,
            )
            for name, column in schema.columns.items()
        },
        checks=schema.checks,
        unique=schema.unique,
        name=schema.name,
        description=schema.description,
    )
    return schema if schema == known else None


def _is_there(name: str, dtype: pl.DataType) -> pl.Expr:
    """As pandera has it, to which what is not a number is missing too."""
    there = pl.col(name).is_not_null()
    return there & pl.col(name).is_not_nan() if dtype.is_float() else there


def _asked(check: pa.Check, data: pa.PolarsData) -> pl.LazyFrame:
    """Of each row whether a rule holds, not asked yet."""
    answer = PolarsCheckBackend(check).apply(data)
    if isinstance(answer, bool):  # the rule is of the whole table
        return pl.LazyFrame({"holds": [answer]})
    return answer.select(pl.all().fill_null(check.ignore_na))


def _findings(frame: pl.DataFrame, contract: type[pa.DataFrameModel]) -> list[Finding]:
    if keeps(frame, contract):
        return []
    try:
        with absent(*UNUSED):
            contract.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        unique = " and ".join(contract.to_schema().unique or [])
        return [
            Finding(
                rule="uniqueness" if check == "multiple_fields_uniqueness" else str(check),
                column=unique if check == "multiple_fields_uniqueness" else str(column),
                count=int(cases["index"].is_not_null().sum()),
                examples=_rows(frame, cases),
            )
            for (column, check), cases in errors.failure_cases.group_by(
                "column", "check", maintain_order=True
            )
        ]
    return []


def _rows(frame: pl.DataFrame, cases: pl.DataFrame) -> list[dict[str, Any]]:
    at = cases["index"].drop_nulls().unique(maintain_order=True).head(EXAMPLES)
    return frame[at.to_list()].to_dicts()
