"""Whether somebody types, or a text was piped in."""

import os
import stat
import sys


def piped_text() -> str:
    """Return all that was piped in, or a file holds; "" where a person types or nothing is."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return ""
    # A service's standard input is /dev/null, or closed; neither is waited for.
    return sys.stdin.read().strip() if not stat.S_ISCHR(mode) else ""
