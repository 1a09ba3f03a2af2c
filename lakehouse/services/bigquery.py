"""The BigQuery emulator of this machine: local-bigquery, in a Python environment of its own."""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from filelock import FileLock

from lakehouse.errors import LakehouseError, UnavailableError
from lakehouse.services.process import LocalService
from lakehouse.settings import Settings

_log = logging.getLogger(__name__)

PROJECT = "lakehouse"
"""The project that the emulator serves."""

_HERE = Path(__file__).parent
_SERVER = _HERE / "bigquery_server.py"
_LOCK = _HERE / "local_bigquery.lock"
_EXTENSIONS = "ducklake", "httpfs", "icu", "spatial"

_IS_PYTHON_313 = (
    "import sys, sysconfig; "
    "sys.exit(sys.version_info[:2] != (3, 13) or bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
)
_OR_ELSE = (
    "set LAKEHOUSE_BIGQUERY_PROJECT to a Google Cloud project, "
    "or switch it off with LAKEHOUSE_WITHOUT=bigquery"
)


class BigQueryService(LocalService):
    """The emulator on `settings.bigquery_port`; it reads `gs://` from the local GCS service."""

    name = "bigquery"
    title = "BigQuery"
    port_variable = "LAKEHOUSE_BIGQUERY_PORT"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, settings.bigquery_port)

    def command(self) -> list[str]:
        """Builds the emulator's environment where it is missing; the program and its arguments.

        Raises:
            LakehouseError: Python 3.13 or uv is missing, or a package is not the expected one.
            UnavailableError: the packages cannot be fetched.
        """
        environment = emulator_environment(self.settings.cache)
        variables = [
            f"HOME={environment}",  # where DuckDB looks for its extensions
            f"STORAGE_EMULATOR_HOST=http://127.0.0.1:{self.settings.gcs_port}",
        ]
        # Isolated, since what PYTHONPATH names was made for another Python.
        python = [str(_python(environment)), "-I", str(_SERVER)]
        return ["env", *variables, *python, PROJECT, str(self.data), str(self.port)]

    def address(self, port: int) -> str:
        """The HTTP address of the emulator."""
        return f"http://127.0.0.1:{port}"

    def ready(self, port: int) -> bool:
        """Whether the emulator lists its datasets."""
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", f"/bigquery/v2/projects/{PROJECT}/datasets")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def available(settings: Settings) -> str | None:
    """Why the emulator cannot run here, as a sentence; None where it can."""
    try:
        if not _python(_environment(settings.cache)).exists():
            _uv(), _require_python_313()
    except LakehouseError as error:
        return str(error)
    return None


def emulator_environment(cache: Path) -> Path:
    """The emulator's Python environment, built on the first call from a lock with hashes.

    Raises:
        LakehouseError: Python 3.13 or uv is missing, or a package is not the expected one.
        UnavailableError: the packages cannot be fetched.
    """
    environment = _environment(cache)
    if _python(environment).exists():
        return environment
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{environment.name}.lock"):
        if not _python(environment).exists():
            _build(environment)
    return environment


def python_313() -> Path | None:
    """A Python 3.13 that runs: ours, what uv finds, the one on the PATH, or one of pyenv's."""
    return next(filter(_is_python_313, _candidates()), None)


def _environment(cache: Path) -> Path:
    return cache / f"local-bigquery-{hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]}"


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def _candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    # It fails altogether where a shim of pyenv's is in its way.
    with suppress(LakehouseError, subprocess.CalledProcessError):
        yield Path(_run([_uv(), "python", "find", "--no-python-downloads", "3.13"]).strip())
    if found := shutil.which("python3.13"):
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/3.13*/bin/python"), reverse=True)


def _is_python_313(python: Path) -> bool:
    try:
        _run([str(python), "-I", "-c", _IS_PYTHON_313])
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _require_python_313() -> Path:
    if python := python_313():
        return python
    raise LakehouseError(
        "The local BigQuery service needs Python 3.13 beside the one that runs the lakehouse: "
        f"install Python 3.13, {_OR_ELSE}."
    )


def _uv() -> str:
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError) as error:
        if uv := shutil.which("uv"):
            return uv
        raise LakehouseError(
            "The local BigQuery service is installed with uv, which is not here: "
            f"run `pip install 'lakehouse[local]'`, {_OR_ELSE}."
        ) from error


def _build(environment: Path) -> None:
    """Builds the environment aside and renames it, so that a killed build leaves nothing half."""
    uv, base = _uv(), _require_python_313()
    _log.info("Building the environment of the BigQuery emulator (150 MB to fetch, once)")
    draft = environment.with_name(f"{environment.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # what a build left that was killed
    python = str(_python(draft))
    try:
        _run([uv, "venv", "--quiet", "--no-project", "--python", str(base), str(draft)])
        _run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, str(_LOCK)])
        _run([python, "-I", "-c", _import_extensions()], HOME=str(draft))
        shutil.rmtree(environment, ignore_errors=True)  # one whose Python is gone
        draft.replace(environment)
    except subprocess.CalledProcessError as error:
        raise _explained(error.stderr) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _import_extensions() -> str:
    calls = "; ".join(f"import_extension({name!r})" for name in _EXTENSIONS)
    return f"from duckdb_extensions import import_extension; {calls}"


def _run(command: list[str], **variables: str) -> str:
    return subprocess.run(
        command,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def _explained(message: str) -> LakehouseError:
    if "Hash mismatch" in message:
        return LakehouseError(
            "A package for the BigQuery emulator is not the published one: "
            f"check the package index that is configured here, {_OR_ELSE}."
        )
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return UnavailableError(
        f"The packages of the BigQuery emulator could not be installed "
        f"({lines[-1] if lines else 'no reason given'}): "
        f"connect to a network with a Python package index and try again, {_OR_ELSE}."
    )
