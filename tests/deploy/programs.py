"""Prometheus and its companions: on the PATH, or from Debian's packages, without being root."""

import shutil
from pathlib import Path

import pytest
from debian import problem_of, unpacked

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
    return _on_the_path(name) or unpacked(_PACKAGES[name]) / "usr" / "bin" / name


def command(name: str) -> list[str | Path]:
    """How the program is started; the test is skipped where it cannot be."""
    found = program(name)
    if name != "prometheus-alertmanager" or _on_the_path(name):
        return [found]
    # Debian's Alertmanager wants its templates below /usr/share, where only root may put them; so
    # it gets a /usr/share of its own, that of the package.
    bind = 'mount --bind "$0" /usr/share && exec "$@"'
    share = found.parents[1] / "share"
    see = ["unshare", "--map-root-user", "--mount", "sh", "-c", bind, share]
    if problem := problem_of(*see, "true", cwd=share):
        pytest.skip(f"{name} is not installed, and cannot run unpacked on this machine: {problem}")
    return [*see, found]


def _on_the_path(name: str) -> Path | None:
    for known in (name, _OTHER_NAMES.get(name, name)):
        if found := shutil.which(known):
            return Path(found)
    return None
