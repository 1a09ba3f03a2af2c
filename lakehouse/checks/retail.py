"""What must hold of Online Retail's staging tables; of the others dbt's tests say it."""

from collections.abc import Sequence

import polars as pl

from lakehouse.checks.common import conserved, rows_of
from lakehouse.checks.factory import Check, Outcome, Partition, contract_outcome
from lakehouse.partitions import retail_months
from lakehouse.resources.clickhouse import Table
from lakehouse.tables import retail as tables
from lakehouse.transforms import retail as transforms

TOLERATED_REJECTS = 0.001
"""Share of a month's lines that may be unusable before what follows is stopped."""


def _months_are_over(partition: Partition) -> Outcome:
    recorded = partition.recorded
    known = set(retail_months.get_partition_keys())
    outside = [month for month in recorded.get("months", []) if month not in known]
    return Outcome(
        passed=not outside,
        warn=True,
        sentence=f"The workbook has lines of {recorded.get('first_month')} to"
        f" {recorded.get('last_month')}"
        + (f"; {', '.join(outside)} cannot be made: not over, or too early." if outside else "."),
        metadata={"months_outside": outside},
    )


def _keeps_contract(table: Table, schema: pl.Schema) -> Check:
    def run(partition: Partition) -> Outcome:
        rows = _rows(partition, table).cast(schema)
        return contract_outcome(partition, f"retail/raw/{table.name}", schema, rows.lazy())

    return Check("contract", "Every row keeps the table's contract.", run)


def _rows(partition: Partition, table: Table, *columns: str) -> pl.DataFrame:
    return partition.published(table, tables.month_partition(partition.key), *columns)


def _conserves_lines(partition: Partition) -> Outcome:
    recorded = partition.recorded
    written = _rows(partition, tables.ONLINE_RETAILS, "InvoiceNo").height
    rejected = rows_of(partition, tables.REJECTS)
    dropped = int(recorded.get("rows_dropped_as_duplicates", 0))
    return conserved(
        partition,
        int(recorded.get("rows_in", 0)),
        "lines in the files",
        {
            "in the table": written,
            "rejected": rejected,
            "dropped as standing on both sheets": dropped,
        },
        rows_written=written,
        rows_rejected=rejected,
        rows_dropped=dropped,
    )


def _conserves_rows(partition: Partition) -> Outcome:
    lines, staged = (
        _rows(partition, table, "TotalAmount")
        for table in (tables.ONLINE_RETAILS, tables.PSA_ONLINE_RETAILS)
    )
    outcome = conserved(partition, lines.height, "lines", {"staging rows": staged.height})
    there, here = lines["TotalAmount"].sum(), staged["TotalAmount"].sum()
    return Outcome(
        passed=outcome.passed and there == here,
        sentence=f"{outcome.sentence}; {here} in all, {there} in the lines",
        metadata=dict(outcome.metadata) | {"total_amount": str(here)},
    )


def _agree(partition: Partition) -> Outcome:
    columns = ("hub_invoice_hash_key", "Invoice", "StockCode", "InvoiceDate", *_SAME_ON_ALL_LINES)
    rows = _rows(partition, tables.PSA_ONLINE_RETAILS, *columns)
    values = [pl.col(name).n_unique() for name in _SAME_ON_ALL_LINES]
    differing = (
        rows.group_by("hub_invoice_hash_key")
        .agg(pl.col("Invoice", "StockCode", "InvoiceDate").first(), *values)
        .filter(pl.any_horizontal(pl.col(_SAME_ON_ALL_LINES) > 1))
        .sort("Invoice", "StockCode")
    )
    examples = [
        f"{invoice} {code} at {at:%Y-%m-%d %H:%M}"
        for invoice, code, at in differing.select("Invoice", "StockCode", "InvoiceDate")
        .head(_EXAMPLES)
        .iter_rows()
    ]
    return Outcome(
        passed=differing.is_empty(),
        sentence=f"{partition.key}: of {differing.height:,} invoice lines the customer or the"
        " country differs among lines with the same key"
        + (
            f", such as {', '.join(examples)}: the vault would link only the first."
            if examples
            else "."
        ),
        metadata={"keys_differing": differing.height, "examples": examples},
    )


def _are_readable(partition: Partition) -> Outcome:
    recorded = partition.recorded
    lines, rejected = int(recorded.get("rows_in", 0)), int(recorded.get("rows_rejected", 0))
    return Outcome(
        passed=not rejected,
        warn=rejected <= max(TOLERATED_REJECTS * lines, _FEW),
        sentence=f"{partition.key}: {rejected:,} of {lines:,} lines were rejected"
        + (f". See `lakehouse rejects retail --from {partition.key}`." if rejected else "."),
        metadata={"rows_rejected": rejected},
    )


_SAME_ON_ALL_LINES = ("CustomerID", "Country")
_EXAMPLES = 5
_FEW = 20
"""Unusable lines that a small month may have, whatever their share."""

CHECKS: dict[str, Sequence[Check]] = {
    "retail/raw/workbook": [
        Check("months_are_over", "Every month of the workbook can be made.", _months_are_over)
    ],
    "retail/raw/online_retails": [
        _keeps_contract(tables.ONLINE_RETAILS, transforms.ONLINE_RETAILS),
        Check(
            "rows_conserved",
            "Every line is in the table, rejected, or stands on an earlier sheet.",
            _conserves_lines,
        ),
        Check("lines_readable", "Hardly any line is rejected.", _are_readable),
    ],
    "retail/raw/psa_online_retails": [
        _keeps_contract(tables.PSA_ONLINE_RETAILS, transforms.PSA_ONLINE_RETAILS),
        Check("rows_conserved", "Every line is staged, to the cent.", _conserves_rows),
        Check(
            "lines_agree",
            "All lines with one key have the same customer and country.",
            _agree,
        ),
    ],
}
"""The checks of each asset, by its key."""
