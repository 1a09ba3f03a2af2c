"""Asking all rules of a contract at once finds what pandera finds, and leaves the rest to it."""

from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from lakehouse.checks.contract import examine, keeps

NAN = float("nan")


class Readings(pa.DataFrameModel):
    """A contract with a rule of each kind."""

    id: int = pa.Field(unique=True)
    place: str = pa.Field(str_length={"min_value": 1})
    celsius: float = pa.Field(ge=-273.15)
    percent: float = pa.Field(nullable=True, in_range={"min_value": 0, "max_value": 100})
    note: str = pa.Field(nullable=True, isin=["dry", "wet"])

    class Config:
        """A place is read once at each temperature."""

        unique = ["place", "celsius"]  # noqa: RUF012

    @pa.dataframe_check
    @classmethod
    def what_is_wet_has_a_percentage(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """Null where there is no note, which breaks nothing."""
        return data.lazyframe.select((pl.col("note") == "dry") | pl.col("percent").is_not_null())


class Strict(pa.DataFrameModel):
    """Asks for something that pandera alone knows of."""

    id: int

    class Config:
        """No other columns."""

        strict = True


class Several(pa.DataFrameModel):
    """Has several sets of columns of which each is unique, which pandera alone knows of too."""

    id: int
    place: str

    class Config:
        """Neither number nor place stands twice."""

        unique = [["id"], ["place"]]  # noqa: RUF012


class Whole(pa.DataFrameModel):
    """Has a rule of the whole table."""

    id: int

    @pa.dataframe_check
    @classmethod
    def there_are_few(cls, data: pa.PolarsData) -> bool:
        """At most two rows."""
        return bool(data.lazyframe.collect().height <= 2)


class Broken(pa.DataFrameModel):
    """Has a rule that breaks off."""

    id: int

    @pa.dataframe_check
    @classmethod
    def is_no_rule(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """Asks for a column that is not there."""
        return data.lazyframe.select(pl.col("absent") > 0)


GOOD: dict[str, Any] = {"id": 1, "place": "a", "celsius": 0.0, "percent": None, "note": None}


def readings(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows that are good but for these cells, each with a number of its own."""
    cells = [{**GOOD, "id": n, "celsius": float(n), **row} for n, row in enumerate(rows)]
    types = {"percent": pl.Float64, "note": pl.String}
    return pl.DataFrame(cells, schema_overrides=types)


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([{}, {}], True),
        ([{}, {"note": "dry"}], True),
        ([{}, {"note": "wet", "percent": 100.0}], True),
        ([{}, {"note": "wet"}], False),
        ([{}, {"note": "damp", "percent": 1.0}], False),
        ([{"id": 7}, {"id": 7}], False),
        ([{}, {"celsius": 0.0}], False),
        ([{}, {"celsius": 0.0, "place": "b"}], True),
        ([{}, {"celsius": NAN}], False),
        ([{}, {"celsius": None}], False),
        ([{}, {"celsius": -300.0}], False),
        ([{}, {"percent": NAN}], False),
        ([{}, {"percent": 101.0}], False),
        ([{}, {"place": ""}], False),
        ([{}, {"place": None}], False),
    ],
)
def test_it_says_what_pandera_says(rows, kept):
    frame = readings(*rows)
    assert keeps(frame, Readings) is kept
    assert examine([frame], Readings, frame.schema, frame.schema).passed is kept  # asks both


def test_a_column_that_is_missing_or_of_another_type_breaks_it():
    frame = readings({}, {})
    assert not keeps(frame.drop("note"), Readings)
    assert not keeps(frame.with_columns(pl.col("id").cast(pl.String)), Readings)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_rule_may_be_of_the_whole_table(rows):
    frame = pl.DataFrame({"id": range(rows)})
    assert keeps(frame, Whole) is (rows == 1)
    assert examine([frame], Whole, frame.schema, frame.schema).passed is (rows == 1)


def test_what_is_not_known_is_left_to_pandera():
    frame = pl.DataFrame({"id": [1], "more": [2]})
    assert not keeps(frame.select("id"), Strict)
    Strict.validate(frame.select("id"))
    with pytest.raises(pa.errors.SchemaError):
        Strict.validate(frame)


def test_sets_of_unique_columns_are_left_to_pandera():
    frame = pl.DataFrame({"id": [1, 2], "place": ["a", "b"]})
    assert not keeps(frame, Several)
    Several.validate(frame)


def test_of_a_rule_that_breaks_off_pandera_tells():
    frame = pl.DataFrame({"id": [1]})
    assert not keeps(frame, Broken)
    found = examine([frame], Broken, frame.schema, frame.schema)
    assert "is_no_rule" in str(found)
