"""The original's way with the workbook of Online Retail. Prints one line of JSON.

    python benchmarks/baselines_retail.py online+retail+ii.zip --port 18123

pandas reads both sheets, a hash is made row by row for each of the ten keys, all is inserted into
ClickHouse, and vault, marts and quality tables are built from scratch, one statement each.
"""

import argparse
import hashlib
import io
import json
import resource
import time
import uuid
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COLUMNS = {
    "Invoice": "InvoiceNo",
    "Price": "UnitPrice",
    "Customer ID": "CustomerID",
}
KEYS = {
    "hub_invoice": ["InvoiceNo", "StockCode", "InvoiceDate"],
    "hub_product": ["StockCode"],
    "hub_customer": ["CustomerID"],
    "hub_time": ["InvoiceDate"],
    "hub_country": ["Country"],
    "link_invoice_product": ["hub_invoice", "hub_product"],
    "link_invoice_customer": ["hub_invoice", "hub_customer"],
    "link_invoice_time": ["hub_invoice", "hub_time"],
    "link_invoice_country": ["hub_invoice", "hub_country"],
    "link_customer_country": ["hub_customer", "hub_country"],
}
HUBS = {
    "hub_invoice": "InvoiceNo, InvoiceDate",
    "hub_product": "StockCode",
    "hub_customer": "CustomerID",
    "hub_time": "InvoiceDate",
    "hub_country": "Country",
}
SATELLITES = {
    "sat_invoice": "hub_invoice, Quantity, UnitPrice, TotalAmount, ReturnStatus",
    "sat_product": "hub_product, Description",
    "sat_time": "hub_time, toDate(InvoiceDate) AS date, toYear(InvoiceDate) AS year",
}


def rows(archive: Path) -> Any:
    """Both sheets as pandas reads them, with the keys."""
    import pandas as pd

    with zipfile.ZipFile(archive) as opened:
        name = next(n for n in opened.namelist() if n.endswith(".xlsx"))
        book = io.BytesIO(opened.read(name))
    frame = pd.concat(pd.read_excel(book, sheet_name=None).values(), ignore_index=True)
    frame = frame.rename(columns=COLUMNS)
    frame["TotalAmount"] = frame["Quantity"] * frame["UnitPrice"]
    frame = frame.dropna(subset=["StockCode", "InvoiceDate"])
    frame["CustomerID"] = frame["CustomerID"].fillna(0).astype("uint64")
    for column in ("InvoiceNo", "StockCode", "Description", "Country"):
        frame[column] = frame[column].fillna("").astype(str)
    is_return = frame["InvoiceNo"].str.startswith("C") | (frame["Quantity"] < 0)
    frame["ReturnStatus"] = is_return.map({True: "Return", False: "Normal"})
    frame["InvoiceNo"] = frame["InvoiceNo"].str.replace("C", "", regex=False)
    for key, parts in KEYS.items():
        frame[key] = frame[parts].apply(hashed, axis=1)
    return frame


def hashed(row: Iterable[Any]) -> str:
    """The first 16 bytes of a SHA-256 as UUID, as the original makes them, without a separator."""
    text = "".join(str(value) for value in row)
    return str(uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16]))


def build(client: Any, frame: Any) -> None:
    """Inserts the rows, and builds every table of vault, marts and quality anew."""
    for database in ("raw", "vault", "marts", "quality"):
        client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    keys = ", ".join(f"{key} UUID" for key in KEYS)
    client.command(
        f"CREATE OR REPLACE TABLE raw.psa ({keys}, InvoiceNo String, StockCode String,"
        " Description String, Quantity Int32, InvoiceDate DateTime, UnitPrice Float64,"
        " TotalAmount Float64, CustomerID UInt64, Country String, ReturnStatus String)"
        " ENGINE = MergeTree ORDER BY (InvoiceDate, hub_invoice)"
    )
    columns = [*KEYS, "InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate"]
    columns += ["UnitPrice", "TotalAmount", "CustomerID", "Country", "ReturnStatus"]
    client.insert_df("raw.psa", frame[columns])
    made = {f"vault.{hub}": f"SELECT DISTINCT {hub}, {c} FROM raw.psa" for hub, c in HUBS.items()}
    for link, parts in list(KEYS.items())[5:]:
        made[f"vault.{link}"] = f"SELECT DISTINCT {link}, {', '.join(parts)} FROM raw.psa"
    for satellite, chosen in SATELLITES.items():
        made[f"vault.{satellite}"] = f"SELECT DISTINCT {chosen} FROM raw.psa"
    for fact, status in (("Fact_Sales", "Normal"), ("Fact_Sale_Returns", "Return")):
        made[f"marts.{fact}"] = (
            "SELECT i.hub_invoice AS sale_id, i.InvoiceNo AS invoice_no,"
            " p.hub_product AS product_key, c.hub_customer AS customer_key,"
            " t.hub_time AS time_key, o.hub_country AS country_key, s.Quantity AS quantity,"
            " s.UnitPrice AS unit_price, s.TotalAmount AS total_amount"
            " FROM vault.hub_invoice i JOIN vault.sat_invoice s USING (hub_invoice)"
            " LEFT JOIN vault.link_invoice_product p USING (hub_invoice)"
            " LEFT JOIN vault.link_invoice_customer c USING (hub_invoice)"
            " LEFT JOIN vault.link_invoice_time t USING (hub_invoice)"
            " LEFT JOIN vault.link_invoice_country o USING (hub_invoice)"
            f" WHERE s.ReturnStatus = '{status}'"
        )
    made["quality.anomaly_invoice"] = (
        "SELECT * FROM marts.Fact_Sales WHERE unit_price <= 0 OR quantity > 1000"
    )
    made["quality.sales_summary"] = (
        "SELECT t.date, min(total_amount), max(total_amount), median(total_amount),"
        " avg(total_amount), sum(total_amount) FROM marts.Fact_Sales s"
        " JOIN vault.sat_time t ON t.hub_time = s.time_key GROUP BY t.date"
    )
    for table, select in made.items():
        client.command(
            f"CREATE OR REPLACE TABLE {table} ENGINE = MergeTree ORDER BY tuple() AS {select}"
        )


def main() -> None:
    import clickhouse_connect

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    started = time.perf_counter()
    frame = rows(arguments.archive)
    read = time.perf_counter() - started
    client = clickhouse_connect.get_client(host="127.0.0.1", port=arguments.port)
    build(client, frame)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "seconds": round(seconds, 1),
                "read_and_hash_seconds": round(read, 1),
                "rows": len(frame),
                "peak_rss_mb": round(peak, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
