"""Columns of a weight whose groups lie apart, brought together: what GPTQ's desc_act leaves.

A block of ggml's lies in one group. So the columns of a group come to stand side by side, and what
its last block has too many is filled up with columns that nothing is multiplied by. Whoever
multiplies takes the columns of activations in the same order (LinearKernel.take_columns).
"""

import torch
from torch import Tensor

from backend.quant.rounding import BLOCK


def order_columns(groups: Tensor) -> Tensor | None:
    """Return which column stands at each place, int32 [K']: K, which is none, fills blocks up.

    groups: the group of each of K columns, int64 [K]. None: as they are, each block of them lies in
    one group.
    """
    k = len(groups)
    counts = torch.bincount(groups)
    widths = (counts + BLOCK - 1) // BLOCK * BLOCK
    sorted_columns = torch.argsort(groups, stable=True)
    # How much further back a group begins than its columns would without those that fill up.
    shifts = (widths - counts).cumsum(0) - (widths - counts)
    places = torch.arange(k) + shifts[groups[sorted_columns]]
    order = torch.full((int(widths.sum()),), k, dtype=torch.int32)
    order[places] = sorted_columns.int()
    return None if torch.equal(order, torch.arange(k, dtype=torch.int32)) else order


def shared_columns(groups: Tensor) -> int:
    """Return how many columns of that order share a scale at least, wherever they begin."""
    widths = (torch.bincount(groups) + BLOCK - 1) // BLOCK * BLOCK
    shared: Tensor = torch.tensor(0)
    for width in widths:
        shared = torch.gcd(shared, width)
    return int(shared)
