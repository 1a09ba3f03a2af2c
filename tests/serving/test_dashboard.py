"""The dashboard as somebody with a browser meets it: `lakehouse serve`, Chromium, real tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browsing import Visitor, axe, browsing, chromium, served, visiting
from homes import Home
from playwright.sync_api import Browser, BrowserContext
from served import fill_retail, fill_taxi

from lakehouse.samples.drives import make_drive_archives
from lakehouse.services.clickhouse import ClickHouseService

PAGES = {
    "/drives": [
        "Drives and failures a day",
        "Failures by brand and year",
        "Drive days and failures a year",
        "Failure rate by model",
    ],
    "/taxi": [
        *("Trips a day", "Revenue a day", "Trips by hour of the week"),
        *("Trips by borough", "Pickup zones"),
    ],
    "/retail": [
        *("Daily sales", "Sales and customers a month", "Sales by country", "Top 10 products"),
    ],
    "/health": ["Months", "Failing checks", "Rejected rows", "Tables"],
}


@dataclass(frozen=True)
class Dashboard:
    """A running dashboard, and what its pages said while the lake was empty."""

    home: Home
    address: str
    while_empty: dict[str, str]


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    chromium()  # which skips all of it where there is none
    root = tmp_path_factory.mktemp("dashboard")
    make_drive_archives(root / "mirror", months=["2018-01", "2018-02"], drives=90)
    # Of so few lines, those that cannot be read are too many, and a check stops the month.
    make_drive_archives(root / "mirror", months=["2013-04"], drives=20)
    home = Home(root / "home", root / "mirror")
    home.settings.demo.mkdir(parents=True)
    try:
        with served(home) as address:
            while_empty = _texts(address)
            home.backfill("2018-01", "2018-02")
            assert home.call("backfill", "drives", "--from", "2013-04").code == 1
            fill_taxi(home.settings)
            fill_retail(home.settings)
            yield Dashboard(home, address, while_empty)
    finally:
        home.down()


def _texts(address: str) -> dict[str, str]:
    texts = {}
    with browsing() as browser, visiting(browser.new_context(), address) as visitor:
        for path in PAGES:
            visitor.open(path)
            texts[path] = visitor.text
    return texts


@pytest.fixture(scope="module")
def browser(dashboard: Dashboard) -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def context(browser: Browser) -> BrowserContext:
    """What the windows of one person share, such as the scripts that are there already."""
    return browser.new_context()


@pytest.fixture
def visitor(context: BrowserContext, dashboard: Dashboard) -> Iterator[Visitor]:
    with visiting(context, dashboard.address) as visitor:
        yield visitor


@pytest.fixture
def query(dashboard: Dashboard) -> Callable[[str], list[tuple[Any, ...]]]:
    """`lakehouse query`, its rows as tuples."""
    return lambda sql: [tuple(row.values()) for row in dashboard.home.query(sql)]


@pytest.mark.parametrize("path", PAGES)
def test_an_empty_lake_says_how_to_fill_it(dashboard: Dashboard, path: str) -> None:
    assert "Nothing is built yet" in dashboard.while_empty[path]
    assert "lakehouse backfill" in dashboard.while_empty[path]
    see = f"lakehouse down && LAKEHOUSE_HOME={dashboard.home.settings.demo} lakehouse serve"
    assert see in dashboard.while_empty[path]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_shows_its_tables(visitor: Visitor, path: str) -> None:
    visitor.open(path)
    assert visitor.titles() == PAGES[path]
    assert visitor.page.locator("nav [aria-current=page]").get_attribute("href") == path


def test_the_address_of_the_server_leads_to_the_first_page(visitor: Visitor) -> None:
    visitor.open("/")
    assert visitor.page.inner_text("h1") == "Drives"


def test_drives_and_failures_a_day_are_those_of_the_query(visitor: Visitor, query: Any) -> None:
    days = query("SELECT date, drive_count, drive_failures FROM drives.daily_summary ORDER BY date")
    visitor.open("/drives")

    title = "Drives and failures a day"
    assert len(days) > 50
    assert visitor.labels(title) == [date for date, _, _ in days]
    assert visitor.series(title) == {
        "Drives": [count for _, count, _ in days],
        "Failures": [failures for _, _, failures in days],
    }
    assert visitor.rows(title) == [[date, str(n), str(failed)] for date, n, failed in days]
    tiles = visitor.tiles()
    assert tiles["Drives"] == str(days[-1][1])
    assert tiles["Failures"] == str(sum(failed for _, _, failed in days))
    assert tiles["Drive days"] == f"{sum(n for _, n, _ in days):,}"


def test_failures_by_brand_and_year_are_those_of_the_query(visitor: Visitor, query: Any) -> None:
    brands = query("SELECT brand, drive_failures FROM drives.yearly_summary ORDER BY brand")
    visitor.open("/drives")

    assert len(brands) > 2
    assert visitor.labels("Failures by brand and year") == ["2018"]
    assert visitor.series("Failures by brand and year") == {
        brand: [failures] for brand, failures in brands
    }


def test_failure_rates_have_their_intervals(visitor: Visitor, query: Any) -> None:
    rates = query(
        "SELECT model, afr, afr_low, afr_high FROM drives.failure_rates"
        " WHERE period = 'month' AND period_start = '2018-02-01'"
    )
    visitor.open("/drives?period=month")

    title = "Failure rate by model"
    series = visitor.series(title)
    shown = zip(visitor.labels(title), *series.values(), strict=True)
    assert list(series) == ["Rate (%)", "95 % from", "95 % to"]
    assert sorted(shown) == sorted(rates)


def test_trips_are_those_of_the_query(visitor: Visitor, query: Any) -> None:
    trips = query("SELECT trips FROM taxi.daily WHERE service = 'green' ORDER BY date")
    hours = query(
        "SELECT hour, weekday - 1, sum(trips) FROM taxi.hourly GROUP BY ALL ORDER BY 1, 2"
    )
    zones = query("SELECT zone, borough, sum(trips) t FROM taxi.zones GROUP BY ALL ORDER BY t DESC")
    visitor.open("/taxi")

    green = visitor.series("Trips a day")["Green cabs"]
    cells = visitor.series("Trips by hour of the week")["trips"]
    assert [number for number in green if number] == [trips for (trips,) in trips]
    assert [tuple(cell) for cell in cells if cell[2]] == hours
    assert visitor.labels("Pickup zones") == [f"{zone}, {borough}" for zone, borough, _ in zones]
    assert visitor.series("Pickup zones") == {"Trips": [trips for *_, trips in zones]}


def test_sales_are_those_of_the_query(visitor: Visitor, query: Any) -> None:
    days = query("SELECT sales_date, volume FROM quality.sales_summary ORDER BY sales_date")
    countries = query(
        "SELECT country_name, sum(total_amount) AS sold FROM marts.Fact_Sales"
        " JOIN marts.Dim_Country USING country_key GROUP BY ALL ORDER BY sold DESC"
    )
    visitor.open("/retail")

    assert visitor.labels("Daily sales") == [date for date, _ in days]
    assert visitor.series("Daily sales") == {"Sales": [volume for _, volume in days]}
    assert visitor.labels("Sales by country") == [name for name, _ in countries]
    assert visitor.series("Sales by country") == {"Sales (£)": [sold for _, sold in countries]}
    assert visitor.labels("Top 10 products") == ["(POST)", "HEART (85123A)"]


def test_the_eight_quality_figures_are_tiles(visitor: Visitor) -> None:
    visitor.open("/retail")
    assert visitor.tiles() == {
        "Missing customer ratio": "0.2500",
        "Prices not above zero": "1",
        "Quantities over 1,000": "2",
        "Sales volume": "£320.25",
        "Smallest line": "£20.25",
        "Median line": "£160.12",
        "Average line": "£160.12",
        "Largest line": "£300.00",
    }


def test_health_says_what_the_command_says(dashboard: Dashboard, visitor: Visitor) -> None:
    status = dashboard.home.call("status", "drives", "--json").json[0]
    rejects = dashboard.home.call("rejects", "drives", "--json").json
    visitor.open("/health?dataset=drives")

    months = {
        year: [cell.strip() for cell in visitor.page.locator(row).locator("td").all_inner_texts()]
        for year in ("2013", "2018")
        if (row := f"table.calendar tr:has(th:text('{year}'))")
    }
    checks = {row[4]: row[3] for row in visitor.rows("Failing checks")}
    assert "a check stops it" in months["2013"][3]
    assert "missing" in months["2013"][4]
    # The samples of the first month hold faults that checks warn of.
    assert "a check warns" in months["2018"][0]
    assert "up to date" in months["2018"][1]
    assert checks == {
        check["sentence"]: "Stops what follows" if check["stops"] else "Warns"
        for check in status["failing_checks"]
    }
    assert visitor.rows("Rejected rows") == [
        ["drives", month, str(sum(row["month"] == month for row in rejects))]
        for month in ("2013-04", "2018-01")
    ]
    assert visitor.tiles() == {"Drives: newest month": "2018-02"}


def test_an_address_with_filters_shows_the_same_to_everybody(visitor: Visitor) -> None:
    visitor.open("/drives?from=2018-01-30&to=2018-02-02&brand=Seagate")

    def seen() -> list[Any]:
        return [
            visitor.labels("Drives and failures a day"),
            list(visitor.series("Failures by brand and year")),
            *(visitor.page.input_value(f"[name={name}]") for name in ("from", "to", "brand")),
        ]

    days = ["2018-01-30", "2018-01-31", "2018-02-01", "2018-02-02"]
    assert seen() == [days, ["Seagate"], "2018-01-30", "2018-02-02", "Seagate"]
    visitor.page.reload()
    visitor.wait()
    assert seen() == [days, ["Seagate"], "2018-01-30", "2018-02-02", "Seagate"]


def test_a_changed_filter_goes_into_the_address_and_back_undoes_it(visitor: Visitor) -> None:
    visitor.open("/drives")
    everything = visitor.series("Failures by brand and year")

    brand = visitor.page.get_by_label("Brand", exact=True)
    brand.focus()
    brand.select_option("HGST")
    visitor.page.wait_for_url("**/drives?brand=HGST")
    visitor.wait()
    assert list(visitor.series("Failures by brand and year")) == ["HGST"]
    assert visitor.page.evaluate("document.activeElement.name") == "brand"

    visitor.page.get_by_label("From", exact=True).fill("2018-02-20")
    visitor.page.get_by_label("From", exact=True).blur()
    visitor.page.wait_for_url("**/drives?brand=HGST&from=2018-02-20")
    visitor.wait()
    assert visitor.labels("Drives and failures a day")[0] == "2018-02-20"

    for _ in range(2):
        with visitor.page.expect_event("load"):
            visitor.page.go_back()
    visitor.wait()
    assert visitor.query == ""
    assert visitor.series("Failures by brand and year") == everything


def days_in_boxes(visitor: Visitor) -> list[str]:
    return [visitor.page.input_value(f"[name={name}]") for name in ("from", "to")]


def test_days_that_were_entered_stay_in_their_boxes(visitor: Visitor) -> None:
    visitor.open("/drives?to=2018-02-25")
    visitor.page.get_by_label("From", exact=True).fill("2018-02-20")
    visitor.page.get_by_label("From", exact=True).blur()
    visitor.page.wait_for_url("**from=2018-02-20")
    visitor.wait()
    assert days_in_boxes(visitor) == ["2018-02-20", "2018-02-25"]

    visitor.page.get_by_label("From", exact=True).fill("")
    visitor.page.wait_for_url("**/drives?to=2018-02-25")
    visitor.wait()
    assert days_in_boxes(visitor) == ["", "2018-02-25"]


def test_a_day_can_be_typed_digit_by_digit(visitor: Visitor) -> None:
    visitor.open("/drives")
    visitor.page.get_by_label("From", exact=True).focus()
    visitor.page.keyboard.type("02202018", delay=200)
    visitor.page.wait_for_url("**/drives?from=2018-02-20")
    visitor.wait()
    assert days_in_boxes(visitor) == ["2018-02-20", ""]
    assert visitor.labels("Drives and failures a day")[0] == "2018-02-20"
    with visitor.page.expect_event("load"):
        visitor.page.go_back()
    assert visitor.query == ""  # no year before 2018 was ever asked for


def test_a_brand_filters_all_that_drives_shows(visitor: Visitor, query: Any) -> None:
    days = query(
        "SELECT date, drive_count, drive_failures FROM drives.daily_brand_summary"
        " WHERE brand = 'Toshiba' ORDER BY date"
    )
    visitor.open("/drives?brand=Toshiba&period=month")
    assert visitor.series("Drives and failures a day") == {
        "Drives": [count for _, count, _ in days],
        "Failures": [failures for _, _, failures in days],
    }
    assert visitor.tiles()["Drive days"] == f"{sum(count for _, count, _ in days):,}"
    assert list(visitor.series("Failures by brand and year")) == ["Toshiba"]
    models = visitor.labels("Failure rate by model")
    assert models
    assert all(model.startswith("TOSHIBA") for model in models)
    assert visitor.page.get_by_label("Model of the failure rates").count() == 1


def test_a_model_is_shown_over_time(visitor: Visitor, query: Any) -> None:
    ((model,),) = query(
        "SELECT model FROM drives.failure_rates WHERE period = 'month'"
        " GROUP BY model HAVING count() = 2 ORDER BY model LIMIT 1"
    )
    visitor.open(f"/drives?period=month&model={model}")
    assert visitor.labels(f"Failure rate of {model}") == ["2018-01-01", "2018-02-01"]


def test_filters_that_nothing_matches_can_be_taken_off(visitor: Visitor) -> None:
    visitor.open("/retail?from=2030-01-01")
    assert "Nothing matches these filters" in visitor.text
    visitor.page.get_by_role("link", name="Show all").click()
    visitor.page.wait_for_url("**/retail")
    visitor.wait()
    assert visitor.titles() == PAGES["/retail"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/drives?from=yesterday", "from=yesterday is not a day; write it as 2018-01-31."),
        ("/retail?from=2018-02-01&to=2018-01-01", "From 2018-02-01 lies after to 2018-01-01."),
        ("/taxi?service=<b>bus</b>", "There is no service <b>bus</b>."),
        ("/health?dataset=' OR 1", "There is no dataset ' OR 1."),
    ],
)
def test_a_filter_that_cannot_be_is_a_sentence(visitor: Visitor, path: str, sentence: str) -> None:
    visitor.open(path)
    assert sentence in visitor.page.get_by_role("alert").inner_text()
    assert visitor.page.get_by_role("link", name="Show all").get_attribute("href")


def test_a_page_recovers_once_clickhouse_is_back(dashboard: Dashboard, visitor: Visitor) -> None:
    service = ClickHouseService(dashboard.home.settings)
    visitor.open("/drives")
    before = visitor.series("Drives and failures a day")
    service.stop()
    try:
        visitor.page.get_by_label("Failure rates over a").select_option("month")
        alert = visitor.page.get_by_role("alert")
        assert "does not answer" in alert.inner_text()
        assert "Traceback" not in visitor.text
    finally:
        service.start()
    visitor.page.get_by_role("button", name="Try again").click()
    alert.wait_for(state="detached")
    visitor.wait()

    assert visitor.series("Drives and failures a day") == before
    # The button is gone, the focus is not.
    assert visitor.page.evaluate("document.activeElement.tagName") == "H1"


@pytest.mark.parametrize("path", [*PAGES, "/drives?from=2030-01-01", "/drives?from=x"])
def test_axe_finds_nothing_to_complain_of(visitor: Visitor, path: str) -> None:
    visitor.open(path)
    visitor.page.add_script_tag(content=axe())
    assert violations(visitor, "{}") == []
    # Light or dark changes nothing but colours.
    visitor.page.get_by_role("button", name="Theme").click()
    assert violations(visitor, "{runOnly: ['color-contrast']}") == []
    visitor.page.get_by_role("button", name="Theme").click()


def violations(visitor: Visitor, options: str) -> list[tuple[str, str]]:
    """The rules of axe that the page breaks, each with the first element that does."""
    found = visitor.page.evaluate(f"axe.run({options}).then(result => result.violations)")
    return [(rule["id"], rule["nodes"][0]["html"]) for rule in found]


@pytest.mark.parametrize("path", PAGES)
def test_who_sees_no_charts_has_their_names_and_tables(visitor: Visitor, path: str) -> None:
    visitor.open(path)
    assert visitor.page.locator("h1").count() == 1
    for landmark in ("banner", "navigation", "main"):
        assert visitor.page.get_by_role(landmark).count() == 1
    for control in visitor.page.locator("form select, form input").all():
        assert control.evaluate("element => element.labels.length") == 1
    for chart in visitor.page.locator(".nicegui-echart").all():
        name = chart.get_attribute("aria-label") or ""
        table = chart.locator("xpath=following-sibling::div//table")
        assert chart.get_attribute("role") == "img"
        assert ": " in name
        assert table.locator("tbody tr").count() > 0
        assert table.locator("thead th").count() > 1


def test_the_keyboard_reaches_everything_in_order(visitor: Visitor) -> None:
    visitor.open("/drives")
    reached = []
    for _ in range(11):
        visitor.page.keyboard.press("Tab")
        focused = "document.activeElement.getAttribute('name') || document.activeElement.innerText"
        reached.append(str(visitor.page.evaluate(focused)).strip())
        if len(reached) == 2:
            assert visitor.colour(":focus", "outlineStyle") == "solid"
    controls = [name for name in reached[6:] if name]
    assert reached[:6] == [
        *("Skip to the content", "Drives", "Taxi", "Retail", "Health", "Theme"),
    ]
    assert list(dict.fromkeys(controls))[:2] == ["from", "to"]


def test_the_skip_link_leads_past_the_head(visitor: Visitor) -> None:
    visitor.open("/drives")
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.press("Enter")
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.name") == "from"
    assert visitor.titles() == PAGES["/drives"]


@pytest.mark.parametrize("path", PAGES)
def test_narrow_screens_scroll_down_only(visitor: Visitor, path: str) -> None:
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    visitor.open(path)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == 390


def test_narrow_screens_show_what_a_check_found(visitor: Visitor) -> None:
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    visitor.open("/health")
    for title in ("Failing checks", "Tables"):
        table = visitor.page.get_by_role("region", name=f"{title}, table")
        assert table.evaluate("region => region.scrollWidth - region.clientWidth") <= 0
    sentence = visitor.page.get_by_text("lines were rejected").first
    box = sentence.bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_narrow_charts_show_the_whole_title_of_their_axis(visitor: Visitor) -> None:
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    visitor.open("/drives")
    chart = visitor.page.locator("section.part", has_text="Failure rate by model").locator("svg")
    title = chart.get_by_text("Annualized failure rate (%)").bounding_box()
    drawn = chart.bounding_box()
    assert title
    assert drawn
    assert title["x"] + title["width"] <= drawn["x"] + drawn["width"]


def test_it_is_as_dark_as_the_system_until_somebody_chooses(
    browser: Browser, dashboard: Dashboard
) -> None:
    with visiting(browser.new_context(color_scheme="dark"), dashboard.address) as visitor:
        visitor.open("/drives")
        dark = visitor.colour("body", "backgroundColor")
        line = visitor.colour(".nicegui-echart path[stroke='var(--series-1)']", "stroke")
        visitor.page.get_by_role("button", name="Theme").click()
        light = visitor.colour("body", "backgroundColor")
        assert _luminance(dark) < 0.05
        assert _luminance(light) > 0.8
        assert visitor.colour(".nicegui-echart path[stroke='var(--series-1)']", "stroke") != line
        visitor.open("/taxi")
        assert visitor.colour("body", "backgroundColor") == light


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_can_be_read_on_their_ground(
    browser: Browser, dashboard: Dashboard, scheme: str
) -> None:
    """What axe cannot tell of SVG: texts at 4.5 to 1, lines and bars at 3 to 1."""
    least = {"--text": 4.5, "--muted": 4.5} | {f"--series-{n}": 3.0 for n in range(1, 8)}
    with visiting(browser.new_context(color_scheme=scheme), dashboard.address) as visitor:
        visitor.open("/drives")
        ground = _luminance(visitor.colour(".part", "backgroundColor"))
        for name, ratio in least.items():
            visitor.page.evaluate(f"document.querySelector('h1').style.color = 'var({name})'")
            shade = _luminance(visitor.colour("h1", "color"))
            high, low = max(shade, ground), min(shade, ground)
            assert (high + 0.05) / (low + 0.05) >= ratio, name


def test_the_numbers_of_a_chart_can_be_had_as_csv(
    visitor: Visitor, query: Any, tmp_path: Path
) -> None:
    days = query("SELECT * FROM drives.daily_summary WHERE date <= '2018-01-03' ORDER BY date")
    visitor.open("/drives?to=2018-01-03")
    visitor.page.get_by_text("Show as table").first.click()
    link = visitor.page.get_by_role("link", name="Download the rows").first
    answer = visitor.page.request.get(str(link.evaluate("link => link.href")))
    assert answer.text().splitlines() == [
        "date,drive_count,drive_failures",
        *(",".join(map(str, day)) for day in days),
    ]


def test_the_rows_behind_the_failure_rates_are_those_of_the_newest_period(
    visitor: Visitor,
) -> None:
    visitor.open("/drives?period=month")
    part = visitor.page.locator("section.part", has_text="Failure rate by model")
    part.get_by_text("Show as table").click()
    link = part.get_by_role("link", name="Download the rows")
    answer = visitor.page.request.get(str(link.evaluate("link => link.href")))
    models = [line.split(",")[2] for line in answer.text().splitlines()[1:]]
    assert sorted(models) == sorted(row[0] for row in visitor.rows("Failure rate by model"))


def _luminance(colour: str) -> float:
    """WCAG's relative luminance of `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
