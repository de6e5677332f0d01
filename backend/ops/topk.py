"""The largest logits of some rows, without sorting the rest; among equals the first.

Selection is exact: a row's is the same whatever else is selected. Where the C extension is, it is
asked. Called by the sampler, and for the argmax of a head that has no kernel for it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.native import kernels
from backend.native.calls import CountGreater, TopK

# PyTorch selects in chunks of so many tokens: the best few of a row are in the chunks with the best
# peaks. us a row of 49,152 logits on one core of a Zen 5 server: torch.topk(21) 83, in chunks 20.
CHUNK = 32
# The most that the C kernel selects; see native/topk.h.
MAX_NATIVE = 512

Ids = NDArray[np.int64]


def argmax(logits: Tensor, rows: Ids | None = None) -> tuple[Tensor, Tensor]:
    """Return the largest value of each row, NaN if it has one, and its place, the first of equals.

    rows: which of the logits' rows, [N]; None is all.
    """
    if logits.device.type != "cpu":
        values, ids = (logits if rows is None else logits[torch.from_numpy(rows)]).max(dim=-1)
        return values, ids
    if rows is None:
        rows = np.arange(len(logits))
    # us a row of 49,152 on one core, alone and of 64: torch 28 and 26, numpy 3 and 4.
    matrix = logits.numpy()
    places = np.fromiter((matrix[row].argmax() for row in rows), np.int64, len(rows))
    return torch.from_numpy(matrix[rows, places]), torch.from_numpy(places)


def topk(logits: Tensor, count: int, rows: Ids) -> tuple[NDArray[np.float32], Ids]:
    """Return the largest `count` logits of N rows, [N, count], descending, and their places.

    Equals are in the order of their places, and where they straddle the cut, the first of them are
    in: logits of bfloat16 weights are often equal. A row with NaN has it for the largest.
    logits: [M, tokens] float32, contiguous. rows: [N].
    """
    if kernels is not None and count <= MAX_NATIVE and logits.device.type == "cpu":
        return _topk_native(logits, count, rows)
    return _topk_torch(logits[torch.from_numpy(rows).to(logits.device)], count)


def count_greater(logits: Tensor, rows: Ids, values: NDArray[np.float32]) -> Ids:
    """Return how many logits of each row are greater than a value, [N]. rows, values: [N]."""
    if kernels is None or logits.device.type != "cpu":
        index, limits = (torch.from_numpy(each).to(logits.device) for each in (rows, values))
        found: Ids = (logits[index] > limits[:, None]).sum(-1).cpu().numpy()
        return found
    assert logits.is_contiguous()
    counts = np.empty(len(rows), np.int64)
    kernels.count_greater(
        CountGreater(
            logits=logits.data_ptr(),
            width=logits.shape[1],
            rows=rows.ctypes.data,
            num_rows=len(rows),
            values=values.ctypes.data,
            counts=counts.ctypes.data,
        )
    )
    return counts


def _topk_native(logits: Tensor, count: int, rows: Ids) -> tuple[NDArray[np.float32], Ids]:
    assert logits.is_contiguous()
    values = np.empty((len(rows), count), np.float32)
    ids = np.empty((len(rows), count), np.int64)
    kernels.topk(
        TopK(
            logits=logits.data_ptr(),
            width=logits.shape[1],
            rows=rows.ctypes.data,
            num_rows=len(rows),
            count=count,
            values=values.ctypes.data,
            ids=ids.ctypes.data,
        )
    )
    return values, ids


def _topk_torch(logits: Tensor, count: int) -> tuple[NDArray[np.float32], Ids]:
    width = logits.shape[1]
    more = min(count + 1, width)
    if width % CHUNK == 0 and 2 * more * CHUNK <= width:
        chunks = logits.unflatten(1, (-1, CHUNK))  # type: ignore[no-untyped-call]
        places = chunks.amax(-1).topk(more, dim=-1).indices
        pieces = chunks.gather(1, places[..., None].expand(-1, -1, CHUNK)).flatten(1)
        values, inner = pieces.topk(more, dim=-1)
        ids = places.gather(1, inner // CHUNK) * CHUNK + inner % CHUNK
    else:
        values, ids = logits.topk(more, dim=-1)
    if more > count:
        straddling = values[:, count] == values[:, count - 1]
        values, ids = values[:, :count], ids[:, :count].contiguous()
        for row in torch.nonzero(straddling).flatten():
            tied = values[row] == values[row, -1]
            first = torch.nonzero(logits[row] == values[row, -1]).flatten()
            ids[row, tied] = first[: int(tied.sum())]
    best, places_of = values.cpu().numpy(), ids.cpu().numpy()
    order = np.lexsort((places_of, np.where(np.isnan(best), -np.inf, -best)), axis=-1)
    row = np.arange(len(best))[:, None]
    return best[row, order], places_of[row, order]
