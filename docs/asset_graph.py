"""The pictures of the asset graph in README.md, one for each data set, made from the definitions.

`python docs/asset_graph.py` writes them; a test fails when a picture is not the graph.
"""

import re
from pathlib import Path

import dagster as dg

from lakehouse.automation.dataset import Dataset
from lakehouse.automation.datasets import datasets
from lakehouse.settings import Settings

README = Path(__file__).resolve().parent.parent / "README.md"

LAYERS = (
    *("raw", "bronze", "silver", "objects", "bigquery", "postgres", "gold", "clickhouse"),
    *("vault", "marts", "quality"),
)

ALIKE = {
    "taxi": (r"^(yellow|green|fhv|fhvhv)_", "{service}_"),
    "retail": (r"^(hub|link|sat|Dim|Fact|anomaly|original)_.*", r"\1_…"),
}
"""By data set, the names of which one stands for all that are made in the same way."""


def mermaid(dataset: Dataset) -> str:
    """The assets of a data set by layer, and what depends on what, as a Mermaid flowchart."""
    labels = {_node(spec.key): _label(spec) for spec in dataset.specs}
    layer_of = {_node(spec.key): spec.key.path[1] for spec in dataset.specs}
    edges = {(_node(dep.asset_key), _node(spec.key)) for spec in dataset.specs for dep in spec.deps}
    lines = ["```mermaid", f"%% {dataset.name}", "flowchart LR"]
    for layer in sorted(set(layer_of.values()), key=LAYERS.index):
        lines.append(f"  subgraph {layer}")
        lines += [
            f'    {node}["{labels[node]}"]' for node in sorted(labels) if layer_of[node] == layer
        ]
        lines.append("  end")
    lines += [f"  {above} --> {below}" for above, below in sorted(edges) if above != below]
    return "\n".join([*lines, "```"])


def _name(key: dg.AssetKey) -> str:
    pattern, replacement = ALIKE.get(key.path[0], ("$^", ""))
    return re.sub(pattern, replacement, key.path[-1])


def _node(key: dg.AssetKey) -> str:
    return re.sub(r"\W+", "", "__".join([*key.path[:-1], _name(key)]))


def _label(spec: dg.AssetSpec) -> str:
    partitions = spec.partitions_def
    by_year = isinstance(partitions, dg.TimeWindowPartitionsDefinition) and partitions.fmt == "%Y"
    return _name(spec.key) + ("<br>by year" if by_year else "")


def main() -> None:
    """Put the current pictures into README.md."""
    text = README.read_text()
    for dataset in datasets(Settings()).values():
        place = re.compile(rf"```mermaid\n%% {dataset.name}\n.*?```", re.DOTALL)
        picture = mermaid(dataset)
        text = place.sub(lambda _, picture=picture: picture, text)
    README.write_text(text)


if __name__ == "__main__":
    main()
