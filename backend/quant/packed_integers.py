"""Small integers out of the 32-bit words that AWQ, GPTQ and compressed-tensors pack them into.

In all of them the first value is in the lowest bits. They differ in the dimension that is packed,
and AWQ in the order of a word's eight.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# The values that the nibbles of a word hold, of eight (WQLinear_GEMM.from_linear of autoawq).
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def unpack(words: Tensor, bits: int) -> Tensor:
    """Take words apart: int32 [.., W], little-endian -> uint8 [.., W * 32 / bits]; bits 2, 4, 8."""
    # Not contiguous(): of a single row it keeps strides of which bytes cannot be seen.
    packed = words.clone(memory_format=torch.contiguous_format).view(torch.uint8)
    if bits == 8:
        return packed
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    return (packed[..., None] >> shifts).bitwise_and_((1 << bits) - 1).flatten(-2)


def read_columns(words: Any, rows: slice, cols: slice, bits: int) -> Tensor:
    """Return values [rows, cols], uint8, of words that are packed along the columns.

    words: a tensor [R, W], or a file's, of which no more is read than holds the values.
    """
    span, rest = _words(cols, bits)
    return unpack(words[rows, span], bits)[:, rest]


def read_turned(
    words: Any, rows: slice, cols: slice, bits: int, order: Sequence[int] | None = None
) -> Tensor:
    """Return values [cols, rows], uint8, of words [R, W] that are packed along the columns.

    order: which of its values each place of a word holds, if not one after the other. Words are
    turned before they are taken apart, which takes less than half the time.
    """
    span, rest = _words(cols, bits)
    turned = words[rows, span].T.clone(memory_format=torch.contiguous_format)
    width, length = turned.shape
    packed = turned.view(torch.uint8).view(width, length, 4)
    out = torch.empty(width, 32 // bits, length, dtype=torch.uint8)
    for place, value in enumerate(order or range(32 // bits)):
        byte, below = divmod(place * bits, 8)
        out[:, value] = (packed[..., byte] >> below).bitwise_and_((1 << bits) - 1)
    return out.flatten(0, 1)[rest]


def read_rows(words: Any, rows: slice, cols: slice, bits: int) -> Tensor:
    """Return values [rows, cols], uint8, of words [W, C] that are packed along the rows."""
    span, rest = _words(rows, bits)
    return unpack(words[span, cols].T, bits)[:, rest].T


def _words(part: slice, bits: int) -> tuple[slice, slice]:
    """Return the words that hold a part, and where in their values it lies."""
    per_word = 32 // bits
    first = part.start // per_word
    start = part.start - first * per_word
    return slice(first, -(-part.stop // per_word)), slice(start, start + part.stop - part.start)
