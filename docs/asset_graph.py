"""The picture of the asset graph in README.md, made from the definitions.

`python docs/asset_graph.py` writes it; a test fails when the README's picture is not the graph.
"""

import re
from pathlib import Path

import dagster as dg

from lakehouse.definitions import build_definitions

README = Path(__file__).resolve().parent.parent / "README.md"
_PICTURE = re.compile(r"```mermaid\n.*?```", re.DOTALL)


def mermaid(definitions: dg.Definitions) -> str:
    """The assets by data set and layer, and what depends on what, as a Mermaid flowchart."""
    specs = sorted(definitions.resolve_all_asset_specs(), key=lambda spec: spec.key.path)
    lines = ["```mermaid", "flowchart LR"]
    for layer in ("raw", "bronze", "silver", "gold", "clickhouse"):
        lines.append(f"  subgraph {layer}")
        lines += [
            f'    {_node(spec.key)}["{spec.key.path[0]}<br>{spec.key.path[-1]}'
            f'{"<br>by year" if "year" in _partition(spec) else ""}"]'
            for spec in specs
            if spec.key.path[1] == layer
        ]
        lines.append("  end")
    lines += [
        f"  {_node(dep.asset_key)} --> {_node(spec.key)}" for spec in specs for dep in spec.deps
    ]
    return "\n".join([*lines, "```"])


def _node(key: dg.AssetKey) -> str:
    return "__".join(key.path)


def _partition(spec: dg.AssetSpec) -> str:
    partitions = spec.partitions_def
    is_year = isinstance(partitions, dg.TimeWindowPartitionsDefinition) and partitions.fmt == "%Y"
    return "year" if is_year else "month"


def main() -> None:
    """Put the current picture into README.md."""
    picture = mermaid(build_definitions())
    README.write_text(_PICTURE.sub(lambda _: picture, README.read_text()))


if __name__ == "__main__":
    main()
