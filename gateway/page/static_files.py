"""The files of the page at `/`: what each holds, what it is, and a tag by which browsers keep it.

They are read once and served from memory; a name that is no file of the page is never looked for on
the disk. Knows no HTTP. Served by endpoints/page.py.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

INDEX = "index.html"
_DIRECTORY = Path(__file__).with_name("static")
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file. etag: of its contents, quoted as HTTP has it."""

    body: bytes
    media_type: str
    etag: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Return every file of the page, by name."""
    return {
        path.name: _static_file(path)
        for path in sorted(_DIRECTORY.iterdir())
        if path.suffix in _MEDIA_TYPES
    }


def _static_file(path: Path) -> StaticFile:
    body = path.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return StaticFile(body, _MEDIA_TYPES[path.suffix], etag)
