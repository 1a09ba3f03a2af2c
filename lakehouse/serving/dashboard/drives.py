"""Drive stats: drives and failures over time, by brand, and failure rates of models."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from typing import cast

from lakehouse.serving.dashboard.charts import Chart, Series, intervals, lines, stacked_bars
from lakehouse.serving.dashboard.formatting import number
from lakehouse.serving.dashboard.frame import Page
from lakehouse.serving.dashboard.parts import Choice, Content, Filter, Tile
from lakehouse.serving.dashboard.ranges import (
    FROM,
    TO,
    Range,
    all_rows,
    choices,
    chosen,
    chosen_range,
    span,
)
from lakehouse.serving.readings import Period, Readings, Row

_PERIODS = ["month", "quarter", "year"]
_DEFAULT_PERIOD = "quarter"
_MODELS_SHOWN = 20
_RATE = "failures a year per 100 drives, with 95 % intervals"


def page(readings: Readings) -> Page:
    """The page of drive stats."""
    return Page(
        path="/drives",
        title="Drives",
        about="Hard drives in Backblaze's data centers, and those that failed.",
        filters=frozenset({"from", "to", "brand", "period", "model"}),
        read=partial(_read, readings),
        to_fill="lakehouse backfill drives --from 2018-01 --to 2018-03",
    )


def _read(readings: Readings, values: Mapping[str, str]) -> Content | None:
    days = chosen_range(values)
    brands, models = readings.brands(), readings.models()
    brand, model = chosen(values, "brand", brands), chosen(values, "model", models)
    period = cast("Period", chosen(values, "period", _PERIODS) or _DEFAULT_PERIOD)
    daily = all_rows(readings.daily_summary, *days, brand)
    if not (daily or readings.daily_summary(limit=1)):
        return None
    parts = [
        *_daily(daily, days, brand),
        *_yearly(readings, days, brand),
        *_rates(readings, period, days, brand, model),
    ]
    return Content(
        filters=[
            *(FROM, TO),
            Filter("brand", "Brand", choices("All brands", brands)),
            Filter("model", "Model of the failure rates", choices("All models", models)),
            Filter(
                "period",
                "Failure rates over a",
                [Choice("", "Quarter"), Choice("month", "Month"), Choice("year", "Year")],
            ),
        ],
        note=f"{span(daily)}, {number(len(daily))} days." if daily else "",
        tiles=_tiles(daily) if daily else [],
        parts=parts,
        wide=frozenset([parts[0].title, parts[-1].title] if parts else []),
    )


def _tiles(daily: list[Row]) -> list[Tile]:
    drive_days = sum(row["drive_count"] for row in daily)
    failures = sum(row["drive_failures"] for row in daily)
    rate = 100 * failures / (drive_days / 365) if drive_days else None
    newest = daily[-1]
    return [
        Tile("Drives", number(newest["drive_count"]), f"on {newest['date']}"),
        Tile("Failures", number(failures), f"{number(failures / len(daily), 2)} a day"),
        Tile("Drive days", number(drive_days), "days that drives were seen, added up"),
        Tile("Annualized failure rate", f"{number(rate, 2)} %", "failures a year per 100 drives"),
    ]


def _daily(daily: list[Row], days: Range, brand: str | None) -> list[Chart]:
    if not daily:
        return []
    chart = lines(
        "Drives and failures a day",
        f"Of {brand or 'all brands'}: drives seen on each day, and those of them that failed.",
        [str(row["date"]) for row in daily],
        [
            Series("Drives", [row["drive_count"] for row in daily]),
            Series("Failures", [row["drive_failures"] for row in daily], axis=1),
        ],
        along="Day",
        axes=["Drives", "Failures"],
    )
    return [chart.at("daily_summary", brand=brand, **days.query)]


def _yearly(readings: Readings, days: Range, brand: str | None) -> list[Chart]:
    first = days.first.year if days.first else None
    last = days.last.year if days.last else None
    yearly = all_rows(readings.yearly_summary, first, last, brand, by_brand=True)
    if not yearly:
        return []
    # A year without data stands between the others, empty.
    years = range(yearly[0]["year"], yearly[-1]["year"] + 1)
    asked = {"from": first, "to": last, "brand": brand}
    return [
        _by_brand(yearly, years).at("yearly_summary", by="brand", **asked),
        _by_year(yearly, years, brand).at("yearly_summary", **asked),
    ]


def _by_brand(yearly: list[Row], years: Sequence[int]) -> Chart:
    failures = {(row["brand"], row["year"]): row["drive_failures"] for row in yearly}
    return stacked_bars(
        "Failures by brand and year",
        "Drives that failed, by the brand in their model's name; whole years.",
        [str(year) for year in years],
        [
            Series(brand, [failures.get((brand, year)) for year in years])
            for brand in sorted({row["brand"] for row in yearly})
        ],
        along="Year",
        axis="Failed drives",
    )


def _by_year(yearly: list[Row], years: Sequence[int], brand: str | None) -> Chart:
    def added(column: str) -> list[int | None]:
        of_years = [[row[column] for row in yearly if row["year"] == year] for year in years]
        return [sum(values) if values else None for values in of_years]

    return lines(
        "Drive days and failures a year",
        f"Of {brand or 'all brands'}; whole years, as far as their months are there.",
        [str(year) for year in years],
        [
            Series("Drive days", added("drive_days")),
            Series("Failures", added("drive_failures"), axis=1),
        ],
        along="Year",
        axes=["Drive days", "Failures"],
        over_gaps=True,
    )


def _rates(
    readings: Readings, period: Period, days: Range, brand: str | None, model: str | None
) -> list[Chart]:
    rates = all_rows(readings.failure_rates, period, *days, brand=brand, model=model)
    if not rates:
        return []
    asked: dict[str, object] = {"period": period, "brand": brand}
    if model:
        asked |= {"model": model, **days.query}
        return [_rates_of_model(rates, period, model).at("failure_rates", **asked)]
    newest = rates[-1]["period_start"]
    of_newest = [row for row in rates if row["period_start"] == newest]
    asked |= {"from": newest, "to": newest}
    chart = _rates_by_model(of_newest, period, newest, brand)
    return [chart.at("failure_rates", **asked)]


def _rates_by_model(rates: list[Row], period: Period, newest: date, brand: str | None) -> Chart:
    most = sorted(rates, key=lambda row: -row["drive_days"])[:_MODELS_SHOWN]
    most.sort(key=lambda row: -row["afr"])
    model = f"{brand} model" if brand else "model"
    which = (
        f"each {model}"
        if len(most) == len(rates)
        else f"the {len(most)} {model}s with the most drive days"
    )
    return intervals(
        "Failure rate by model",
        f"Of {which} in the {period} from {newest}: {_RATE}.",
        [row["model"] for row in most],
        *_rate_series(most),
        of="Model",
        axis="Annualized failure rate (%)",
    )


def _rates_of_model(rates: list[Row], period: Period, model: str) -> Chart:
    return intervals(
        f"Failure rate of {model}",
        f"In each {period}: {_RATE}.",
        [str(row["period_start"]) for row in rates],
        *_rate_series(rates),
        of=f"The {period} from",
        axis="Annualized failure rate (%)",
    )


def _rate_series(rates: list[Row]) -> tuple[Series, Series, Series]:
    return (
        Series("Rate (%)", [row["afr"] for row in rates], digits=2),
        Series("95 % from", [row["afr_low"] for row in rates], digits=2),
        Series("95 % to", [row["afr_high"] for row in rates], digits=2),
    )
