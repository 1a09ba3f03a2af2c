"""Charts, tables and calendars before any browser sees them."""

from itertools import pairwise

from lakehouse.serving.dashboard.charts import Chart, Series, heat_map, intervals, lines, ranking
from lakehouse.serving.dashboard.formatting import count, number
from lakehouse.serving.dashboard.parts import Month, calendar, chart_table, table


def line(labels: list[str], values: list[float | None]) -> Chart:
    return lines("Sales", "Pounds.", labels, [Series("Sold", values)], along="Day", axes=["£"])


def test_a_line_breaks_off_where_more_than_a_month_is_missing() -> None:
    chart = line(["2018-01-31", "2018-02-01", "2018-04-01"], [1, 2, 3])
    assert chart.options["xAxis"]["data"] == ["2018-01-31", "2018-02-01", "", "2018-04-01"]
    assert chart.options["series"][0]["data"] == [1, 2, None, 3]
    assert [row[0] for row in chart.rows] == ["2018-01-31", "2018-02-01", "2018-04-01"]


def test_closed_days_do_not_break_a_line() -> None:
    chart = line(["2018-01-05", "2018-01-08"], [1, 2])
    assert chart.options["series"][0]["data"] == [1, 2]


def test_a_line_goes_on_over_years_without_data() -> None:
    chart = lines(
        *("Years", "All.", ["2018", "2019", "2020"], [Series("Failures", [1, None, 2])]),
        along="Year",
        axes=["Failures"],
        over_gaps=True,
    )
    assert chart.options["series"][0]["connectNulls"]
    assert not line(["2018-01-01"], [1]).options["series"][0]["connectNulls"]


def test_a_chart_is_told_in_words() -> None:
    chart = line(["2018-01-01", "2018-01-02", "2018-01-03"], [1500, None, 20])
    assert chart.summary == "Line chart. Pounds. 2018-01-01 to 2018-01-03: Sold 20 to 1,500."
    assert chart.rows[1] == ("2018-01-02", "\N{EN DASH}")


def test_an_interval_is_drawn_from_its_low_to_its_high_end() -> None:
    chart = intervals(
        *("Rates", "By model.", ["A", "B"]),
        *(Series("Rate", [2, 4]), Series("from", [1, 3.5]), Series("to", [3, 5])),
        of="Model",
        axis="%",
    )
    start, width = (series["data"] for series in chart.options["series"][:2])
    assert (start, width) == ([1, 3.5], [2, 1.5])


def test_the_steps_of_a_heat_map_hold_every_cell() -> None:
    chart = heat_map(
        *("Hours", "Trips.", ["00:00", "01:00"], ["Monday"], [[3, 250]]),
        along="Hour",
        unit="trips",
    )
    pieces = chart.options["visualMap"]["pieces"]
    assert pieces[0]["gte"] == 3
    assert "lt" not in pieces[-1]
    assert all(a["lt"] == b["gte"] for a, b in pairwise(pieces))
    assert chart.summary.endswith("Most on Monday at 01:00: 250.")
    (narrow,) = chart.options["media"]
    assert narrow["option"]["visualMap"] == {"showLabel": False, "text": ["255", "3"]}


def test_names_from_the_data_stay_text() -> None:
    chart = ranking(
        *("Products", "All.", ["<script>alert(1)</script>"], Series("Sold", [1])),
        of="Product",
        axis="£",
    ).at("retail/products", **{"from": None})
    html = chart_table(chart)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert 'href="/api/retail/products?format=csv"' in html


def test_a_long_table_shows_its_end_and_says_so() -> None:
    chart = line([f"row {n}" for n in range(500)], [float(n) for n in range(500)])
    html = chart_table(chart)
    assert "The last 400 of 500 rows." in html
    assert "row 499" in html
    assert "row 99<" not in html


def test_a_table_names_its_columns_and_rows_for_screen_readers() -> None:
    html = table("Rows", ("Name", "Rows"), [("a", "1")])
    assert '<th scope="col" class="n">Rows</th>' in html
    assert '<th scope="row">a</th><td class="n" data-column="Rows">1</td>' in html


def test_a_calendar_says_in_words_what_its_colours_say() -> None:
    html = calendar("Drives", {"2018-01": Month("bad", "✕", "failed")})
    assert html.count("<tr>") == 2
    assert 'class="month bad"' in html
    assert '<span class="quiet">failed</span>' in html


def test_numbers_are_as_people_read_them() -> None:
    assert [number(1234567), number(2.345, 2), number(None)] == [
        *("1,234,567", "2.35", "\N{EN DASH}")
    ]
    assert [count(950), count(1234), count(11_700_000)] == ["950", "1.23K", "11.7M"]
