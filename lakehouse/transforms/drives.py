"""Drive stats: Backblaze's daily files to drive days, and drive days to summaries and rates.

The files, their columns over the years and the original's rules: docs/data/drives.md.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from lakehouse.transforms.delimited import (
    REJECTS,
    ColumnType,
    header_of,
    read_delimited,
    reject_lines,
)

KEY = ("date", "serial_number")
REQUIRED = ("date", "serial_number", "model", "capacity_bytes", "failure")

WATCHED_SMART = (5, 9, 187, 188, 194, 197, 198, 241, 242)
"""The SMART attributes that Backblaze itself watches; silver keeps their raw values."""

LARGEST_BELIEVABLE_CAPACITY = 10**15
"""Bytes (1 PB). Controllers report sizes of 10**17 and more, or -1, when they do not know."""

_SMART_RAW = pl.Decimal(20, 0)
"""A raw value can need all 64 bits, unsigned; Delta's largest integer is signed."""

_KNOWN_COLUMNS: dict[str, ColumnType] = {
    "date": pl.Date,
    "serial_number": pl.String,
    "model": pl.String,
    "capacity_bytes": pl.Int64,
    "failure": pl.Int64,
    "datacenter": pl.String,
    "cluster_id": pl.Int64,
    "vault_id": pl.Int64,
    "pod_id": pl.Int64,
    "pod_slot_num": pl.Int64,
    "is_legacy_format": pl.Boolean,
}
_SMART_COLUMN = re.compile(r"smart_\d{1,3}_(normalized|raw)")

_ADDED_COLUMNS: dict[str, ColumnType] = {
    "_unreadable": pl.String,
    "_source": pl.String,
    "_row": pl.Int64,
    "_extracted_at": pl.Datetime("us", "UTC"),
}

_BRONZE: dict[str, ColumnType] = {
    **{name: _KNOWN_COLUMNS[name] for name in REQUIRED},
    **_ADDED_COLUMNS,
    "month": pl.String,
}
BRONZE = pl.Schema(_BRONZE)
"""The columns that bronze always has; those of each era are added to them.

`_unreadable` is a JSON object of the cells that could not be read, null where all could;
`_source` is archive/member, `_row` the line in it, `_extracted_at` when the file landed.
"""

_SILVER: dict[str, ColumnType] = {
    "date": pl.Date,
    "serial_number": pl.String,
    "model": pl.String,
    "maker": pl.String,
    "brand": pl.String,
    "capacity_bytes": pl.Int64,
    "capacity_doubtful": pl.Boolean,
    "failure": pl.Int64,
    **{f"smart_{number}_raw": _SMART_RAW for number in WATCHED_SMART},
    "_source": pl.String,
    "_row": pl.Int64,
    "month": pl.String,
}
SILVER = pl.Schema(_SILVER)

DAILY_SUMMARY = pl.Schema(
    {"date": pl.Date, "drive_count": pl.Int64, "drive_failures": pl.Int64, "month": pl.String}
)

DAILY_BRAND_SUMMARY = pl.Schema(
    {
        "date": pl.Date,
        "brand": pl.String,
        "drive_count": pl.Int64,
        "drive_failures": pl.Int64,
        "month": pl.String,
    }
)

_RATES: dict[str, ColumnType] = {
    "period": pl.String,
    "period_start": pl.Date,
    "model": pl.String,
    "maker": pl.String,
    "drive_count": pl.Int64,
    "drive_days": pl.Int64,
    "failures": pl.Int64,
    "afr": pl.Float64,
    "afr_low": pl.Float64,
    "afr_high": pl.Float64,
}
FAILURE_RATES = pl.Schema(_RATES | {"month": pl.String})
PERIOD_FAILURE_RATES = pl.Schema(_RATES | {"year": pl.Int32})

YEARLY_SUMMARY = pl.Schema(
    {
        "year": pl.Int32,
        "brand": pl.String,
        "drive_count": pl.Int64,
        "drive_days": pl.Int64,
        "drive_failures": pl.Int64,
    }
)


@dataclass(frozen=True)
class Day:
    """A daily file that was read: `frame` as bronze without month, `rejects` as `REJECTS`.

    `refused` says why the file as a whole could not be used, `records` counts its data lines,
    `unknown` names columns that no era had.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    records: int
    latin1_lines: int = 0
    unknown: tuple[str, ...] = ()
    refused: str | None = None


def column_type(name: str) -> ColumnType:
    """The type of a column of the publisher's; text where it is not known."""
    if name in _KNOWN_COLUMNS:
        return _KNOWN_COLUMNS[name]
    if match := _SMART_COLUMN.fullmatch(name):
        return pl.Int64 if match[1] == "normalized" else _SMART_RAW
    return pl.String


def read_day(data: bytes, month: str, source: str, extracted_at: datetime) -> Day:
    """Read one daily CSV for a month such as `2018-01`.

    Rows of other months and rows without a key are rejected.
    """
    if b"\n" not in data:  # saved by a Mac of old, with carriage returns alone
        data = data.replace(b"\r", b"\n")
    header = header_of(data)
    if refused := _header_problem(header):
        headless = refused.startswith("there is no header")
        rejects = reject_lines(data, refused, header=not headless)
        return Day(
            pl.DataFrame(schema=BRONZE).drop("month"), rejects, rejects.height, refused=refused
        )
    types = {name: column_type(name) for name in header}
    read = read_delimited(data, types)
    frame, rejects = _without_unusable(read.frame, data, month)
    return Day(
        frame=frame.with_columns(
            pl.lit(source).alias("_source"),
            pl.lit(extracted_at, dtype=pl.Datetime("us", "UTC")).alias("_extracted_at"),
        ),
        rejects=pl.concat([read.rejects, rejects]),
        records=read.records,
        latin1_lines=read.latin1_lines,
        unknown=tuple(
            n for n in header if n not in _KNOWN_COLUMNS and not _SMART_COLUMN.fullmatch(n)
        ),
    )


def _header_problem(header: list[str]) -> str | None:
    if not header:
        return "the first line is empty"
    if any(re.fullmatch(r"\d{1,4}[-/]\d{1,2}[-/]\d{1,4}", cell) for cell in header):
        return "there is no header: the first line is data"
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        begins = ", ".join(header[:6])[:200]
        return f"the header has no column {', '.join(missing)}; it begins {begins}"
    ours = [name for name in header if name in _ADDED_COLUMNS or name == "month"]
    if ours:
        return f"the header has the column {', '.join(map(repr, ours))}, a name of the lakehouse's"
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        return f"the header has the column {', '.join(map(repr, twice))} more than once"
    return None


def _without_unusable(
    frame: pl.DataFrame, data: bytes, month: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that have a key in the month, and the others as rejects with their raw line."""
    reason = (
        pl.when(pl.col("date").is_null())
        .then(pl.lit("the date is missing or cannot be read"))
        .when(pl.col("serial_number").str.strip_chars().fill_null("") == "")
        .then(pl.lit("the serial number is empty"))
        .when(pl.col("date").dt.strftime("%Y-%m") != month)
        .then(pl.format("the date {} is not in {}", pl.col("date"), pl.lit(month)))
    )
    usable = (
        pl.col("date").is_not_null()
        & (pl.col("date").dt.year() == int(month[:4]))
        & (pl.col("date").dt.month() == int(month[5:]))
        & (pl.col("serial_number").str.strip_chars().fill_null("") != "")
    )
    if frame.select(usable.all()).item():
        return frame, pl.DataFrame(schema=REJECTS)
    lines = data.split(b"\n")
    unusable = frame.filter(~usable).select(
        pl.col("_row").alias("line"),
        pl.col("_row")
        .map_elements(
            lambda row: lines[row - 1].rstrip(b"\r").decode("utf-8", "backslashreplace"),
            return_dtype=pl.String,
        )
        .alias("raw"),
        reason.alias("reason"),
    )
    return frame.filter(usable), unusable


@dataclass(frozen=True)
class Cleaned:
    """Drive days as `SILVER` without month, and the rows dropped because a drive stood twice."""

    frame: pl.DataFrame
    duplicates: int
    capacities_doubtful: int


def clean(bronze: pl.DataFrame) -> Cleaned:
    """One row a drive and day.

    Of several rows of one drive and day the one that reports a failure stays, else the first:
    a failure is never dropped for a row that does not know of it.
    """
    rows = _one_a_day(bronze)
    capacity = pl.col("capacity_bytes")
    believable = capacity.is_between(1, LARGEST_BELIEVABLE_CAPACITY)
    smart = [f"smart_{number}_raw" for number in WATCHED_SMART]
    models = rows["model"].unique()
    frame = rows.select(
        "date",
        "serial_number",
        "model",
        _by_model(models, maker).alias("maker"),
        _by_model(models, brand).alias("brand"),
        pl.when(believable).then(capacity).alias("capacity_bytes"),
        (~believable).fill_null(value=False).alias("capacity_doubtful"),
        "failure",
        *(
            pl.col(name) if name in rows.columns else pl.lit(None, dtype=_SMART_RAW).alias(name)
            for name in smart
        ),
        "_source",
        "_row",
    )
    return Cleaned(
        frame=frame,
        duplicates=bronze.height - frame.height,
        capacities_doubtful=int(frame["capacity_doubtful"].sum()),
    )


def _one_a_day(rows: pl.DataFrame) -> pl.DataFrame:
    doubled = rows.select(pl.struct(KEY).is_duplicated()).to_series()
    if not doubled.any():
        return rows
    kept = (
        rows.filter(doubled)
        .sort(
            [*KEY, "failure", "_source", "_row"],
            descending=[False, False, True, False, False],
            nulls_last=True,
        )
        .unique(KEY, keep="first", maintain_order=True)
    )
    return pl.concat([rows.filter(~doubled), kept])


def _by_model(models: pl.Series, rule: Callable[[str], str]) -> pl.Expr:
    known = [model for model in models if model is not None]
    return pl.col("model").replace_strict(
        known, [rule(model) for model in known], default=rule(""), return_dtype=pl.String
    )


_MAKERS: tuple[tuple[str, str], ...] = (
    (r"HGST|HU[HS]\d|HMS\d", "HGST"),
    (r"Hitachi|HDS\d|HDT\d|HUA\d|HTS\d", "Hitachi"),
    (r"WDC|WD\b|WD\d|WU[HS]\d", "Western Digital"),
    (r"Seagate|ST\d|Z[AP]\d|XA\d", "Seagate"),
    (r"TOSHIBA|MG\d|MQ\d|MD\d|DT01|HDW|THNSN", "Toshiba"),
    (r"SAMSUNG|MZ[A-Z0-9]|HD\d{3}", "Samsung"),
    (r"Micron|MTFD", "Micron"),
    (r"Crucial|CT\d", "Crucial"),
    (r"INTEL|SSDSC", "Intel"),
    (r"DELLBOSS", "Dell"),
    (r"KIOXIA|KXG|KPM", "Kioxia"),
    (r"SanDisk", "SanDisk"),
    (r"KINGSTON", "Kingston"),
)


def maker(model: str) -> str:
    """The maker by the model's name, whether or not it begins with it; `Unknown` where not known.

    HGST and Hitachi stay apart, as Backblaze keeps them; makers' own part numbers decide where the
    name is missing (`WUH…` is Western Digital, `SSDSC…` Intel, `MTFD…` Micron).
    """
    name = model.strip()
    for pattern, named in _MAKERS:
        if re.match(pattern, name, re.IGNORECASE):
            return named
    return "Unknown"


_BRANDS = (
    ("CT", "Crucial"),
    ("DELLBOSS", "Dell BOSS"),
    ("HGST", "HGST"),
    ("Seagate", "Seagate"),
    ("ST", "Seagate"),
    ("TOSHIBA", "Toshiba"),
    ("WDC", "Western Digital"),
)


def brand(model: str) -> str:
    """The original's rule: the brand by the beginning of the model, anything else `Others`."""
    return next((name for prefix, name in _BRANDS if model.startswith(prefix)), "Others")


def daily_summary(silver: pl.LazyFrame) -> pl.DataFrame:
    """Drives seen and drives failed, for each day; as `DAILY_SUMMARY` without month."""
    return _counted(silver, "date")


def daily_brand_summary(silver: pl.LazyFrame) -> pl.DataFrame:
    """The same for each day and brand; as `DAILY_BRAND_SUMMARY` without month."""
    return _counted(silver, "date", "brand")


def _counted(silver: pl.LazyFrame, *by: str) -> pl.DataFrame:
    return (
        silver.group_by(by)
        .agg(
            pl.len().cast(pl.Int64).alias("drive_count"),
            pl.col("failure").sum().alias("drive_failures"),
        )
        .sort(by)
        .collect(engine="streaming")
    )


def monthly_failure_rates(silver: pl.LazyFrame, month: str) -> pl.DataFrame:
    """Rates of each model over a month; as `FAILURE_RATES` without month.

    `drive_count` is the number of drives on the last day of the month that the data has.
    """
    days = (
        silver.group_by("date", "model", "maker")
        .agg(pl.len().cast(pl.Int64).alias("drives"), pl.col("failure").sum().alias("failures"))
        .collect(engine="streaming")
    )
    last = pl.lit(days["date"].max(), dtype=pl.Date)
    return _with_rate(
        days.group_by("model", "maker").agg(
            pl.col("drives").filter(pl.col("date") == last).sum().alias("drive_count"),
            pl.col("drives").sum().alias("drive_days"),
            pl.col("failures").sum(),
        ),
        "month",
        date(int(month[:4]), int(month[5:]), 1),
    )


def period_failure_rates(monthly: pl.DataFrame) -> pl.DataFrame:
    """Rates of each model over the quarters and the year that these months make up.

    `drive_count` is that of the last month there is; a period of which months are missing covers
    the months that there are.
    """
    periods = [
        _over(months, period, start)
        for period, length in (("quarter", "1q"), ("year", "1y"))
        for (start,), months in monthly.group_by(
            pl.col("period_start").dt.truncate(length), maintain_order=True
        )
    ]
    return pl.concat([pl.DataFrame(schema=_RATES), *periods])


def yearly_summary(silver: pl.LazyFrame) -> pl.DataFrame:
    """Drives seen, drive days and failures of each brand; as `YEARLY_SUMMARY` without year."""
    return (
        silver.group_by("brand")
        .agg(
            pl.col("serial_number").n_unique().cast(pl.Int64).alias("drive_count"),
            pl.len().cast(pl.Int64).alias("drive_days"),
            pl.col("failure").sum().alias("drive_failures"),
        )
        .sort("brand")
        .collect(engine="streaming")
    )


def _over(months: pl.DataFrame, period: str, start: date) -> pl.DataFrame:
    last = months["period_start"].max()
    return _with_rate(
        months.group_by("model", "maker").agg(
            pl.col("drive_count").filter(pl.col("period_start") == last).sum(),
            pl.col("drive_days").sum(),
            pl.col("failures").sum(),
        ),
        period,
        start,
    )


def _with_rate(counts: pl.DataFrame, period: str, start: date) -> pl.DataFrame:
    """Annualized failure rate in per cent, and its exact 95 % Poisson interval (Garwood 1936)."""
    # Half a second to import, for the one function that needs them.
    import numpy as np
    from scipy.special import gammaincinv

    failures = counts["failures"].to_numpy()
    low = np.nan_to_num(gammaincinv(failures, 0.025))  # without a failure the interval begins at 0
    high = gammaincinv(failures + 1, 0.975)
    per_cent = 100 * 365 / pl.col("drive_days")
    return counts.select(
        pl.lit(period).alias("period"),
        pl.lit(start).alias("period_start"),
        pl.col("model").fill_null("unknown"),
        "maker",
        "drive_count",
        "drive_days",
        "failures",
        (pl.col("failures") * per_cent).alias("afr"),
        (pl.Series(low) * per_cent).alias("afr_low"),
        (pl.Series(high) * per_cent).alias("afr_high"),
    ).sort("model", "maker")
