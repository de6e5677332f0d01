"""Counts and sizes as people write them: 4k, 512MiB, 2GB.

Knows no particular setting. Called by options.py.
"""

import re
from fractions import Fraction

EXAMPLES = "4k or 512MiB"

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:([kmgt])?(i)?(b)|([kmgt]))", re.IGNORECASE)


def whole_number(text: str, *, is_bytes: bool) -> int | None:
    """Return what a number with a suffix stands for; None for what has none, or no whole one.

    KB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB of 1024, in either case; they are
    for bytes. Of bare letters k, m, g and t are powers of 1000, K, M, G and T of 1024, as in vLLM.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    number, prefix, binary, unit, letter = match.groups()
    if unit is not None and (not is_bytes or (binary and not prefix)):
        return None
    base = 1024 if binary or (letter and letter.isupper()) else 1000
    value = Fraction(number) * base ** _POWERS[(letter or prefix or "").lower()]
    return int(value) if value.denominator == 1 else None
