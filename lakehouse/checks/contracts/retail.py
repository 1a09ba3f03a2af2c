"""The contracts of Online Retail's raw tables, as pandera models."""

from typing import Annotated, TypeAlias

import pandera.polars as pa
import polars as pl

_UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_Time: TypeAlias = Annotated[pl.Datetime, "us", "UTC"]
_Price: TypeAlias = Annotated[pl.Decimal, 10, 4]
_Total: TypeAlias = Annotated[pl.Decimal, 18, 4]


class OnlineRetails(pa.DataFrameModel):
    """Every line of the publisher's that can serve, typed; a line stands once."""

    InvoiceNo: str = pa.Field(str_length={"min_value": 1})
    StockCode: str = pa.Field(str_length={"min_value": 1})
    Description: str = pa.Field(nullable=True)
    Quantity: pl.Int32
    InvoiceDate: _Time
    UnitPrice: _Price
    CustomerID: pl.UInt64 = pa.Field(nullable=True)
    Country: str
    TotalAmount: _Total
    Sheet: str
    Row: pl.UInt32 = pa.Field(ge=2)
    LOAD_DATETIME: _Time
    RECORD_SOURCE: str = pa.Field(str_length={"min_value": 1})

    class Config:
        """A line of a file is one row."""

        # Files of one name may serve different days.
        unique = ["RECORD_SOURCE", "LOAD_DATETIME", "Sheet", "Row"]  # noqa: RUF012

    @pa.dataframe_check
    @classmethod
    def total_is_quantity_times_price(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """The total is exact."""
        return data.lazyframe.select(
            pl.col("TotalAmount")
            == pl.col("Quantity").cast(pl.Decimal(18, 0)) * pl.col("UnitPrice")
        )


class PsaOnlineRetails(pa.DataFrameModel):
    """The same lines with their hash keys, by which the vault is loaded."""

    hub_invoice_hash_key: str = pa.Field(str_matches=_UUID)
    hub_product_hash_key: str = pa.Field(str_matches=_UUID)
    hub_customer_hash_key: str = pa.Field(str_matches=_UUID)
    hub_time_hash_key: str = pa.Field(str_matches=_UUID)
    hub_country_hash_key: str = pa.Field(str_matches=_UUID)
    link_invoice_product_hash_key: str = pa.Field(str_matches=_UUID)
    link_invoice_customer_hash_key: str = pa.Field(str_matches=_UUID)
    link_invoice_time_hash_key: str = pa.Field(str_matches=_UUID)
    link_invoice_country_hash_key: str = pa.Field(str_matches=_UUID)
    link_customer_country_hash_key: str = pa.Field(str_matches=_UUID)
    InvoiceNo: str = pa.Field(str_matches=r"^[^C]*$")
    StockCode: str = pa.Field(str_length={"min_value": 1})
    Description: str = pa.Field(nullable=True)
    Quantity: pl.Int32
    InvoiceDate: _Time
    UnitPrice: _Price
    TotalAmount: _Total
    CustomerID: pl.UInt64
    Country: str = pa.Field(str_length={"min_value": 1})
    ReturnStatus: str = pa.Field(isin=["Normal", "Return"])
    LOAD_DATETIME: _Time
    RECORD_SOURCE: str = pa.Field(str_length={"min_value": 1})
    Invoice: str = pa.Field(str_length={"min_value": 1})
    LineNumber: pl.UInt32 = pa.Field(ge=1)
    Sheet: str
    Row: pl.UInt32 = pa.Field(ge=2)

    class Config:
        """Lines of one key are told apart by their number."""

        unique = ["hub_invoice_hash_key", "LineNumber"]  # noqa: RUF012

    @pa.dataframe_check
    @classmethod
    def return_is_cancelled_or_negative(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """A return is a cancelled invoice's or has a negative quantity, and these are returns."""
        return data.lazyframe.select(
            (pl.col("ReturnStatus") == "Return")
            == (pl.col("Invoice").str.starts_with("C") | (pl.col("Quantity") < 0))
        )

    @pa.dataframe_check
    @classmethod
    def total_is_quantity_times_price(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """The total is exact."""
        return data.lazyframe.select(
            pl.col("TotalAmount")
            == pl.col("Quantity").cast(pl.Decimal(18, 0)) * pl.col("UnitPrice")
        )


CONTRACTS = {
    "retail/raw/online_retails": OnlineRetails,
    "retail/raw/psa_online_retails": PsaOnlineRetails,
}
"""The contract of each table."""
