"""Attention of encoders, in stock torch: every token sees all tokens of its sequence.

Nothing is padded but attention itself: sequences of like length are gathered into one batch each.
What a sequence is padded to depends on its own length alone, so that its numbers do not change with
its neighbours.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

# Sequences are padded to multiples of it, and those of one length share a call.
LENGTH_UNIT = 16

# length -> scores added to those of keys, [H, L, L] or [L, L]
ScoreBias = Callable[[int], Tensor]


@dataclass(frozen=True, slots=True)
class _Bucket:
    """n sequences, padded to L tokens.

    gathered: [n * L], tokens of the batch, the last of a sequence again where it has no more.
    padded: [t], where the t tokens stand in it; tokens: [t], where in the batch.
    mask: added to scores, [n, 1 or H, 1 or L, L]; None where nothing is to be hidden.
    """

    size: tuple[int, int]
    gathered: Tensor
    padded: Tensor
    tokens: Tensor
    mask: Tensor | None


class BidirectionalAttention:
    """One step's attention, planned once for all layers."""

    def __init__(
        self,
        query_starts: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
        bias: ScoreBias | None = None,
    ) -> None:
        """query_starts: [S + 1], sequence s owns tokens starts[s] .. starts[s + 1]."""
        by_length: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for start, end in pairwise(query_starts):
            by_length[-(-(end - start) // LENGTH_UNIT) * LENGTH_UNIT].append((start, end))
        self._buckets = [
            _bucket(spans, length, dtype, device, bias) for length, spans in by_length.items()
        ]

    def run(self, qkv: Tensor, num_heads: int, scale: float | None = None) -> Tensor:
        """softmax(scale q k) v over each sequence.

        qkv: [T, 3 * H, D], queries, then keys, then values -> [T, H * D]. scale: None: D ** -0.5.
        """
        num_tokens, _, dim = qkv.shape
        out = qkv.new_empty(num_tokens, num_heads * dim)
        for bucket in self._buckets:
            n, length = bucket.size
            # [n * L, 3 H, D] -> [3, n, H, L, D]
            parts = qkv.index_select(0, bucket.gathered).view(n, length, 3, num_heads, dim)
            q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
            found = F.scaled_dot_product_attention(q, k, v, bucket.mask, scale=scale)
            flat = found.transpose(1, 2).reshape(n * length, num_heads * dim)
            out.index_copy_(0, bucket.tokens, flat.index_select(0, bucket.padded))
        return out


def within(window: int) -> ScoreBias:
    """Return what hides keys that stand `window` tokens from a query, or farther."""

    def scores(length: int) -> Tensor:
        places = torch.arange(length)
        is_far = (places - places[:, None]).abs() >= window
        return torch.zeros(length, length).masked_fill(is_far, -math.inf)

    return scores


def _bucket(
    spans: list[tuple[int, int]],
    length: int,
    dtype: torch.dtype,
    device: torch.device,
    bias: ScoreBias | None,
) -> _Bucket:
    starts = torch.tensor([start for start, _ in spans])
    lens = torch.tensor([end - start for start, end in spans])
    places = torch.arange(length)
    is_token = places < lens[:, None]  # [n, L]
    gathered = starts[:, None] + torch.minimum(places, lens[:, None] - 1)
    padded = is_token.flatten().nonzero().squeeze(1)
    mask = torch.zeros(is_token.shape, dtype=torch.float32).masked_fill(~is_token, -math.inf)
    scores = mask[:, None, None, :]
    if bias is not None:
        scores = scores.to(device) + bias(length).float().to(device)
    return _Bucket(
        (len(spans), length),
        gathered.flatten().to(device),
        padded.to(device),
        gathered.flatten()[padded].to(device),
        scores.to(device, dtype),
    )
