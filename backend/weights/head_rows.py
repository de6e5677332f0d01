"""Which rows of a file a tensor's are, and their order: from a file's to what kernels turn."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from backend.config.sources import HeadOrder, Source
from backend.weights.slices import shifted

_T = TypeVar("_T", bound=np.generic)


def stored_rows(rows: slice, size: int, source: Source) -> slice:
    """Return the file's rows among which some of a tensor's `size` rows are; own_rows() picks them.

    Raises ValueError for a part of a head, or of the rows that take turns with others.
    """
    start, stop, _ = rows.indices(size)
    groups = source.groups
    num_own = groups.end - groups.start if groups else 1
    for unit in (num_own, source.heads.dim if source.heads else 1):
        if start % unit or stop % unit:
            raise ValueError(f"{source.name}: rows {start}:{stop} are not heads of {unit}")
    if groups is None:
        return shifted(rows, size, source.start, source.step)
    first = start // num_own * groups.size
    return slice(first, max(first, stop // num_own * groups.size))


def own_rows(rows: npt.NDArray[_T], source: Source) -> npt.NDArray[_T]:
    """Return those of the rows that stored_rows() named which are the tensor's, in our order."""
    if groups := source.groups:
        turns = rows.reshape(-1, groups.size, *rows.shape[1:])
        rows = turns[:, groups.start : groups.end].reshape(-1, *rows.shape[1:])
    return to_halves(rows, source.heads) if source.heads else rows


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
