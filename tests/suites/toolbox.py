"""Tools that take torch and transformers from our environment instead of installing gigabytes.

What a tool needs beyond that goes into a virtual environment of its own, kept in the cache; it
comes first there, and pip never touches ours. Must not know what a tool does.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from gateway.default_model import cache_directory

INSTALL_SECONDS = 900.0
# Tokenizers and models come from this disk only.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


class Toolbox:
    """The tools of some packages."""

    def __init__(self, name: str, *requirements: str) -> None:
        """Install the requirements, unless that was done before."""
        self.path = cache_directory() / "suites" / name
        stamp = self.path / "installed"  # written last: what is interrupted begins again
        wanted = "\n".join([sys.version, *requirements])
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", self.path], check=True)
        [packages] = self.path.glob("lib/python*/site-packages")
        # The last of the .pth files: its directory comes last on sys.path.
        (packages / "zz_behind.pth").write_text(sysconfig.get_path("purelib"))
        self.run("python", "-m", "pip", "install", "--quiet", *requirements, limit=INSTALL_SECONDS)
        stamp.write_text(wanted)

    def run(
        self,
        tool: str,
        *arguments: str | Path,
        limit: float,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run a tool for at most `limit` seconds and return what it printed. Fails if it fails."""
        command = [self.path / "bin" / tool, *arguments]
        outcome = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            env={**os.environ, **(variables or {})},
        )
        assert outcome.returncode == 0, f"{tool} failed:\n{outcome.stdout[-4000:]}"
        return outcome.stdout
