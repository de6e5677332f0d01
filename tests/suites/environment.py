"""Other people's packages, each suite's in a virtual environment or a directory of its own.

They must not mix with ours, and are kept in the cache directory for the next run. Only pip and
npm are asked for anything. Must not know what a tool does. Called by the suites and by
tests/bench/peers, before a server starts.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping
from pathlib import Path

from gateway.default_model import cache_directory

INSTALL_TIMEOUT_S = 900.0
# Tokenizers and models come from this disk only.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


class Unavailable(Exception):
    """A package index did not give what a suite needs."""


def installed(name: str, *requirements: str, sees_ours: bool = False) -> Path:
    """Return the bin directory of an environment that has these packages; made if need be.

    sees_ours: it takes torch and transformers from our environment instead of installing gigabytes.
    What it has itself comes first there, and pip never touches ours.
    """
    home = _home(name, [*requirements, *(["ours"] if sees_ours else [])])
    stamp = home / ".complete"  # written last: what is interrupted begins again
    if not stamp.exists():
        shutil.rmtree(home, ignore_errors=True)
        run(sys.executable, "-m", "venv", home, limit_s=INSTALL_TIMEOUT_S)
        if sees_ours:
            [packages] = home.glob("lib/python*/site-packages")
            # The last of the .pth files: its directory comes last on sys.path.
            (packages / "zz_behind.pth").write_text(sysconfig.get_path("purelib"))
        _install(home / "bin" / "python", *_pip("install"), *requirements)
        stamp.touch()
    return home / "bin"


def installed_from_npm(package: str, version: str) -> Path:
    """Return the `node_modules` that hold a package of npm's; its install scripts do not run."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("there is no npm here")
    home = _home(package.rpartition("/")[2], [package, version])
    stamp = home / ".complete"
    if not stamp.exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        _install(npm, "install", "--prefix", home, "--ignore-scripts", f"{package}@{version}")
        stamp.touch()
    return home / "node_modules"


def sources(package: str, version: str) -> Path:
    """Return the unpacked source distribution of a package, its tests included."""
    home = _home(f"{package}-sources", [version])
    root = home / f"{package.replace('-', '_')}-{version}"
    stamp = home / ".complete"
    if not stamp.exists():
        shutil.rmtree(home, ignore_errors=True)
        # What it is built with may come as wheels.
        wanted = ["--no-deps", "--no-binary", package, "--dest", str(home)]
        command = [*_pip("download"), *wanted, f"{package}=={version}"]
        _install(sys.executable, *command)
        with tarfile.open(root.with_name(f"{root.name}.tar.gz")) as archive:
            archive.extractall(home, filter="data")
        stamp.touch()
    return root


def run(
    program: str | Path,
    *arguments: str | Path,
    limit_s: float,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a program for at most limit_s and return its standard output. Fails if it fails."""
    done = subprocess.run(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        env=os.environ | dict(variables or {}),
    )
    assert done.returncode == 0, f"{program} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def _install(program: str | Path, *arguments: str | Path) -> None:
    """Run what fetches packages. Raises Unavailable if it fails or takes too long."""
    try:
        run(program, *arguments, limit_s=INSTALL_TIMEOUT_S)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)[-300:]) from error


def _home(name: str, requirements: list[str]) -> Path:
    """Other requirements are another environment: nothing is ever upgraded in place."""
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    return cache_directory() / "suites" / f"{name}-{digest}"


def _pip(command: str) -> list[str]:
    return ["-m", "pip", "--disable-pip-version-check", "--quiet", command]
