"""Which API key `unisono top` and `unisono bench` send to a server: none meant for another.

A key in --api-key or UNISONO_API_KEY is for whatever --url names. OPENAI_API_KEY is for OpenAI, or
for what OPENAI_BASE_URL names in its place, and goes nowhere else: not to a host mistyped, and not
to this machine, where a tunnel may begin or somebody else may listen.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.options import SettingsError

VARIABLE = "UNISONO_API_KEY"
KEY_DESCRIPTION = (
    f"key to send; {VARIABLE} keeps it out of ps, OPENAI_API_KEY is for OPENAI_BASE_URL alone"
)
HINT = f"--api-key or {VARIABLE} sends a key; OPENAI_API_KEY is for OPENAI_BASE_URL alone"

_OPENAI_URL = "https://api.openai.com/v1"
_PORTS = {"http": 80, "https": 443}


def key_for(url: str, given: str, environ: Mapping[str, str]) -> str:
    """Return the key to send to `url`, or "". given: the flag's.

    Raises SettingsError for one that no header can carry.
    """
    key = _named(url, given, environ)
    for place, character in enumerate(key, start=1):
        if not "!" <= character <= "~":
            raise SettingsError(
                f"character {place} of the API key is {character!r}, which no key has; "
                "was it copied whole, and alone?"
            )
    return key


def _named(url: str, given: str, environ: Mapping[str, str]) -> str:
    if named := (given or environ.get(VARIABLE, "")).strip():
        return named
    its_place = environ.get("OPENAI_BASE_URL", "").strip() or _OPENAI_URL
    if _origin(url) is None or _origin(url) != _origin(its_place):
        return ""
    return environ.get("OPENAI_API_KEY", "").strip()


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what is no URL of a server."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None
