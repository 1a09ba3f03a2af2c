"""Taxi trips: trips and revenue over time, over the week and over the city."""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from lakehouse.serving.dashboard.charts import Chart, Series, heat_map, lines, ranking
from lakehouse.serving.dashboard.formatting import NONE, count, number
from lakehouse.serving.dashboard.frame import Page
from lakehouse.serving.dashboard.parts import Choice, Content, Filter, Tile
from lakehouse.serving.dashboard.ranges import (
    FROM,
    TO,
    all_rows,
    choices,
    chosen,
    chosen_range,
    span,
)
from lakehouse.serving.readings import Readings, Row, Service

_SERVICES = {
    "yellow": "Yellow cabs",
    "green": "Green cabs",
    "fhv": "For hire (FHV)",
    "fhvhv": "High-volume for hire",
}
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WHOLE_MONTHS = "over the whole months that the days lie in"
_ZONES_SHOWN = 10
_UNKNOWN = "Unknown"
"""The lookup's borough of trips without a zone."""


def page(readings: Readings) -> Page:
    """The page of taxi trips."""
    return Page(
        path="/taxi",
        title="Taxi",
        about="Taxi and for-hire trips in New York, by their pickup.",
        filters=frozenset({"from", "to", "service", "borough"}),
        read=partial(_read, readings),
        to_fill="lakehouse backfill taxi --service green --from 2021-01 --to 2021-03",
    )


def _read(readings: Readings, values: Mapping[str, str]) -> Content | None:
    days = chosen_range(values)
    services = readings.taxi_services()
    service = cast("Service | None", chosen(values, "service", services))
    if not services:
        return None
    zones = all_rows(readings.taxi_zones, service, *days)
    boroughs = sorted({row["borough"] for row in zones})
    borough = chosen(values, "borough", boroughs) if zones else None
    daily = all_rows(readings.taxi_days, service, *days)
    hours = readings.taxi_hours(service, *days)
    asked = {"service": service} | days.query
    parts = [
        *(chart.at("taxi/days", **asked) for chart in _by_day(daily)),
        *(chart.at("taxi/hours", **asked) for chart in _by_hour(hours)),
        *(chart.at("taxi/zones", **asked) for chart in _by_borough(zones)),
        *(chart.at("taxi/zones", borough=borough, **asked) for chart in _by_zone(zones, borough)),
    ]
    return Content(
        filters=[
            *(FROM, TO),
            Filter(
                "service",
                "Service",
                [Choice("", "All services"), *(Choice(s, _SERVICES[s]) for s in services)],
            ),
            Filter("borough", "Borough of the zones", choices("All boroughs", boroughs)),
        ],
        note=_note(daily),
        tiles=_tiles(daily) if daily else [],
        parts=parts,
        wide=frozenset(["Trips by hour of the week"]),
    )


def _note(daily: list[Row]) -> str:
    if not daily:
        return ""
    days = len({row["date"] for row in daily})
    return f"{span(daily)}, {number(days)} days with trips."


def _tiles(daily: list[Row]) -> list[Tile]:
    days = len({row["date"] for row in daily})
    trips = sum(row["trips"] for row in daily)
    paid = [row for row in daily if row["revenue"] is not None]
    revenue = sum(row["revenue"] for row in paid)
    paid_trips = sum(row["trips"] for row in paid)
    return [
        Tile("Trips", number(trips), f"{number(trips / days)} a day"),
        Tile(
            "Revenue", f"${count(revenue)}" if paid else NONE, "of services that say what was paid"
        ),
        Tile("Paid for a trip", _dollars(revenue, paid_trips), "on average, with tips and tolls"),
        Tile("Tips", _tip_share(paid), "of what was paid; cash tips are not known"),
    ]


def _dollars(revenue: float, trips: int) -> str:
    return f"${revenue / trips:,.2f}" if trips else NONE


def _tip_share(paid: list[Row]) -> str:
    known = [row for row in paid if row["tips"] is not None]
    revenue = sum(row["revenue"] for row in known)
    return f"{100 * sum(row['tips'] for row in known) / revenue:.1f} %" if revenue else NONE


def _by_day(daily: list[Row]) -> list[Chart]:
    if not daily:
        return []
    return [
        _lines_by_service(
            daily, "trips", "Trips a day", "Trips by the day of their pickup.", "Trips"
        ),
        _lines_by_service(
            [row for row in daily if row["revenue"] is not None],
            "revenue",
            "Revenue a day",
            "Dollars paid in all; not every service says.",
            "Dollars",
        ),
    ]


def _lines_by_service(rows: list[Row], column: str, title: str, about: str, axis: str) -> Chart:
    days = sorted({row["date"] for row in rows})
    values = {(row["service"], row["date"]): row[column] for row in rows}
    return lines(
        title,
        about,
        [str(day) for day in days],
        [
            Series(name, [values.get((service, day)) for day in days])
            for service, name in _SERVICES.items()
            if any(row["service"] == service for row in rows)
        ],
        along="Day",
        axes=[axis],
    )


def _by_hour(hours: list[Row]) -> list[Chart]:
    if not hours:
        return []
    trips = _added(hours, "weekday", "hour")
    return [
        heat_map(
            "Trips by hour of the week",
            f"Pickups in each hour of the week, {_WHOLE_MONTHS}.",
            [f"{hour:02d}:00" for hour in range(24)],
            _WEEKDAYS,
            [[trips.get((day, hour), 0) for hour in range(24)] for day in range(1, 8)],
            along="Hour of the day",
            unit="trips",
        )
    ]


def _by_borough(zones: list[Row]) -> list[Chart]:
    if not zones:
        return []
    trips = _added(zones, "borough")
    most = sorted(trips, key=lambda key: -trips[key])
    return [
        ranking(
            "Trips by borough",
            f"Pickups, {_WHOLE_MONTHS}.",
            [borough for (borough,) in most],
            Series("Trips", [trips[key] for key in most]),
            of="Borough",
            axis="Trips",
        )
    ]


def _by_zone(zones: list[Row], borough: str | None) -> list[Chart]:
    known = [row for row in zones if row["borough"] != _UNKNOWN]
    trips = _added([row for row in known if borough in (None, row["borough"])], "zone", "borough")
    if not trips:
        return []
    unknown = sum(row["trips"] for row in zones) - sum(row["trips"] for row in known)
    most = sorted(trips, key=lambda key: -trips[key])[:_ZONES_SHOWN]
    return [
        ranking(
            "Pickup zones",
            f"The {len(most)} zones of {borough or 'all boroughs'} with the most pickups,"
            f" {_WHOLE_MONTHS}; {number(unknown)} trips have no known zone.",
            [zone if borough else f"{zone}, {its}" for zone, its in most],
            Series("Trips", [trips[key] for key in most]),
            of="Zone",
            axis="Trips",
        )
    ]


def _added(rows: list[Row], *keys: str) -> dict[tuple[Any, ...], int]:
    """Trips, added up over all rows with the same keys."""
    trips: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in rows:
        trips[tuple(row[key] for key in keys)] += row["trips"]
    return trips
