"""Somebody with a browser before the dashboard: what they see, in the words of the tests."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from debian import libraries, unpacked
from homes import Home, free_port
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from lakehouse.services.programs import npm_command
from lakehouse.settings import Settings

_AXE = "axe-core@4.14.1"

_IN_PART = """
([title, what]) => {
    const part = [...document.querySelectorAll("section.part")]
        .find(part => part.querySelector("h2").textContent === title);
    if (what === "rows") {
        return [...part.querySelectorAll("tbody tr")]
            .map(row => [...row.cells].map(cell => cell.textContent));
    }
    return getElement(part.querySelector(".nicegui-echart").id.slice(1)).chart.getOption();
}
"""


class Visitor:
    """A window of a browser; what it asked for elsewhere, and what it complained of, is kept."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        self._address = address
        page.on("request", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )

    def _note(self, request: Request) -> None:
        here = request.url.startswith(("data:", "blob:"))
        if not here and urlsplit(request.url).hostname != "127.0.0.1":
            self.elsewhere.append(request.url)

    def open(self, path: str) -> None:
        """Goes to a page and waits until its data, or a sentence in its place, is there."""
        self.page.goto(self._address + path)
        self.wait()

    def wait(self) -> None:
        """Waits until nothing is loading any more."""
        self.page.wait_for_function(
            "(note => note && !note.textContent.startsWith('Loading'))"
            "(document.querySelector('.note'))"
        )
        self.page.wait_for_function(
            "[...document.querySelectorAll('.nicegui-echart')].every(e => e.querySelector('svg'))"
        )

    @property
    def text(self) -> str:
        """All that stands on the page."""
        return self.page.inner_text("body")

    @property
    def query(self) -> str:
        """The filters in the address."""
        return urlsplit(self.page.url).query

    def titles(self) -> list[str]:
        """The headings of the page's parts."""
        return self.page.locator("section.part h2").all_inner_texts()

    def tiles(self) -> dict[str, str]:
        """The figures on top, by their names."""
        names = self.page.locator(".tile dt").all_inner_texts()
        values = self.page.locator(".tile dd:not(.aside)").all_inner_texts()
        return dict(zip(names, values, strict=True))

    def rows(self, title: str) -> list[list[str]]:
        """The cells of a part's table, a chart's being closed at first."""
        found: list[list[str]] = self.page.evaluate(_IN_PART, [title, "rows"])
        return found

    def labels(self, title: str) -> list[str]:
        """The labels along a chart, upright or lying."""
        chart = self._chart(title)
        axis = next(a for a in chart["xAxis"] + chart["yAxis"] if a["type"] == "category")
        found: list[str] = axis["data"]
        return found

    def series(self, title: str) -> dict[str, list[Any]]:
        """What ECharts draws: the values of each named series."""
        return {s["name"]: s["data"] for s in self._chart(title)["series"] if s.get("name")}

    def _chart(self, title: str) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate(_IN_PART, [title, "chart"])
        return found

    def colour(self, selector: str, name: str) -> str:
        """A computed style of an element, such as its `color`."""
        script = "([s, n]) => getComputedStyle(document.querySelector(s))[n]"
        found: str = self.page.evaluate(script, [selector, name])
        return found


def chromium() -> tuple[Path, dict[str, str]]:
    """Chromium and the environment that it needs; the test is skipped where it is not to be had."""
    for name in ("chromium", "google-chrome"):
        if found := shutil.which(name):
            return Path(found), {}
    files = unpacked("chromium")
    return files / "usr/lib/chromium/chromium", {"LD_LIBRARY_PATH": libraries(files)}


@contextmanager
def browsing() -> Iterator[Browser]:
    """A headless Chromium that finds nobody but this machine."""
    program, variables = chromium()
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            env={**os.environ, **variables},
            args=["--no-sandbox", alone],
        )
        yield browser
        browser.close()


@contextmanager
def visiting(context: BrowserContext, address: str) -> Iterator[Visitor]:
    """A window, which must have asked for nothing from elsewhere when it is closed."""
    context.set_default_timeout(20_000)
    visitor = Visitor(context.new_page(), address)
    yield visitor
    visitor.page.close()
    assert visitor.elsewhere == []
    assert visitor.complaints == []


@contextmanager
def served(home: Home) -> Iterator[str]:
    """`lakehouse serve` in a home; its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = home.start("serve", "--port", str(port))
    try:
        _wait_for(process, address)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _wait_for(process: subprocess.Popen[str], address: str) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            httpx.get(f"{address}/healthz", timeout=5)
            return
        except httpx.TransportError:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)


def axe() -> str:
    """axe-core's script, fetched by npm into the cache once; skips the test where it cannot be."""
    folder = Settings().cache / "axe"
    script = folder / _AXE / "package" / "axe.min.js"
    if not script.exists():
        script.parent.parent.mkdir(parents=True, exist_ok=True)
        pack = [*npm_command(), "pack", _AXE, "--pack-destination", str(folder)]
        try:
            subprocess.run(pack, check=True, capture_output=True, timeout=60)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pytest.skip("axe-core cannot be fetched: no npm registry is reachable")
        shutil.unpack_archive(next(folder.glob("*.tgz")), script.parent.parent)
    return script.read_text()
