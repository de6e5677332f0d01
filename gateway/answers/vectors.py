"""Vectors as they come from the engine, bytes of float32 numbers, and as callers want them."""

import base64
import math
import sys
from array import array


def numbers(vector: bytes) -> "array[float]":
    """Return the numbers of a vector."""
    found = array("f", vector)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def shortened(vector: bytes, dimensions: int, *, is_normalized: bool) -> bytes:
    """Return the first numbers of a vector, made of length 1 again if it was (Kusupati et al. 2022,
    Matryoshka representations)."""
    first = numbers(vector)[:dimensions]
    if is_normalized:
        length = math.sqrt(sum(number * number for number in first)) or 1.0
        first = array("f", [number / length for number in first])
    if sys.byteorder == "big":
        first.byteswap()
    return first.tobytes()


def as_floats(vector: bytes) -> list[float]:
    """Return a vector as JSON has it."""
    return numbers(vector).tolist()


def as_base64(vector: bytes) -> str:
    """Return a vector as OpenAI's clients ask for it."""
    return base64.b64encode(vector).decode()
