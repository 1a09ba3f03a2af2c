"""Programs of Debian's packages, with what those need, fetched and unpacked without being root."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from lakehouse.settings import Settings


def unpacked(package: str) -> Path:
    """The package's files, and those of what it needs and this machine has not.

    They are fetched once, into the cache; the test is skipped where they cannot be.
    """
    folder = Settings().cache / "debian" / package
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "files"
    with FileLock(folder.with_suffix(".lock")):
        if not files.exists():
            _fetch(package, folder, files)
    return files


def libraries(files: Path) -> str:
    """Where the libraries among such files are, as LD_LIBRARY_PATH has it."""
    return ":".join(sorted({str(library.parent) for library in files.glob("**/lib*.so*")}))


def problem_of(*command: str | Path, cwd: Path) -> str:
    """What goes wrong with a command, in a line; nothing where all goes well."""
    return _problem(_run(*command, cwd=cwd))


def _fetch(package: str, folder: Path, files: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip(f"{package} is not on the PATH, and there is no apt-get to fetch it with")
    incoming = folder / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)  # what a fetch left that was killed
    incoming.mkdir()
    problem = _download(package, incoming)
    if problem:
        # Lists of our own, where the machine's are missing or old and only root may fetch them.
        lists = incoming / "lists"
        (lists / "partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={incoming / 'cache'}"]
        problem = problem_of("apt-get", *own, "update", cwd=incoming)
        problem = problem or _download(package, incoming, *own)
    if problem:
        pytest.skip(f"{package} is not on the PATH, and apt-get could not fetch it: {problem}")
    for archive in incoming.glob("*.deb"):
        if problem := problem_of("dpkg-deb", "-x", archive, incoming / "files", cwd=incoming):
            pytest.skip(f"{archive.name} could not be unpacked: {problem}")
    (incoming / "files").replace(files)
    shutil.rmtree(incoming)


def _download(package: str, incoming: Path, *options: str) -> str:
    """What goes wrong when the package is downloaded, with what would be installed for it."""
    install = ["install", "--simulate", "--no-install-recommends", package]
    simulated = _run("apt-get", *options, *install, cwd=incoming)
    if problem := _problem(simulated):
        return problem
    needed = re.findall(r"^Inst (\S+)", simulated.stdout, re.MULTILINE)
    return problem_of("apt-get", *options, "download", *needed, cwd=incoming)


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def _problem(result: subprocess.CompletedProcess[str]) -> str:
    if result.returncode == 0:
        return ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("E:")]
    return lines[-1] if lines else f"{result.args[0]} ended with {result.returncode}"
