"""What README and docs promise is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.asset_graph import mermaid
from lakehouse.definitions import build_definitions

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_picture_in_the_readme_is_the_asset_graph() -> None:
    picture = mermaid(build_definitions())
    assert picture in (ROOT / "README.md").read_text(), "run: python docs/asset_graph.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_linked_page_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_named_setting_is_one(page: Path) -> None:
    from lakehouse.settings import Settings

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
        for command in re.findall(r"`?lakehouse ([a-z]+)\b(?= [\"'a-z-]|`)", page.read_text()):
            assert f" {command} " in helped, f"{page.name} names `lakehouse {command}`"
