"""Whether somebody types, or a text was piped in."""

import os
import stat
import sys

from gateway.options import SettingsError


def piped_text() -> str:
    """Return all that was piped in, or a file holds; "" where a person types or nothing is.

    Raises SettingsError for what is no text.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return ""
    # A service's standard input is /dev/null, or closed; neither is waited for.
    if stat.S_ISCHR(mode):
        return ""
    try:
        return sys.stdin.read().strip()
    except UnicodeDecodeError as error:
        raise SettingsError(f"what was piped in is no text in {error.encoding.upper()}") from None
