"""`unisono ctl` as a person runs it."""

import subprocess
import sys
from pathlib import Path

from gateway.supervision.control_messages import Listing, decode_reply
from tests.e2e.server import clean_environment

TIMEOUT_S = 180.0


def ctl(socket_path: Path, *arguments: str) -> tuple[int, str]:
    """Run the command; return its status and what it said."""
    run = subprocess.run(
        [sys.executable, "-m", "gateway", "ctl", *arguments, "--socket", str(socket_path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=clean_environment(),
    )
    return run.returncode, run.stdout + run.stderr


def listing(socket_path: Path) -> Listing:
    """What `ctl list` shows."""
    status, words = ctl(socket_path, "list", "--json")
    assert status == 0, words
    reply = decode_reply(words.encode())
    assert isinstance(reply, Listing)
    return reply
