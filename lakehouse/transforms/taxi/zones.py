"""The publisher's lookup of taxi zones, which trips name by number."""

import polars as pl

from lakehouse.errors import SourceRefusedError
from lakehouse.transforms.delimited import header_of, read_delimited

ZONES = pl.Schema(
    {
        "location_id": pl.Int32,
        "borough": pl.String,
        "zone": pl.String,
        "service_zone": pl.String,
    }
)
"""A zone; `N/A` is text of the publisher's and stays."""

_HEADER = ["locationid", "borough", "zone", "service_zone"]


def read_zones(data: bytes) -> pl.DataFrame:
    """Read `taxi_zone_lookup.csv`; as `ZONES`, by location id.

    Raises:
        SourceRefusedError: It has other columns, lines that are no zones, or a zone twice.
    """
    if (header := header_of(data)) != _HEADER:
        raise _refused(f"its columns are {', '.join(header)[:200]}, not {', '.join(_HEADER)}")
    read = read_delimited(data, dict(zip(ZONES, [pl.Int64, *[pl.String] * 3], strict=True)))
    if not read.rejects.is_empty():
        line, _, reason = read.rejects.row(0)
        raise _refused(f"line {line}: {reason}")
    zones = read.frame.with_columns(pl.col("location_id").cast(pl.Int32, strict=False))
    if zones.is_empty():
        raise _refused("it has no zones")
    if not (
        nameless := zones.filter(pl.any_horizontal(pl.col(ZONES.names()).is_null()))
    ).is_empty():
        raise _refused(f"line {nameless['_row'][0]} has an empty or unreadable cell")
    if (twice := zones.filter(pl.col("location_id").is_duplicated())["location_id"]).len():
        raise _refused(f"the location id {twice[0]} stands there more than once")
    return zones.select(ZONES.names()).sort("location_id")


def _refused(why: str) -> SourceRefusedError:
    return SourceRefusedError(
        f"this is no lookup of taxi zones: {why}. Look whether the right file stands under this"
        " name"
    )
