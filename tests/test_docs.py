"""What README and docs promise is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.asset_graph import mermaid
from lakehouse.automation.datasets import NAMES, dataset
from lakehouse.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_of_a_data_set_in_the_readme_is_its_asset_graph(name: str) -> None:
    picture = mermaid(dataset(Settings(), name))
    assert picture in (ROOT / "README.md").read_text(), "run: python docs/asset_graph.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_linked_page_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_named_setting_is_one(page: Path) -> None:
    known = {f"LAKEHOUSE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"LAKEHOUSE_[A-Z_]+", page.read_text())) <= known


def test_every_named_command_is_one() -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "lakehouse.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for page in PAGES:
        text = page.read_text()
        typed = "".join(re.findall(r"^```\n.*?^```", text, re.DOTALL | re.MULTILINE))
        for command in (
            *re.findall(r"^lakehouse ([a-z]+)\b", typed, re.MULTILINE),
            *re.findall(r"`lakehouse ([a-z]+)\b", text),
        ):
            assert f" {command} " in helped, f"{page.name} names `lakehouse {command}`"
