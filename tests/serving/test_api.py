"""The API as programs meet it: shapes, order, filters, pages, forms, caching, refusals."""

import csv
import io
import time
from collections.abc import Iterator
from datetime import date

import httpx
import polars as pl
import pytest
from served import fill_drives, fill_retail, fill_taxi, served

from lakehouse.resources.clickhouse import ClickHouse
from lakehouse.services.clickhouse import PUBLISHED_DATABASES, ClickHouseService
from lakehouse.serving.health import Health
from lakehouse.settings import Settings
from lakehouse.tables import drives


@pytest.fixture(scope="module")
def filled(
    clickhouse_service: ClickHouseService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), clickhouse_url=clickhouse_service.status().address
    )
    fill_drives(settings)
    fill_taxi(settings)
    fill_retail(settings)
    yield settings
    with ClickHouse(settings).client() as client:
        for database in (*PUBLISHED_DATABASES, "staging"):
            client.command(f"DROP DATABASE IF EXISTS {database} SYNC")


@pytest.fixture(scope="module")
def api(filled: Settings) -> Iterator[httpx.Client]:
    with served(filled) as client:
        yield client


def rows(api: httpx.Client, path: str) -> list[dict]:
    answer = api.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_the_daily_summary_has_the_shape_of_the_original(api: httpx.Client) -> None:
    assert rows(api, "/api/daily_summary") == [
        {"date": "2018-01-30", "drive_count": 100, "drive_failures": 0},
        {"date": "2018-01-31", "drive_count": 101, "drive_failures": 1},
        {"date": "2018-02-01", "drive_count": 102, "drive_failures": 0},
        {"date": "2018-02-02", "drive_count": 103, "drive_failures": 2},
    ]


def test_days_are_asked_for_from_the_first_to_the_last_of_them(api: httpx.Client) -> None:
    found = rows(api, "/api/daily_summary?from=2018-01-31&to=2018-02-01")
    assert [row["date"] for row in found] == ["2018-01-31", "2018-02-01"]


def test_days_of_a_brand_have_the_shape_of_the_original(api: httpx.Client) -> None:
    assert rows(api, "/api/daily_summary?brand=Seagate&from=2018-01-31") == [
        {"date": "2018-01-31", "drive_count": 60, "drive_failures": 1}
    ]
    assert len(rows(api, "/api/daily_summary?brand=HGST")) == 2
    assert rows(api, "/api/daily_summary?brand=Nobody") == []


def test_a_year_is_one_row_as_in_the_original(api: httpx.Client) -> None:
    assert rows(api, "/api/yearly_summary") == [
        {"year": 2018, "drive_count": 100, "drive_days": 10000, "drive_failures": 4},
        {"year": 2019, "drive_count": 70, "drive_days": 25000, "drive_failures": 2},
    ]


@pytest.mark.parametrize(
    ("query", "years"),
    [
        ("from=2019", [(2019, 2)]),
        ("to=2018", [(2018, 4)]),
        ("from=2018-06-30&to=2018-07-01", [(2018, 4)]),
        ("brand=HGST", [(2018, 1)]),
        ("brand=Seagate&from=2018&to=2018", [(2018, 3)]),
        ("brand=Nobody", []),
    ],
)
def test_years_and_brands_are_filters(
    api: httpx.Client, query: str, years: list[tuple[int, int]]
) -> None:
    found = rows(api, f"/api/yearly_summary?{query}")
    assert [(row["year"], row["drive_failures"]) for row in found] == years


def test_years_are_told_apart_by_brand(api: httpx.Client) -> None:
    found = rows(api, "/api/yearly_summary?by=brand")
    assert [(row["year"], row["brand"], row["drive_failures"]) for row in found] == [
        (2018, "HGST", 1),
        (2018, "Seagate", 3),
        (2019, "Seagate", 2),
    ]


def test_failure_rates_are_of_one_period_and_in_order(api: httpx.Client) -> None:
    found = rows(api, "/api/failure_rates?period=quarter")
    assert [row["model"] for row in found] == ["HGST HMS5C4040BLE640", "ST4000DM000"]
    assert found[1] == {
        "period": "quarter",
        "period_start": "2018-01-01",
        "model": "ST4000DM000",
        "maker": "Seagate",
        "drive_count": 60,
        "drive_days": 6000,
        "failures": 3,
        "afr": 2.5,
        "afr_low": 1.25,
        "afr_high": 4.75,
    }


@pytest.mark.parametrize(
    "query",
    ["brand=Seagate", "maker=Seagate", "model=ST4000DM000", "min_drive_days=5000", "period=year"],
)
def test_failure_rates_can_be_filtered(api: httpx.Client, query: str) -> None:
    found = rows(api, f"/api/failure_rates?{query}")
    assert [row["model"] for row in found] == ["ST4000DM000"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("period=quarter&from=2018-02-01&to=2018-03-31", 2),
        ("period=year&from=2018-12-31", 1),
        ("period=quarter&from=2018-04-01", 0),
        ("period=quarter&to=2017-12-31", 0),
    ],
)
def test_a_period_is_found_by_any_of_its_days(api: httpx.Client, query: str, found: int) -> None:
    assert len(rows(api, f"/api/failure_rates?{query}")) == found


def test_taxi_days_say_null_for_what_a_service_does_not_say(api: httpx.Client) -> None:
    january = rows(api, "/api/taxi/days?to=2020-01-31")
    assert [(row["service"], row["trips"], row["revenue"]) for row in january] == [
        ("fhv", 2, None),
        ("green", 2, 10.5),
    ]


def test_taxi_hours_zones_and_payments_are_summed_over_the_months_asked_for(
    api: httpx.Client,
) -> None:
    def green(what: str, months: str) -> list[tuple[int, float]]:
        found = rows(api, f"/api/taxi/{what}?service=green&{months}")
        return [(row["trips"], row["revenue"]) for row in found]

    for what in ("hours", "payments"):
        assert green(what, "from=2020-01-15&to=2020-02-01") == [(4, 30.75)]
        assert green(what, "from=2020-02-01") == [(2, 20.25)]
    assert green("zones", "from=2020-01-15&to=2020-02-01") == [(4, 30.75), (2, 30.75)]


def test_zones_come_with_their_names_and_can_be_asked_for_by_borough(api: httpx.Client) -> None:
    assert rows(api, "/api/taxi/zones?service=green&borough=Queens&to=2020-01-01") == [
        {
            "service": "green",
            "location_id": 7,
            "borough": "Queens",
            "zone": "Astoria",
            "trips": 1,
            "revenue": 10.5,
        }
    ]


def test_retail_days_are_the_sales_summary(api: httpx.Client) -> None:
    assert rows(api, "/api/retail/daily_sales")[1] == {
        "date": "2010-12-01",
        "volume": 320.25,
        "min_total_amount": 20.25,
        "max_total_amount": 300.0,
        "median_total_amount": 160.125,
        "avg_total_amount": 160.125,
    }


def test_countries_and_products_come_with_the_most_sold_first(api: httpx.Client) -> None:
    countries = rows(api, "/api/retail/countries")
    assert [(row["country"], row["invoices"], row["volume"]) for row in countries] == [
        ("France", 1, 300.0),
        ("United Kingdom", 2, 120.75),
    ]
    products = rows(api, "/api/retail/products?limit=1&from=2010-12-01")
    assert products == [{"stock_code": "POST", "description": None, "quantity": 1, "volume": 300.0}]


def test_retail_months_count_what_came_back_apart(api: httpx.Client) -> None:
    assert rows(api, "/api/retail/monthly_sales")[1] == {
        "month_start": "2010-12-01",
        "lines": 2,
        "invoices": 2,
        "customers": 2,
        "volume": 320.25,
        "returned_lines": 1,
        "returned_volume": -10.0,
    }


def test_the_eight_figures_are_of_the_latest_month_and_day(api: httpx.Client) -> None:
    assert rows(api, "/api/retail/quality") == [
        {
            "check_date": "2010-12-02",
            "anomaly_unit_price_count": 1,
            "anomaly_quantity_count": 2,
            "missing_customer_id_ratio": 0.25,
            "sales_date": "2010-12-01",
            "latest_min_total_amount": 20.25,
            "latest_max_total_amount": 300.0,
            "latest_median_total_amount": 160.125,
            "latest_avg_total_amount": 160.125,
            "latest_sales_volume": 320.25,
        }
    ]


def test_pages_lead_from_one_to_the_next_until_every_row_was_seen_once(api: httpx.Client) -> None:
    seen, path = [], "/api/daily_summary?limit=3&from=2018-01-30"
    while path:
        answer = api.get(path)
        seen.append([row["date"][8:] for row in answer.json()])
        path = answer.links.get("next", {}).get("url", "")
    assert seen == [["30", "31", "01"], ["02"]]


@pytest.mark.parametrize(
    "path",
    [
        *("taxi/hours", "taxi/payments", "retail/monthly_sales"),
        *("datasets", "datasets/taxi/months", "failing_checks", "rejects"),
    ],
)
def test_every_list_has_pages(api: httpx.Client, path: str) -> None:
    everything = rows(api, f"/api/{path}")
    first = api.get(f"/api/{path}", params={"limit": 1})
    second = rows(api, f"/api/{path}?limit=1&offset=1")
    assert first.json() == everything[:1]
    assert second == everything[1:2]
    assert ("next" in first.links) == (len(everything) > 1)


def test_rejects_can_be_asked_for_by_data_set(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        {"dataset": name, "service": "", "month": "2018-01", "rows": 3}
        for name in ("drives", "retail", "taxi")
    ]
    monkeypatch.setattr(Health, "rejects", lambda _: found)
    assert rows(api, "/api/rejects") == found
    assert rows(api, "/api/rejects?dataset=retail") == found[1:2]
    assert rows(api, "/api/rejects?dataset=retail&offset=1") == []


@pytest.mark.parametrize(
    "path",
    ["/api/daily_summary", "/api/taxi/days", "/api/retail/products", "/api/yearly_summary"],
)
def test_csv_has_the_rows_of_json(api: httpx.Client, path: str) -> None:
    answer = api.get(path, params={"format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    wanted = [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in rows(api, path)
    ]
    assert list(csv.DictReader(io.StringIO(answer.text))) == wanted
    assert api.get(path, headers={"Accept": "text/csv"}).text == answer.text


def test_csv_without_rows_has_the_names_of_the_columns(api: httpx.Client) -> None:
    answer = api.get("/api/daily_summary?from=2030-01-01&format=csv")
    assert answer.text == "date,drive_count,drive_failures\n"


def test_what_has_not_changed_is_not_sent_again(api: httpx.Client) -> None:
    first = api.get("/api/daily_summary")
    again = api.get("/api/daily_summary", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    as_csv = api.get(
        "/api/daily_summary?format=csv", headers={"If-None-Match": again.headers["etag"]}
    )
    assert as_csv.status_code == 200


def test_a_month_published_again_is_seen_within_seconds(
    api: httpx.Client, filled: Settings
) -> None:
    before = api.get("/api/daily_summary?from=2018-03-01")
    assert before.json() == []
    march = pl.DataFrame({"date": [date(2018, 3, 1)], "drive_count": [7], "drive_failures": [1]})
    clickhouse = ClickHouse(filled)
    clickhouse.replace_partition(drives.CH_DAILY_SUMMARY, (201803,), march, "test")
    try:
        end = time.monotonic() + 10
        while (answer := api.get("/api/daily_summary?from=2018-03-01")).json() == []:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert answer.json() == [{"date": "2018-03-01", "drive_count": 7, "drive_failures": 1}]
        assert answer.headers["etag"] != before.headers["etag"]
    finally:
        clickhouse.replace_partition(drives.CH_DAILY_SUMMARY, (201803,), march.clear(), "test")
        while api.get("/api/daily_summary?from=2018-03-01").json():
            time.sleep(0.2)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("daily_summary?from=1.1.2018", "from: write a day as 2018-01-31"),
        ("daily_summary?from=2018-02-30", "from: Input should be a valid date"),
        (
            "daily_summary?from=2018-02-01&to=2018-01-01",
            "from 2018-02-01 lies after to 2018-01-01",
        ),
        ("daily_summary?limit=0", "limit: Input should be greater than or equal to 1"),
        ("daily_summary?limit=10001", "limit: Input should be less than or equal to 10000"),
        ("daily_summary?offset=-1", "offset: Input should be greater than or equal to 0"),
        ("daily_summary?form=csv", "there is no parameter form"),
        ("daily_summary?format=xml", "format: Input should be 'json' or 'csv'"),
        (
            "yearly_summary?from=18",
            "from: write a year as 2018, or a day of it as 2018-01-31",
        ),
        ("yearly_summary?to=1969", "to: Input should be greater than or equal to 1970"),
        ("yearly_summary?from=2018-02-30", "from: day is out of range for month"),
        ("yearly_summary?from=2019&to=2018-05-01", "from 2019 lies after to 2018"),
        ("failure_rates?period=week", "period: Input should be 'month', 'quarter' or 'year'"),
        ("taxi/days?service=blue", "service: Input should be 'yellow', 'green', 'fhv' or 'fhvhv'"),
        ("datasets/nothing/months", "dataset: Input should be 'drives', 'taxi' or 'retail'"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_one_sentence(
    api: httpx.Client, path: str, sentence: str
) -> None:
    answer = api.get(f"/api/{path}")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(sentence)


@pytest.mark.parametrize(
    "value",
    [
        "' OR 1=1 --",
        "Seagate' UNION ALL SELECT 1, file('/etc/passwd'), 2, 3, 4 --",
        "'; DROP TABLE drives.yearly_summary; --",
        "\\' OR '1'='1",
        "{brand:String}",
        "\\N",
        "\x00",
        "🚕",
    ],
)
def test_sql_in_a_parameter_is_a_name_that_nothing_has(api: httpx.Client, value: str) -> None:
    before = rows(api, "/api/yearly_summary")
    for path, name in (
        ("daily_summary", "brand"),
        ("yearly_summary", "brand"),
        ("failure_rates", "brand"),
        ("failure_rates", "model"),
        ("failure_rates", "maker"),
        ("taxi/zones", "borough"),
    ):
        answer = api.get(f"/api/{path}", params={name: value})
        assert (answer.status_code, answer.json()) == (200, [])
    assert rows(api, "/api/yearly_summary") == before


def test_nothing_can_be_written(api: httpx.Client) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert api.request(method, "/api/daily_summary").status_code == 405


@pytest.mark.parametrize("path", ["/api/nothing", "/api/", "/api"])
def test_what_is_not_there_is_said(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith(f"There is no {path};")


def test_every_answer_is_described_with_an_example(api: httpx.Client) -> None:
    described = api.get("/api/openapi.json").json()
    for path, operations in described["paths"].items():
        if not path.startswith("/api/"):
            continue
        for parameter in operations["get"]["parameters"]:
            assert parameter["schema"].get("examples"), (path, parameter["name"])
        answer = operations["get"]["responses"]["200"]["content"]
        assert set(answer) == {"application/json", "text/csv"}
        items = answer["application/json"]["schema"]["items"]
        for shape in items.get("anyOf", [items]):
            name = shape["$ref"].rpartition("/")[2]
            assert described["components"]["schemas"][name]["examples"], path


def test_browsers_are_told_to_trust_nothing_from_elsewhere(api: httpx.Client) -> None:
    headers = api.get("/api/daily_summary").headers
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    page = api.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in page
    assert "http" not in page
