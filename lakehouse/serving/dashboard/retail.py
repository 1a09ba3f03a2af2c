"""Online Retail: sales over time, by country and product, and the original's eight figures."""

from collections.abc import Mapping
from functools import partial

from lakehouse.serving.dashboard.charts import Chart, Series, lines, ranking
from lakehouse.serving.dashboard.formatting import number
from lakehouse.serving.dashboard.frame import Page
from lakehouse.serving.dashboard.parts import Choice, Content, Filter, Tile
from lakehouse.serving.dashboard.ranges import FROM, TO, all_rows, chosen, chosen_range, span
from lakehouse.serving.readings import Readings, Row

_COUNTRIES_SHOWN = 10
_PRODUCTS_SHOWN = 10


def page(readings: Readings) -> Page:
    """The page of Online Retail."""
    return Page(
        path="/retail",
        title="Retail",
        about="Sales of a British online shop for gifts, in pounds sterling.",
        filters=frozenset({"from", "to", "rules"}),
        read=partial(_read, readings),
        to_fill="lakehouse backfill retail --from 2009-12 --to 2010-12",
    )


def _read(readings: Readings, values: Mapping[str, str]) -> Content | None:
    days = chosen_range(values)
    original = chosen(values, "rules", ["original"]) is not None
    daily = all_rows(readings.daily_sales, *days)
    if not (daily or readings.daily_sales(limit=1)):
        return None
    monthly, countries = readings.monthly_sales(*days), readings.countries(*days)
    products = readings.products(*days, limit=_PRODUCTS_SHOWN)
    parts = [
        *(chart.at("retail/daily_sales", **days.query) for chart in _daily(daily)),
        *(chart.at("retail/monthly_sales", **days.query) for chart in _monthly(monthly)),
        *(chart.at("retail/countries", **days.query) for chart in _countries(countries)),
        *(chart.at("retail/products", **days.query) for chart in _products(products)),
    ]
    return Content(
        filters=[
            *(FROM, TO),
            Filter(
                "rules",
                "Quality figures by",
                [Choice("", "All lines"), Choice("original", "The original's rules")],
            ),
        ],
        note=f"{span(daily)}, {number(len(daily))} days with sales." if daily else "",
        tiles=_tiles(readings.quality(original=original), original),
        parts=parts,
        wide=frozenset(["Daily sales", "Top 10 products"]),
    )


def _tiles(quality: Row | None, original: bool) -> list[Tile]:
    if quality is None:
        return []
    checked = "first sheet, all its months" if original else f"{quality['check_date']:%B %Y}"
    day = f"lines of {quality['sales_date']}"
    return [
        Tile("Missing customer ratio", number(quality["missing_customer_id_ratio"], 4), checked),
        Tile("Prices not above zero", number(quality["anomaly_unit_price_count"]), checked),
        Tile("Quantities over 1,000", number(quality["anomaly_quantity_count"]), checked),
        Tile("Sales volume", _pounds(quality["latest_sales_volume"]), day),
        Tile("Smallest line", _pounds(quality["latest_min_total_amount"]), day),
        Tile("Median line", _pounds(quality["latest_median_total_amount"]), day),
        Tile("Average line", _pounds(quality["latest_avg_total_amount"]), day),
        Tile("Largest line", _pounds(quality["latest_max_total_amount"]), day),
    ]


def _pounds(value: float | None) -> str:
    return f"£{number(value, 2)}"


def _daily(daily: list[Row]) -> list[Chart]:
    if not daily:
        return []
    return [
        lines(
            "Daily sales",
            "Pounds of all lines sold on a day; returns and lines without a customer are left out.",
            [str(row["date"]) for row in daily],
            [Series("Sales", [row["volume"] for row in daily], digits=2)],
            along="Day",
            axes=["Pounds (£)"],
        )
    ]


def _monthly(monthly: list[Row]) -> list[Chart]:
    if not monthly:
        return []
    return [
        lines(
            "Sales and customers a month",
            "Pounds of all lines sold in a month, and the customers who bought them.",
            [f"{row['month_start']:%Y-%m}" for row in monthly],
            [
                Series("Sales", [row["volume"] for row in monthly], digits=2),
                Series("Customers", [row["customers"] for row in monthly], axis=1),
            ],
            along="Month",
            axes=["Pounds (£)", "Customers"],
        )
    ]


def _products(products: list[Row]) -> list[Chart]:
    if not products:
        return []
    return [
        ranking(
            "Top 10 products",
            "Those that were sold for most.",
            [f"{row['description'] or ''} ({row['stock_code']})".lstrip() for row in products],
            Series("Sales (£)", [row["volume"] for row in products], digits=2),
            of="Product",
            axis="Pounds (£)",
        )
    ]


def _countries(countries: list[Row]) -> list[Chart]:
    if not countries:
        return []
    shown = countries[:_COUNTRIES_SHOWN]
    which = "All countries" if shown == countries else f"The {len(shown)} with the most sales"
    return [
        ranking(
            "Sales by country",
            f"{which} of {len(countries)}." if shown != countries else f"{which}.",
            [row["country"] for row in shown],
            Series("Sales (£)", [row["volume"] for row in shown], digits=2),
            of="Country",
            axis="Pounds (£)",
        )
    ]
