"""Every line of a file becomes a row or a reject with a reason, and every cell is kept."""

import json
from datetime import date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.transforms.delimited import (
    Delimited,
    header_of,
    read_delimited,
    read_piece,
    reject_lines,
)

TYPES = {
    "name": pl.String,
    "count": pl.Int64,
    "raw": pl.Decimal(20, 0),
    "day": pl.Date,
    "old": pl.Boolean,
}
HEADER = b"name,count,raw,day,old\n"
A_LINE = "Z1,1,2,2018-01-31,False"
A_ROW = ("Z1", 1, Decimal(2), date(2018, 1, 31), False)


def read(*lines: str | bytes, end: bytes = b"\n", last_end: bytes | None = None) -> Delimited:
    """Read these lines, below a header; `last_end` ends the last one where it is another."""
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    return read_body(end.join(encoded) + (end if last_end is None else last_end))


def read_body(body: bytes) -> Delimited:
    found = read_delimited(HEADER + body, TYPES)
    assert found.records == found.frame.height + found.rejects.height
    return found


def rows(found: Delimited) -> list[tuple]:
    return found.frame.select(*TYPES).rows()


def unreadable(found: Delimited) -> list[dict[str, str]]:
    return [json.loads(cells or "{}") for cells in found.frame["_unreadable"]]


def rejected(found: Delimited) -> list[tuple[int, str]]:
    return found.rejects.select("line", "raw").rows()


def reasons(found: Delimited) -> list[str]:
    return found.rejects["reason"].to_list()


def test_a_clean_file_is_typed_and_its_lines_are_numbered_from_the_header():
    found = read(A_LINE, "Z2,,18446744073709551615,2020-02-29,true", ",,,,")
    assert found.frame.schema == {**TYPES, "_row": pl.Int64, "_unreadable": pl.String}
    assert rows(found) == [
        A_ROW,
        ("Z2", None, Decimal(2**64 - 1), date(2020, 2, 29), True),
        (None, None, None, None, None),
    ]
    assert found.frame["_row"].to_list() == [2, 3, 4]
    assert unreadable(found) == [{}, {}, {}]
    assert found.rejects.is_empty()
    assert found.records == 3
    assert found.latin1_lines == 0


@pytest.mark.parametrize(
    ("end", "last_end"), [(b"\n", b""), (b"\r\n", b"\r\n"), (b"\r\n", b""), (b"\r\n", b"\r")]
)
@pytest.mark.parametrize("among", [[], ["cut short"]])
def test_line_ends_are_no_part_of_the_cells(end, last_end, among):
    found = read("Z1,,,,", *among, "Z2,,,,", end=end, last_end=last_end)
    assert found.frame["name"].to_list() == ["Z1", "Z2"]
    assert found.frame["old"].to_list() == [None, None]
    assert unreadable(found) == [{}, {}]
    assert found.rejects["raw"].to_list() == among


@pytest.mark.parametrize("data", [HEADER, HEADER.strip(), b""])
def test_a_file_without_lines_has_no_rows(data):
    found = read_delimited(data, TYPES)
    assert found.frame.is_empty()
    assert found.frame.schema == {**TYPES, "_row": pl.Int64, "_unreadable": pl.String}
    assert found.records == 0


def test_a_short_and_a_long_line_are_rejected_with_their_text_and_the_reason():
    found = read(A_LINE, "Z2,1,2", A_LINE, "Z3,1,2,2018-01-31,False,x", A_LINE)
    assert rows(found) == [A_ROW] * 3
    assert found.frame["_row"].to_list() == [2, 4, 6]
    assert rejected(found) == [(3, "Z2,1,2"), (5, "Z3,1,2,2018-01-31,False,x")]
    assert reasons(found) == ["3 cells where the header has 5", "6 cells where the header has 5"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_short_and_a_long_line_that_make_up_for_each_other_in_commas(order):
    short, long = "Z2,1,2", "Z3,1,2,2018-01-31,False,x,y"
    found = read(A_LINE, *[short, long][::order], A_LINE)
    assert rows(found) == [A_ROW, A_ROW]
    assert found.rejects["raw"].to_list() == [short, long][::order]


def test_empty_cells_beyond_the_header_are_left_out():
    found = read(A_LINE + ",,,", A_LINE)
    assert rows(found) == [A_ROW, A_ROW]


@pytest.mark.parametrize("blank", ["", "   ", "\r"])
def test_blank_lines_are_no_records(blank):
    found = read(blank, A_LINE, blank, blank, A_LINE, blank)
    assert rows(found) == [A_ROW, A_ROW]
    assert found.frame["_row"].to_list() == [3, 6]
    assert found.records == 2


def test_a_quoted_cell_may_hold_commas_quotes_and_line_ends():
    found = read('"a, ""b""\nc",1,2,2018-01-31,False', A_LINE)
    assert rows(found) == [('a, "b"\nc', *A_ROW[1:]), A_ROW]
    assert found.frame["_row"].to_list() == [2, 4]


@pytest.mark.parametrize("after", [A_LINE, '"Z2",1,2,2018-01-31,False', '"Z2,1,2,2018-01-31,False'])
def test_an_unclosed_quote_swallows_nothing_of_what_follows(after):
    found = read(A_LINE, '"Z1,1,2,2018-01-31,False', after, A_LINE)
    assert rejected(found)[0] == (3, '"Z1,1,2,2018-01-31,False')
    assert 4 in [*found.frame["_row"], *found.rejects["line"]]
    assert rows(found)[-1] == A_ROW
    assert found.records == 4


def test_an_unclosed_quote_that_another_one_would_close_is_no_cell():
    found = read('2018,"S1,M,1,0', '2018,S2,"M,1,0')
    assert rows(found) == []
    assert [line for line, _ in rejected(found)] == [2, 3]


def test_a_nul_byte_rejects_its_line_alone():
    found = read(A_LINE, b"Z\x00,1,2,2018-01-31,False", A_LINE)
    assert rows(found) == [A_ROW, A_ROW]
    assert rejected(found) == [(3, "Z\\x00,1,2,2018-01-31,False")]
    assert reasons(found) == ["the line has a NUL byte"]


def test_a_carriage_return_within_a_line_does_not_cut_off_the_rest():
    line = A_LINE + "\rZ2,1,2,2018-01-31,False"
    found = read(A_LINE, line)
    assert rows(found) == [A_ROW]
    assert rejected(found) == [(3, line)]


def test_lines_that_are_not_utf8_are_read_as_latin1_and_counted():
    found = read("Zürich,,,,", "Zürich,,,,".encode("latin-1"), "plain,,,,")
    assert found.frame["name"].to_list() == ["Zürich", "Zürich", "plain"]
    assert found.latin1_lines == 1


def test_a_cell_larger_than_the_csv_module_takes_rejects_its_line():
    found = read('"' + "x" * 200_000 + '",,,,', A_LINE)
    assert rows(found) == [A_ROW]
    assert "field larger than field limit" in reasons(found)[0]


@pytest.mark.parametrize("cell", ["114", "+114", " 114 ", "114.0", "114.000", "00114"])
def test_whole_numbers_as_spreadsheets_save_them(cell):
    found = read(f"Z1,{cell},{cell},,")
    assert rows(found) == [("Z1", 114, Decimal(114), None, None)]
    assert unreadable(found) == [{}]


@pytest.mark.parametrize("cell", ["1.5", "1e3", "abc", "٣", "0x1f", "1_000", "--1", "nan", "inf"])
def test_a_number_that_cannot_be_read_becomes_null_and_its_text_is_kept(cell):
    found = read(f"Z1,{cell},{cell},,", A_LINE)
    assert rows(found) == [("Z1", None, None, None, None), A_ROW]
    assert unreadable(found) == [{"count": cell, "raw": cell}, {}]


@pytest.mark.parametrize("line", ["Z1, ,,,", "Z1, , , , "])
def test_a_cell_of_spaces_is_empty(line):
    found = read(line)
    assert rows(found) == [("Z1", None, None, None, None)]
    assert unreadable(found) == [{}]


def test_a_fraction_is_not_cut_off_where_only_a_whole_number_fits():
    found = read("Z1,1,114.5,,")
    assert rows(found) == [("Z1", 1, None, None, None)]
    assert unreadable(found) == [{"raw": "114.5"}]


def test_the_limits_of_numbers():
    above = str(10**20)
    found = read(f"Z1,{2**63 - 1},{10**20 - 1},,", f"Z1,{2**63},{above},,")
    assert rows(found)[0] == ("Z1", 2**63 - 1, Decimal(10**20 - 1), None, None)
    assert unreadable(found)[1] == {"count": str(2**63), "raw": above}


@pytest.mark.parametrize(
    ("cell", "day"),
    [
        ("2018/1/1", date(2018, 1, 1)),
        ("2018-1-1", date(2018, 1, 1)),
        ("8/29/2022", date(2022, 8, 29)),
        (" 2018-01-31 ", date(2018, 1, 31)),
    ],
)
def test_dates_as_spreadsheets_save_them(cell, day):
    found = read(f",,,{cell},")
    assert found.frame["day"].to_list() == [day]
    assert unreadable(found) == [{}]


@pytest.mark.parametrize(
    "cell",
    [
        *("2018-13-01", "2018-02-30", "29/8/2022", "yesterday", "2018-01-01T00:00:00"),
        *("18-01-01", "99999-01-01", "0000-01-01", "-2018-01-01", "2018- 1-01", "8/\t9/2022"),
    ],
)
def test_what_is_no_date_becomes_null_and_its_text_is_kept(cell):
    found = read(f",,,{cell},", A_LINE)
    assert found.frame["day"].to_list() == [None, date(2018, 1, 31)]
    assert unreadable(found) == [{"day": cell}, {}]


@pytest.mark.parametrize("cell", ["true", "True", "TRUE", "1", " true "])
def test_what_is_true(cell):
    assert read(f",,,,{cell}", f",,,,{cell}").frame["old"].to_list() == [True, True]


def test_a_truth_value_that_cannot_be_read_becomes_null_and_its_text_is_kept():
    found = read(",,,,yes", ",,,,0")
    assert found.frame["old"].to_list() == [None, False]
    assert unreadable(found) == [{"old": "yes"}, {}]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (b"date, Model ,FAILURE", ["date", "model", "failure"]),
        (b"\xef\xbb\xbfdate,model\r", ["date", "model"]),
        (b'"date","a, b"', ["date", "a, b"]),
        (b"date,model,,", ["date", "model"]),
        (b"date,,model", ["date", "", "model"]),
        (b"", []),
        (b"\xff\xfed", ["\ufffd\ufffdd"]),
    ],
)
def test_the_header(line, names):
    assert header_of(line) == names
    assert header_of(line + b"\n2018-01-01,x,y") == names


def test_a_header_that_is_no_line_of_cells_is_one_name():
    assert header_of(b"date\rmodel") == ["date\ufffdmodel"]
    assert header_of(b"x" * 200_000) == ["x" * 200_000]


def test_every_line_of_a_file_can_be_rejected():
    data = b"the header\r\n\n \xffoo\nlast"
    assert reject_lines(data, "because").rows() == [
        (3, " \\xffoo", "because"),
        (4, "last", "because"),
    ]
    assert reject_lines(data, "because", header=False)["line"].to_list() == [1, 3, 4]


plain_text = st.text(st.characters(codec="utf-8", exclude_characters='\0\r\n",\ufeff'), max_size=6)
plain_rows = st.tuples(
    plain_text.map(lambda text: text or None),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.integers(0, 2**64 - 1).map(Decimal),
    st.none() | st.integers(0, 30_000).map(lambda days: date(1970, 1, 1) + timedelta(days)),
    st.none() | st.booleans(),
)


def as_line(row: tuple) -> str:
    return ",".join("" if cell is None else str(cell) for cell in row)


@settings(deadline=None)
@given(st.lists(plain_rows, min_size=1, max_size=8))
def test_what_was_written_is_read_whether_or_not_a_line_is_broken(table):
    """A whole file is read at once, one with a broken line line by line: to the same rows."""
    lines = [as_line(row) for row in table]
    fast = read(*lines)
    careful = read(*lines, "broken")
    assert rows(fast) == rows(careful) == table
    assert unreadable(fast) == [{}] * len(table)
    assert fast.frame.equals(careful.frame)
    assert rejected(careful) == [(len(table) + 2, "broken")]


real_lines = st.sampled_from(
    [A_LINE.encode(), b",,,,", b'"a\nb",1,2,2018-01-31,', b"Z\xe9,1.0,,8/29/2022,", b"Z1,1,2"]
)
odd_bytes = st.sampled_from(
    [b'"', b",", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b" ", b"-", b"\xd9\xa3"]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(real_lines | odd_bytes | st.binary(max_size=8), max_size=12), st.booleans())
def test_whatever_the_bytes_nothing_is_lost_and_nothing_raises(pieces, in_lines):
    body = (b"\n" if in_lines else b"").join(pieces)
    found = read_body(body)
    if b'"' not in body:
        there = [number for number, line in enumerate(body.split(b"\n"), 2) if line.strip()]
        assert sorted([*found.frame["_row"], *found.rejects["line"]]) == there


# Amounts and times, and whole files that are odd in the same way throughout

TRIPS = {"name": pl.String, "amount": pl.Float64, "at": pl.Datetime("us")}
A_TRIP = "Z1,1.5,2018-01-31 23:59:59"


def trips(*lines: str, end: str = "\n") -> Delimited:
    text = end.join(["name,amount,at", *lines]) + end
    found = read_delimited(text.encode(), TRIPS)
    assert found.records == found.frame.height + found.rejects.height
    return found


@pytest.mark.parametrize("beside", [[], ["cut short"], ["Z2,bad,bad"]])
@pytest.mark.parametrize(
    ("cell", "amount"),
    [
        *(("1.5", 1.5), (".5", 0.5), ("-3", -3.0), ("2.", 2.0), ("1e-3", 0.001), ("", None)),
        *(("2.6299999999999999", 2.63), ("+1", 1.0)),
    ],
)
def test_amounts_are_the_same_whatever_stands_beside_them(cell, amount, beside):
    found = trips(f"Z1,{cell},2018-01-31 23:59:59", *beside)
    assert found.frame.select(*TRIPS).row(0) == ("Z1", amount, datetime(2018, 1, 31, 23, 59, 59))
    assert unreadable(found)[0] == {}


@pytest.mark.parametrize("beside", [[], ["cut short"]])
@pytest.mark.parametrize("cell", ["nan", "inf", "-Infinity", "1e999", "1_0", "0x10", "$5", "1 000"])
def test_what_is_no_amount_is_null_and_kept(cell, beside):
    found = trips(A_TRIP, f"Z2,{cell},2018-01-31 23:59:59", *beside)
    assert found.frame["amount"].to_list() == [1.5, None]
    assert unreadable(found) == [{}, {"amount": cell}]


@pytest.mark.parametrize(
    ("cell", "at"),
    [
        ("2018-01-31 23:59:59", datetime(2018, 1, 31, 23, 59, 59)),
        (" 2018-01-31 23:59:59 ", datetime(2018, 1, 31, 23, 59, 59)),
        ("2018-01-31T23:59:59", datetime(2018, 1, 31, 23, 59, 59)),
        ("2018-01-31 23:59:59.25", datetime(2018, 1, 31, 23, 59, 59, 250_000)),
        ("2018-01-31 23:59", datetime(2018, 1, 31, 23, 59)),
        ("", None),
    ],
)
def test_times(cell, at):
    found = trips(f"Z1,1.5,{cell}")
    assert found.frame["at"].to_list() == [at]
    assert unreadable(found) == [{}]


@pytest.mark.parametrize(
    "cell",
    [
        *("2018-02-30 00:00:00", "2018-01-31 24:00:01", "2018-01-31", "18-01-31 00:00:00"),
        *("92018-01-31 00:00:00", "2018-1-31 00:00:00", "2018-01-31 00:00:00+01:00", "soon"),
    ],
)
def test_what_is_no_time_is_null_and_kept(cell):
    found = trips(A_TRIP, f"Z2,1.5,{cell}")
    assert found.frame["at"].to_list() == [datetime(2018, 1, 31, 23, 59, 59), None]
    assert unreadable(found) == [{}, {"at": cell}]


def by_line_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the file was read line by line, which takes a hundred times as long")

    monkeypatch.setattr("lakehouse.transforms.delimited._read_lines", refuse)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("lines", [[A_TRIP + ",,"] * 3, ["", A_TRIP, A_TRIP], ["", A_TRIP + ","]])
def test_empty_cells_in_every_line_and_blank_lines_at_the_top_cost_nothing(lines, end, monkeypatch):
    by_line_is_forbidden(monkeypatch)
    found = trips(*lines, end=end)
    expected = [number for number, line in enumerate(lines, start=2) if line]
    assert found.frame["_row"].to_list() == expected
    assert found.frame["amount"].to_list() == [1.5] * len(expected)
    assert unreadable(found) == [{}] * len(expected)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("top", [[], [""]])
def test_a_file_in_which_every_cell_is_quoted_costs_nothing(top, end, monkeypatch):
    by_line_is_forbidden(monkeypatch)
    found = trips(*top, '"Z1","1.5","2018-01-31 23:59:59"', '"","",""', end=end)
    first = 2 + len(top)
    assert found.frame.select("_row", *TRIPS).rows() == [
        (first, "Z1", 1.5, datetime(2018, 1, 31, 23, 59, 59)),
        (first + 1, None, None, None),
    ]


@pytest.mark.parametrize(
    ("odd", "name"),
    [
        ('"a ""b""","1.5","2018-01-31 23:59:59"', 'a "b"'),
        ('"a,b","1.5","2018-01-31 23:59:59"', "a,b"),
        ('"a\nb","1.5","2018-01-31 23:59:59"', "a\nb"),
        ('a,"1.5","2018-01-31 23:59:59"', "a"),
    ],
)
def test_quotes_that_mean_something_are_not_taken_away(odd, name):
    quoted = '"Z1","1.5","2018-01-31 23:59:59"'
    found = trips(quoted, odd, quoted)
    assert found.frame["name"].to_list() == ["Z1", name, "Z1"]
    assert found.rejects.is_empty()


def test_lines_with_cells_too_many_are_rejected_though_all_have_them():
    found = trips(A_TRIP + ",x", A_TRIP + ",y")
    assert found.frame.is_empty()
    assert reasons(found) == ["4 cells where the header has 3"] * 2


def test_a_piece_of_a_file_is_numbered_from_its_first_line():
    found = read_piece(f"{A_TRIP}\nshort\n{A_TRIP}\n".encode(), TRIPS, line=1001)
    assert found.frame["_row"].to_list() == [1001, 1003]
    assert found.rejects["line"].to_list() == [1002]
    assert read_piece(f"\r\n{A_TRIP}".encode(), TRIPS, line=7).frame["_row"].to_list() == [8]
    assert read_piece(b"", TRIPS, line=7).records == 0
