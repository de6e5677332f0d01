"""Whether what is measured can be written, told before minutes of measuring rather than after."""

import os
from pathlib import Path

from gateway.options import SettingsError


def check_output(**files: str) -> None:
    """Look at where files are to go. files: by flag, as in json="figures.json"; "" is none.

    Raises SettingsError for one that cannot be written.
    """
    for name, file in files.items():
        if file and (reason := _reason(Path(file))):
            raise SettingsError(f"--{name} {file}: {reason}")


def _reason(path: Path) -> str:
    """Say why a file cannot be written, "" if it can."""
    try:
        if path.is_dir():
            return "it is a directory; name a file in it"
        if not path.parent.is_dir():
            return "there is no such directory"
    except OSError as error:
        return str(error.strerror)
    place = path if path.exists() else path.parent
    return "" if os.access(place, os.W_OK) else f"{place} may not be written to"
