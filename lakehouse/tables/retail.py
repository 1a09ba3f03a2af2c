"""The tables of Online Retail's raw side; those of the vault and the marts are dbt's."""

from lakehouse.resources.clickhouse import Table
from lakehouse.tables.rejects import rejects_table
from lakehouse.transforms import retail

REJECTS = rejects_table("retail/rejects")

_TIME = "DateTime64(0, 'UTC')"


def _first_loads(keys: str, more: str = "") -> str:
    """What dbt's macro `first_load` asks of all months, so that they are not all read for one."""
    load = "argMin(RECORD_SOURCE, (LOAD_DATETIME, RECORD_SOURCE))"
    return f"SELECT {keys}, {more}min(LOAD_DATETIME), {load} GROUP BY {keys}"


ONLINE_RETAILS = Table(
    database="raw",
    name="online_retails",
    columns={
        "InvoiceNo": "String",
        "StockCode": "String",
        "Description": "Nullable(String)",
        "Quantity": "Int32",
        "InvoiceDate": _TIME,
        "UnitPrice": "Decimal(10, 4)",
        "CustomerID": "Nullable(UInt64)",
        "Country": "String",
        "TotalAmount": "Decimal(18, 4)",
        "Sheet": "String",
        "Row": "UInt32",
        "_unreadable": "Nullable(String)",
        "LOAD_DATETIME": _TIME,
        "RECORD_SOURCE": "String",
    },
    order_by=("InvoiceDate", "InvoiceNo", "StockCode", "Sheet", "Row"),
    partition_by="toYYYYMM(InvoiceDate)",
    comment="Online Retail as published, a row a line; a line that stands on both sheets once.",
)
PSA_ONLINE_RETAILS = Table(
    database="raw",
    name="psa_online_retails",
    columns={
        **dict.fromkeys(retail.HASH_KEYS, "UUID"),
        "InvoiceNo": "String",
        "StockCode": "String",
        "Description": "Nullable(String)",
        "Quantity": "Int32",
        "InvoiceDate": _TIME,
        "UnitPrice": "Decimal(10, 4)",
        "TotalAmount": "Decimal(18, 4)",
        "CustomerID": "UInt64",
        "Country": "String",
        "ReturnStatus": "LowCardinality(String)",
        "LOAD_DATETIME": _TIME,
        "RECORD_SOURCE": "String",
        "Invoice": "String",
        "LineNumber": "UInt32",
        "Sheet": "String",
        "Row": "UInt32",
    },
    order_by=("InvoiceDate", "InvoiceNo", "StockCode", "LineNumber"),
    partition_by="toYYYYMM(InvoiceDate)",
    comment="The persistent staging area of the vault: a row a line, with its ten hash keys.",
    projections={
        "hub_product": _first_loads("hub_product_hash_key, StockCode"),
        "hub_customer": _first_loads("hub_customer_hash_key, CustomerID"),
        "hub_country": _first_loads("hub_country_hash_key, Country"),
        "link_customer_country": _first_loads(
            "link_customer_country_hash_key, hub_customer_hash_key, hub_country_hash_key",
            "min(InvoiceDate), ",
        ),
    },
)


def month_partition(month: str) -> tuple[int]:
    """The partition of both tables that holds a month such as `2010-12`."""
    return (int(month.replace("-", "")),)
