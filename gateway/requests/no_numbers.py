"""NaN and Infinity, which no JSON has, but some encoders write: names the field that holds one.

Called by body.py for bodies that are not JSON.
"""

import json
import math
from typing import Any

from gateway.errors import ApiError, invalid

_WORDS = (b"NaN", b"Infinity")


def fault_of_no_number(body: bytes) -> ApiError | None:
    """Return the refusal of a body that is JSON but for such words; None for any other.

    body: no deeper than json can take.
    """
    if not any(word in body for word in _WORDS):
        return None
    try:
        found = _path_in(json.loads(body))
    except ValueError:
        return None
    if found is None:
        return None
    path, number = found
    word = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    message = f"Invalid '{path}': JSON has no {word}."
    return invalid(message, path.partition("[")[0].partition(".")[0] or None, "invalid_type")


def _path_in(value: Any, path: str = "") -> tuple[str, float] | None:
    if isinstance(value, float) and not math.isfinite(value):
        return path, value
    parts: list[tuple[str, Any]] = []
    if isinstance(value, list):
        parts = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    elif isinstance(value, dict):
        parts = [(f"{path}.{key[:64]}".removeprefix("."), item) for key, item in value.items()]
    return next((found for where, item in parts if (found := _path_in(item, where))), None)
