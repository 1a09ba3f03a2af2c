"""Takes the pictures of docs/screenshots, while `lakehouse serve` runs: python docs/screenshots.py.

An address other than that of the settings may follow. Chromium must be on the PATH.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from lakehouse.settings import Settings

_FOLDER = Path(__file__).with_name("screenshots")
_WIDE, _NARROW = 1280, 390
_PICTURES = {
    "drives": ("/drives?to=2013-12-31", _WIDE, 1090, "light"),
    "taxi": ("/taxi", _WIDE, 1330, "light"),
    "retail-dark": ("/retail", _WIDE, 940, "dark"),
    "health": ("/health", _WIDE, 860, "light"),
    "taxi-narrow-dark": ("/taxi", _NARROW, 844, "dark"),
}
"""By name, the address, the width and height of the window, and light or dark."""


def take(browser: Browser, address: str, name: str) -> None:
    """One picture, of what a window of that size shows."""
    path, width, height, scheme = _PICTURES[name]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(address + path)
    page.wait_for_selector(".part")
    page.wait_for_timeout(1500)  # the charts draw themselves
    page.screenshot(path=_FOLDER / f"{name}.png")
    page.close()


def main() -> None:
    """All pictures."""
    settings = Settings()
    default = f"http://{settings.serve_host}:{settings.serve_port}"
    address = sys.argv[1] if len(sys.argv) > 1 else default
    _FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox"],
        )
        for name in _PICTURES:
            take(browser, address, name)
        browser.close()


if __name__ == "__main__":
    main()
