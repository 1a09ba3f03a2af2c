"""Prometheus and its companions: on the PATH, or from Debian's packages, without being root."""

import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from lakehouse.settings import Settings

_PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "prometheus-pushgateway": "prometheus-pushgateway",
}
_OTHER_NAMES = {
    "prometheus-alertmanager": "alertmanager",
    "prometheus-pushgateway": "pushgateway",
}
"""What others than Debian call them."""


def program(name: str) -> Path:
    """Where the program is; the test is skipped where it is not to be had."""
    for known in (name, _OTHER_NAMES.get(name, name)):
        if found := shutil.which(known):
            return Path(found)
    folder = _folder(name)
    unpacked = folder / "usr" / "bin" / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not unpacked.exists():
            _fetch(_PACKAGES[name], folder)
    return unpacked


def command(name: str) -> list[str | Path]:
    """How the program is started; the test is skipped where it cannot be."""
    found = program(name)
    if name != "prometheus-alertmanager" or not found.is_relative_to(_folder(name)):
        return [found]
    # Debian's Alertmanager wants its templates below /usr/share, where only root may put them; so
    # it gets a /usr/share of its own, that of the package.
    bind = 'mount --bind "$0" /usr/share && exec "$@"'
    see = ["unshare", "--map-root-user", "--mount", "sh", "-c", bind, _folder(name) / "usr/share"]
    if problem := _run(*see, "true", cwd=_folder(name)):
        pytest.skip(f"{name} is not installed, and cannot run unpacked on this machine: {problem}")
    return [*see, found]


def _folder(name: str) -> Path:
    return Settings().cache / "debian" / _PACKAGES[name]


def _fetch(package: str, folder: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip(f"{package} is not on the PATH, and there is no apt-get to fetch it with")
    incoming = folder / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)  # what a fetch left that was killed
    incoming.mkdir()
    # Lists of our own, where the machine's are missing and only root may fetch them.
    lists = folder / "lists"
    own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder / 'cache'}"]
    problem = _run("apt-get", "download", package, cwd=incoming)
    if problem:
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        problem = _run("apt-get", *own, "update", cwd=incoming)
        problem = problem or _run("apt-get", *own, "download", package, cwd=incoming)
    if problem:
        pytest.skip(f"{package} is not on the PATH, and apt-get could not fetch it: {problem}")
    archive = next(incoming.glob("*.deb"))
    if problem := _run("dpkg-deb", "-x", archive, incoming / "files", cwd=incoming):
        pytest.skip(f"{archive.name} could not be unpacked: {problem}")
    shutil.rmtree(folder / "usr", ignore_errors=True)
    (incoming / "files" / "usr").replace(folder / "usr")
    for leftover in (incoming, lists, folder / "cache"):
        shutil.rmtree(leftover, ignore_errors=True)


def _run(*command: str | Path, cwd: Path) -> str:
    """What went wrong, in a line; nothing where all went well."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("E:")]
    return lines[-1] if lines else f"{command[0]} ended with {result.returncode}"
