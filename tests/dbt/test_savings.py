"""What is taken out of dbt in the process of the lakehouse is not missed."""

from dbt.contracts.graph.manifest import Manifest

from lakehouse.resources.dbt_project import parsed_path
from lakehouse.resources.dbt_savings import forget_other_kinds
from lakehouse.settings import Settings


def test_macros_for_other_kinds_of_models_stay_where_there_is_such_a_model() -> None:
    manifest = Manifest.from_msgpack(parsed_path(Settings().cache).read_bytes())
    every = dict(manifest.macros)
    model = manifest.nodes["model.retail.hub_product"]

    model.config.materialized = "incremental"
    forget_other_kinds(manifest)
    assert manifest.macros == every

    model.config.materialized = "staged"
    forget_other_kinds(manifest)
    assert not [name for name in manifest.macros if "incremental" in name]
    assert "macro.retail.materialization_staged_clickhouse" in manifest.macros
