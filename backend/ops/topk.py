"""One rank's part of a draw over its words of the vocabulary: selection without a sort.

`topk` and `CumulativeProbs` read the logits once in chunks of CHUNK tokens: the best few of a row
are in the chunks with the best peaks, and an inverse of the cumulative mass is first a chunk, then
a token in it.
Measured on one core of a Zen 5 server, us a row of 49,152 logits: torch.topk(21) 83, in chunks 20.
Where the C extension is (native/topk.h), it is asked instead.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.native import kernels
from backend.native.calls import TopK

CHUNK = 32
# The most that the C kernel selects; see native/topk.h.
MAX_NATIVE = 512


def argmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's largest value, NaN if it has one, and its place, the first of equals."""
    if logits.device.type != "cpu":
        values, ids = logits.max(dim=-1)
        return values, ids
    # us a row of 49,152 on one core, alone and of 64: torch 28 and 26, numpy 3 and 4.
    places = logits.numpy().argmax(axis=1)
    ids = torch.from_numpy(places)
    return logits.gather(1, ids[:, None]).squeeze(1), ids


def topk(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest `count` logits [N, count], descending, and their places.

    Where equals straddle the cut, the first of them are in: logits of bfloat16 weights are often
    equal, and torch.topk would pick any. A row with NaN has it for the largest.
    """
    if kernels is not None and count <= MAX_NATIVE and logits.device.type == "cpu":
        return _topk_native(logits, count)
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
        straddling = (values[:, count] == values[:, count - 1]) & values[:, count].isfinite()
        values, ids = values[:, :count], ids[:, :count].contiguous()
        for row in torch.nonzero(straddling).flatten():
            tied = values[row] == values[row, -1]
            first = torch.nonzero(logits[row] == values[row, -1]).flatten()
            ids[row, tied] = first[: int(tied.sum())]
    return values, ids


def _topk_native(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    values = torch.empty(len(logits), count)
    ids = torch.empty(len(logits), count, dtype=torch.int64)
    whole = logits.contiguous()
    rows, width = whole.shape
    kernels.topk(
        TopK(
            logits=whole.data_ptr(),
            rows=rows,
            width=width,
            count=count,
            values=values.data_ptr(),
            ids=ids.data_ptr(),
        )
    )
    return values, ids


class CumulativeProbs:
    """The weights exp(logits) of N rows [N, words], summed by chunk. Takes over the logits."""

    def __init__(self, logits: Tensor) -> None:
        # -inf in a row without tokens: finite, so that its mass is 0 and not NaN.
        peaks = logits.amax(-1).clamp_(min=torch.finfo(logits.dtype).min)  # [N]
        weights = logits.sub_(peaks[:, None]).exp_()
        weights = F.pad(weights, (0, -weights.shape[1] % CHUNK))
        self._chunks = weights.view(len(weights), -1, CHUNK)
        self._cumulative = self._chunks.sum(-1).double().cumsum(-1)
        self.logsumexp = peaks.double() + self._cumulative[:, -1].log()

    def invert(self, rows: Tensor, fractions: Tensor) -> Tensor:
        """Return where fractions of the mass fall. rows, fractions (in [0, 1)): [M] -> [M]."""
        cumulative = self._cumulative[rows]
        chunk, fractions = _find(cumulative, fractions)
        inside = self._chunks[rows, chunk].double().cumsum(-1)
        place, _ = _find(inside, fractions)
        return chunk * CHUNK + place


def _find(cumulative: Tensor, fractions: Tensor) -> tuple[Tensor, Tensor]:
    """Invert [M, n] masses at fractions [M]: the piece each falls in, how far into it in [0, 1)."""
    targets = fractions * cumulative[:, -1]
    pieces = torch.searchsorted(cumulative, targets[:, None], right=True)
    pieces.clamp_(max=cumulative.shape[1] - 1)
    ends = cumulative.gather(1, pieces).squeeze(1)
    starts = cumulative.gather(1, (pieces - 1).clamp_(min=0)).squeeze(1)
    starts = torch.where(pieces.squeeze(1) > 0, starts, 0)
    return pieces.squeeze(1), ((targets - starts) / (ends - starts)).clamp_(0, 1 - 1e-12)
