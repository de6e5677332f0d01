"""Other people's packages, each suite's in a virtual environment of its own.

They must not mix with ours, and are kept in the cache directory for the next run. Only pip is
asked for anything. Called by the suites, before a server is started.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from gateway.default_model import cache_directory

INSTALL_TIMEOUT_S = 600.0


def installed(name: str, *requirements: str) -> Path:
    """Return the bin directory of an environment that has these packages; made if need be."""
    home = _home(name, requirements)
    stamp = home / ".complete"
    if not stamp.exists():
        shutil.rmtree(home, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(home))
        _run(str(home / "bin" / "python"), *_pip("install"), *requirements)
        stamp.touch()
    return home / "bin"


def sources(package: str, version: str) -> Path:
    """Return the unpacked source distribution of a package, its tests included."""
    home = _home(f"{package}-sources", [version])
    root = home / f"{package}-{version}"
    stamp = home / ".complete"
    if not stamp.exists():
        shutil.rmtree(home, ignore_errors=True)
        wanted = ["--no-deps", "--no-binary", ":all:", "--dest", str(home)]
        _run(sys.executable, *_pip("download"), *wanted, f"{package}=={version}")
        with tarfile.open(home / f"{package}-{version}.tar.gz") as archive:
            archive.extractall(home, filter="data")
        stamp.touch()
    return root


def _home(name: str, requirements: tuple[str, ...] | list[str]) -> Path:
    """Other requirements are another environment: nothing is ever upgraded in place."""
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    return cache_directory() / "suites" / f"{name}-{digest}"


def _pip(command: str) -> list[str]:
    return ["-m", "pip", "--disable-pip-version-check", "--quiet", command]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
