"""The order of the rows of each head, from a file's to that which the kernels turn."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from backend.config.sources import HeadOrder

_T = TypeVar("_T", bound=np.generic)


def to_halves(rows: npt.NDArray[_T], order: HeadOrder) -> npt.NDArray[_T]:
    """Reorder the rows of whole heads, [H * D, ...], so that halves of a head turn together.

    Of D numbers the first R turn, in a file as two halves or pair by pair. They come to stand at
    the front of either half of the head, what does not turn behind them: queries and keys move
    alike, so their products stay. Whole rows move, so their bytes can stay quantised.
    """
    heads = rows.reshape(-1, order.dim, *rows.shape[1:])
    return np.ascontiguousarray(heads[:, _places(order)]).reshape(rows.shape)


def _places(order: HeadOrder) -> list[int]:
    """Return which row of a head comes to stand at each place, [D]."""
    turned = list(range(order.rotated))
    half = order.rotated // 2
    if order.is_interleaved:
        first, second = turned[::2], turned[1::2]
    else:
        first, second = turned[:half], turned[half:]
    rest = list(range(order.rotated, order.dim))
    middle = order.dim // 2 - half
    return first + rest[:middle] + second + rest[middle:]
