"""The API: what is published, and how it stands, as JSON or CSV. It only reads."""

import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from lakehouse.serving.answers import Answers, Format
from lakehouse.serving.health import Health
from lakehouse.serving.readings import (
    FIRST_DATE,
    LAST_DATE,
    MAX_ROWS,
    Period,
    Readings,
    Row,
    Service,
)
from lakehouse.serving.shapes import (
    Country,
    DatasetTable,
    DriveBrandYear,
    DriveDay,
    DriveYear,
    FailingCheck,
    FailureRate,
    MonthState,
    Problem,
    Product,
    QualityFigures,
    Rejected,
    SalesDay,
    SalesMonth,
    TaxiDay,
    TaxiHour,
    TaxiPayment,
    TaxiZone,
)

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_YEAR = re.compile(r"\d{4}", re.ASCII)


def _a_day(value: Any) -> Any:
    """Pydantic itself takes numbers for seconds since 1970."""
    if isinstance(value, str) and not _DAY.fullmatch(value):
        raise ValueError("write a day as 2018-01-31")
    return value


def _a_year(value: Any) -> Any:
    """The year itself, or that of a day, which is what all other addresses take."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        return date.fromisoformat(value).year
    if isinstance(value, str) and not _YEAR.fullmatch(value):
        raise ValueError("write a year as 2018, or a day of it as 2018-01-31")
    return value


DatasetName = Literal["drives", "taxi", "retail"]

_FIRST_YEAR, _LAST_YEAR = FIRST_DATE.year, LAST_DATE.year
_Day = Annotated[date, BeforeValidator(_a_day)]
_Year = Annotated[
    int,
    Field(ge=_FIRST_YEAR, le=_LAST_YEAR),
    BeforeValidator(_a_year),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": _FIRST_YEAR, "maximum": _LAST_YEAR},
                {"type": "string", "format": "date"},
            ]
        }
    ),
]
_Name = Annotated[str, Field(max_length=100)]
_Limit = Annotated[int, Field(ge=1, le=MAX_ROWS)]


class Output(BaseModel):
    """How an answer is written."""

    model_config = ConfigDict(extra="forbid")

    output: Format | None = Field(
        None,
        alias="format",
        description="How it is written; else by the header Accept, as JSON.",
        examples=["csv"],
    )


class _Page(Output):
    limit: _Limit = Field(MAX_ROWS, description="Rows at most.", examples=[100])
    offset: int = Field(
        0, ge=0, le=10_000_000, description="Rows to leave out before them.", examples=[100]
    )

    @property
    def rows(self) -> dict[str, int]:
        """One row more than is shown, which tells whether there are more."""
        return {"limit": self.limit + 1, "offset": self.offset}

    def of(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The same of rows that are there already."""
        return rows[self.offset : self.offset + self.limit + 1]


class _DaysPage(_Page):
    first: _Day | None = Field(
        None, alias="from", description="First day.", examples=["2018-01-01"]
    )
    last: _Day | None = Field(None, alias="to", description="Last day.", examples=["2018-03-31"])

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _require_order(self.first, self.last)
        return self


class _BrandPage(_DaysPage):
    brand: _Name | None = Field(None, description="Only this brand.", examples=["Seagate"])


class _YearsPage(_Page):
    first: _Year | None = Field(
        None, alias="from", description="First year, or a day in it.", examples=[2018, "2018-01-01"]
    )
    last: _Year | None = Field(
        None, alias="to", description="Last year, or a day in it.", examples=[2018, "2018-12-31"]
    )
    brand: _Name | None = Field(None, description="Only this brand.", examples=["Seagate"])
    by: Literal["year", "brand"] = Field(
        "year", description="A row a year, or a year and brand.", examples=["brand"]
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _require_order(self.first, self.last)
        return self


def _require_order(first: date | int | None, last: date | int | None) -> None:
    if first and last and str(first) > str(last):  # years have four digits, as days do
        raise ValueError(f"from {first} lies after to {last}")


class _RatesPage(_BrandPage):
    period: Period = Field("quarter", description="Over what the rates are.", examples=["year"])
    model: _Name | None = Field(None, description="Only this model.", examples=["ST4000DM000"])
    maker: _Name | None = Field(None, description="Only this maker.", examples=["Seagate"])
    min_drive_days: int = Field(
        0,
        ge=0,
        le=10**12,
        description="Only models with as many drive days in the period.",
        examples=[50_000],
    )


class _TripsPage(_DaysPage):
    service: Service | None = Field(None, description="Only this service.", examples=["green"])


class _ZonesPage(_TripsPage):
    borough: _Name | None = Field(None, description="Only this borough.", examples=["Queens"])


class _ProductsPage(_DaysPage):
    limit: _Limit = Field(10, description="Rows at most.", examples=[100])


class _Quality(Output):
    rules: Literal["ours", "original"] = Field(
        "ours",
        description="Ours counts every line of the latest month; the original's counts the last"
        " line of each key, in all months.",
        examples=["original"],
    )


class _DatasetPage(_Page):
    dataset: DatasetName | None = Field(
        None, description="Only this data set.", examples=["drives"]
    )

    def of(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those of the data set."""
        return super().of([row for row in rows if self.dataset in (None, row["dataset"])])


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an endpoint answers besides what it is asked for."""
    told = {
        401: "The token is missing or another.",
        404: "There is no such thing.",
        422: "A parameter cannot be used.",
        503: "ClickHouse or Dagster's history does not answer; try again.",
    }
    return {status: {"model": Problem, "description": told[status]} for status in statuses}


def _answers(row: Any) -> dict[str, Any]:
    """How an endpoint that answers with such rows is described."""
    return {
        "response_model": list[row],
        "responses": {
            200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
            304: {"description": "What the header If-None-Match names is still so."},
            **problems(401, 422, 503),
        },
    }


def _columns(model: type[BaseModel]) -> list[str]:
    return list(model.model_fields)


def build_router(answers: Answers, readings: Readings, health: Health) -> APIRouter:
    """All that begins with `/api`."""
    router = APIRouter(prefix="/api")
    _add_drives(router, answers, readings)
    _add_taxi(router, answers, readings)
    _add_retail(router, answers, readings)
    _add_health(router, answers, health)
    return router


def _add_drives(router: APIRouter, answers: Answers, readings: Readings) -> None:
    @router.get("/daily_summary", tags=["drives"], **_answers(DriveDay))
    async def daily_summary(request: Request, asked: Annotated[_BrandPage, Query()]) -> Response:
        """Drives seen and drives failed, a row a day, in order."""
        return await answers.of_dataset(
            request,
            "drives",
            lambda: readings.daily_summary(asked.first, asked.last, asked.brand, **asked.rows),
            _columns(DriveDay),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/yearly_summary", tags=["drives"], **_answers(DriveBrandYear | DriveYear))
    async def yearly_summary(request: Request, asked: Annotated[_YearsPage, Query()]) -> Response:
        """Drives, drive days and failures, a row a year or, with `by=brand`, a year and brand."""
        by_brand = asked.by == "brand"
        return await answers.of_dataset(
            request,
            "drives",
            lambda: readings.yearly_summary(
                asked.first, asked.last, asked.brand, by_brand=by_brand, **asked.rows
            ),
            ["year", *(["brand"] if by_brand else []), *_columns(DriveYear)[1:]],
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/failure_rates", tags=["drives"], **_answers(FailureRate))
    async def failure_rates(request: Request, asked: Annotated[_RatesPage, Query()]) -> Response:
        """Annualized failure rates, a row a period and model, in order.

        The periods are those that a day of the range lies in.
        """
        return await answers.of_dataset(
            request,
            "drives",
            lambda: readings.failure_rates(
                asked.period,
                asked.first,
                asked.last,
                model=asked.model,
                brand=asked.brand,
                maker=asked.maker,
                min_drive_days=asked.min_drive_days,
                **asked.rows,
            ),
            _columns(FailureRate),
            limit=asked.limit,
            output=asked.output,
        )


def _add_taxi(router: APIRouter, answers: Answers, readings: Readings) -> None:
    @router.get("/taxi/days", tags=["taxi"], **_answers(TaxiDay))
    async def days(request: Request, asked: Annotated[_TripsPage, Query()]) -> Response:
        """Trips, passengers, miles and dollars, a row a day and service, in order."""
        return await answers.of_dataset(
            request,
            "taxi",
            lambda: readings.taxi_days(asked.service, asked.first, asked.last, **asked.rows),
            _columns(TaxiDay),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/taxi/hours", tags=["taxi"], **_answers(TaxiHour))
    async def hours(request: Request, asked: Annotated[_TripsPage, Query()]) -> Response:
        """Trips and revenue, a row a service and hour of the week, over whole months."""
        return await answers.of_dataset(
            request,
            "taxi",
            lambda: readings.taxi_hours(asked.service, asked.first, asked.last, **asked.rows),
            _columns(TaxiHour),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/taxi/zones", tags=["taxi"], **_answers(TaxiZone))
    async def zones(request: Request, asked: Annotated[_ZonesPage, Query()]) -> Response:
        """Trips and revenue, a row a service and pickup zone, over whole months; most first."""
        return await answers.of_dataset(
            request,
            "taxi",
            lambda: readings.taxi_zones(
                asked.service, asked.first, asked.last, borough=asked.borough, **asked.rows
            ),
            _columns(TaxiZone),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/taxi/payments", tags=["taxi"], **_answers(TaxiPayment))
    async def payments(request: Request, asked: Annotated[_TripsPage, Query()]) -> Response:
        """Trips, revenue and tips, a row a service and way of payment, over whole months."""
        return await answers.of_dataset(
            request,
            "taxi",
            lambda: readings.taxi_payments(asked.service, asked.first, asked.last, **asked.rows),
            _columns(TaxiPayment),
            limit=asked.limit,
            output=asked.output,
        )


def _add_retail(router: APIRouter, answers: Answers, readings: Readings) -> None:
    @router.get("/retail/daily_sales", tags=["retail"], **_answers(SalesDay))
    async def daily_sales(request: Request, asked: Annotated[_DaysPage, Query()]) -> Response:
        """What was sold, a row a day, in order."""
        return await answers.of_dataset(
            request,
            "retail",
            lambda: readings.daily_sales(asked.first, asked.last, **asked.rows),
            _columns(SalesDay),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/retail/monthly_sales", tags=["retail"], **_answers(SalesMonth))
    async def monthly_sales(request: Request, asked: Annotated[_DaysPage, Query()]) -> Response:
        """What was sold and what came back, a row a month, in order."""
        return await answers.of_dataset(
            request,
            "retail",
            lambda: readings.monthly_sales(asked.first, asked.last, **asked.rows),
            _columns(SalesMonth),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/retail/countries", tags=["retail"], **_answers(Country))
    async def countries(request: Request, asked: Annotated[_DaysPage, Query()]) -> Response:
        """What was sold to each country, most first."""
        return await answers.of_dataset(
            request,
            "retail",
            lambda: readings.countries(asked.first, asked.last, **asked.rows),
            _columns(Country),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/retail/products", tags=["retail"], **_answers(Product))
    async def products(request: Request, asked: Annotated[_ProductsPage, Query()]) -> Response:
        """What was sold of each product, most first; ten where no limit is given."""
        return await answers.of_dataset(
            request,
            "retail",
            lambda: readings.products(asked.first, asked.last, **asked.rows),
            _columns(Product),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/retail/quality", tags=["retail"], **_answers(QualityFigures))
    async def quality(request: Request, asked: Annotated[_Quality, Query()]) -> Response:
        """The eight figures of the original's dashboard, in one row; none without sales."""

        def read() -> list[Row]:
            figures = readings.quality(original=asked.rules == "original")
            return [figures] if figures else []

        return await answers.of_dataset(
            request, "retail", read, _columns(QualityFigures), output=asked.output
        )


def _add_health(router: APIRouter, answers: Answers, health: Health) -> None:
    @router.get("/datasets", tags=["health"], **_answers(DatasetTable))
    async def datasets(request: Request, asked: Annotated[_Page, Query()]) -> Response:
        """Every table and file: rows, partitions, newest data, checks, source, Delta version."""
        return await answers.of_rows(
            request,
            lambda: asked.of(health.datasets()),
            _columns(DatasetTable),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/datasets/{dataset}/months", tags=["health"], **_answers(MonthState))
    async def months(
        request: Request,
        dataset: Annotated[DatasetName, Path(description="A data set.", examples=["drives"])],
        asked: Annotated[_Page, Query()],
    ) -> Response:
        """How each month of each asset stands, from the first that was made to the last."""
        return await answers.of_rows(
            request,
            lambda: asked.of(health.months(dataset)),
            _columns(MonthState),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/failing_checks", tags=["health"], **_answers(FailingCheck))
    async def failing_checks(request: Request, asked: Annotated[_DatasetPage, Query()]) -> Response:
        """The checks whose latest evaluation failed, newest partition first."""
        return await answers.of_rows(
            request,
            lambda: asked.of(health.failing()),
            _columns(FailingCheck),
            limit=asked.limit,
            output=asked.output,
        )

    @router.get("/rejects", tags=["health"], **_answers(Rejected))
    async def rejects(request: Request, asked: Annotated[_DatasetPage, Query()]) -> Response:
        """How many rows of each month could not be used."""
        return await answers.of_rows(
            request,
            lambda: asked.of(health.rejects()),
            _columns(Rejected),
            limit=asked.limit,
            output=asked.output,
        )
