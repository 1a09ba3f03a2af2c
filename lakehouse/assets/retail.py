"""Online Retail: from the workbook to staging in ClickHouse; by dbt to vault, marts and quality."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from lakehouse.assets.building import (
    OWNERS,
    explained,
    explaining,
    file_metadata,
    made_by_partition,
    table_metadata,
)
from lakehouse.checks.contracts import require_frame
from lakehouse.imports import absent
from lakehouse.partitions import retail_months
from lakehouse.resources.clickhouse import ClickHouse, Table
from lakehouse.resources.dbt import Dbt
from lakehouse.resources.dbt_project import column_lineage
from lakehouse.resources.lake import Lake, Provenance
from lakehouse.resources.retail_files import RetailFiles
from lakehouse.tables import retail as tables
from lakehouse.transforms import retail as transforms

_SHARED: dict[str, Any] = {
    "group_name": "retail",
    "owners": OWNERS,
    "pool": "retail",
    "code_version": "1",
}
_MONTHLY = _SHARED | {"partitions_def": retail_months}


@dg.asset(
    key=["retail", "raw", "workbook"],
    kinds={"file", "excel"},
    # The daily schedule looks at it. Its lines are of years ago, so nothing else has to be new.
    freshness_policy=dg.FreshnessPolicy.time_window(
        warn_window=timedelta(days=2), fail_window=timedelta(days=366)
    ),
    **_SHARED,
)
@partial(explained, retries=0)  # the source itself has tried again, and waited
def workbook(
    context: dg.AssetExecutionContext, retail_files: dg.ResourceParam[RetailFiles]
) -> dg.MaterializeResult:
    """The publisher's workbook, downloaded once, verified, and read once: its lines by month."""
    landed = retail_files.land()
    months = landed.staged.months
    known = set(retail_months.get_partition_keys())
    return dg.MaterializeResult(
        metadata=file_metadata(landed.landed)
        | {
            "source_version": landed.landed.sha256,
            "first_month": months[0],
            "last_month": months[-1],
            "months": list(months),
            "months_that_are_not_over": [month for month in months if month not in known],
        },
        data_version=dg.DataVersion(landed.landed.sha256),
    )


@dg.asset(
    key=["retail", "raw", "online_retails"],
    deps=[workbook],
    kinds={"clickhouse", "polars"},
    **_MONTHLY,
)
@explained
def online_retails(
    context: dg.AssetExecutionContext,
    retail_files: dg.ResourceParam[RetailFiles],
    lake: dg.ResourceParam[Lake],
    clickhouse: dg.ResourceParam[ClickHouse],
) -> dg.MaterializeResult:
    """Every line of the month as published, typed; an invoice that stands on both sheets once.

    Days that were dropped into the inbox take the place of the workbook's. Lines without stock
    code or time, or with no number where one belongs, go to `retail/rejects` with the reason.
    """

    def make(month: str) -> dict[str, Any]:
        with lake.exclusive("retail/raw/online_retails", month):
            version = retail_files.version(month)
            lines = retail_files.month(month)
            origin = Provenance(context.run.run_id, version)
            rejects = lines.rejects.with_columns(pl.lit(origin.run_id).alias("run_id"))
            if rejects.height or lake.row_counts(tables.REJECTS).get(month):
                lake.replace(tables.REJECTS, month, [rejects], origin)
            written = _published(clickhouse, tables.ONLINE_RETAILS, month, lines.frame, origin)
        return written | {
            "rows_in": lines.rows_in,
            "rows_rejected": rejects.height,
            "rows_dropped_as_duplicates": lines.on_both_sheets,
            "lines_replaced_by_dropped_files": lines.replaced,
            "total_amount": str(lines.frame["TotalAmount"].sum()),
        }

    return made_by_partition(context, make)


@dg.asset(
    key=["retail", "raw", "psa_online_retails"],
    deps=[online_retails],
    kinds={"clickhouse", "polars"},
    **_MONTHLY,
)
@explained
def psa_online_retails(
    context: dg.AssetExecutionContext,
    retail_files: dg.ResourceParam[RetailFiles],
    lake: dg.ResourceParam[Lake],
    clickhouse: dg.ResourceParam[ClickHouse],
) -> dg.MaterializeResult:
    """The persistent staging area of the vault: a line a row, with its ten hash keys."""

    def make(month: str) -> dict[str, Any]:
        with lake.exclusive("retail/raw/psa_online_retails", month):
            origin = Provenance(context.run.run_id, retail_files.version(month))
            rows = retail_files.month(month).frame
            staged = transforms.psa_online_retails(rows)
            written = _published(clickhouse, tables.PSA_ONLINE_RETAILS, month, staged, origin)
        return written | {"rows_in": rows.height}

    return made_by_partition(context, make)


def _published(
    clickhouse: ClickHouse, table: Table, month: str, rows: pl.DataFrame, origin: Provenance
) -> dict[str, Any]:
    """Replace a month in ClickHouse, once its rows have been held against the contract."""
    require_frame(f"retail/raw/{table.name}", month, rows)
    count = clickhouse.replace_partition(table, tables.month_partition(month), rows, origin.run_id)
    return table_metadata(str(table), f"clickhouse://{table}", table.columns, count) | {
        "rows_written": count,
        "source_version": origin.source_hash,
    }


raw_assets = [online_retails, psa_online_retails]


def build_dbt_assets(manifest: Path) -> dg.AssetsDefinition:
    """Every model of the dbt project as an asset, its tests as checks.

    Args:
        manifest: What dbt says of the project.
    """
    # dbt runs in a process of its own. To load it here too, for the names of its types, would take
    # longer than all else that a start does.
    with absent("dbt.version"):
        from dagster_dbt import DagsterDbtTranslator, dbt_assets

    lineage = column_lineage(manifest)

    class Translator(DagsterDbtTranslator):
        """Names, groups and owners as everywhere in the graph; columns and where they are from."""

        def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
            return _key(dbt_resource_props["schema"], dbt_resource_props["name"])

        def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
            return "retail"

        def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
            return OWNERS

        def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
            return str(dbt_resource_props["description"])

        def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
            known = super().get_metadata(dbt_resource_props)
            columns = lineage.get(dbt_resource_props["name"])
            return {**known, **_lineage_metadata(columns)} if columns else known

        def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str:
            # Of the SQL with its macros; by default a macro could change and nobody notice.
            sql = dbt_resource_props.get("compiled_code", "")
            return hashlib.sha256(sql.encode()).hexdigest()[:16]

        def get_asset_check_spec(
            self,
            asset_spec: dg.AssetSpec,
            manifest: Mapping[str, Any],
            unique_id: str,
            project: Any,
        ) -> dg.AssetCheckSpec | None:
            spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
            test = manifest["nodes"][unique_id]["test_metadata"]
            return spec and spec._replace(description=_what_is_tested(test))

    translator = Translator()

    @dbt_assets(
        manifest=manifest,
        name="retail_dbt",
        partitions_def=retail_months,
        # Starting dbt costs more than a month does.
        backfill_policy=dg.BackfillPolicy.single_run(),
        dagster_dbt_translator=translator,
        pool="retail",
    )
    def retail_dbt(
        context: dg.AssetExecutionContext,
        dbt: dg.ResourceParam[Dbt],
        lake: dg.ResourceParam[Lake],
    ) -> Iterator[Any]:
        # Hubs and dimensions are shared by all months: one run makes them at a time.
        with explaining(context), lake.exclusive("retail/dbt", "all"):
            yield from dbt.build(context, translator, context.partition_keys)

    return retail_dbt


def _key(schema: str, table: str) -> dg.AssetKey:
    return dg.AssetKey(["retail", schema, table])


def _lineage_metadata(columns: Mapping[str, Sequence[tuple[str, str, str]]]) -> dict[str, Any]:
    deps = {
        column: [
            dg.TableColumnDep(asset_key=_key(schema, table), column_name=name)
            for schema, table, name in origins
        ]
        for column, origins in columns.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps)}


def _what_is_tested(test: Mapping[str, Any]) -> str:
    """A dbt test in words, such as `dbt's test unique, of column_name customer_key.`."""
    arguments = {name: value for name, value in test["kwargs"].items() if name != "model"}
    of = ", ".join(f"{name} {value}" for name, value in arguments.items())
    return f"dbt's test {test['name']}, of {of}."
