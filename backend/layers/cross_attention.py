"""Attention of an encoder-decoder's layers: an encoder's, a decoder's, and from one to the other.

None rotates. A rank has some heads of each; the ranks' results are summed.
"""

from dataclasses import dataclass

from torch import Tensor

from backend.config.spec import Attention
from backend.layers.compute_context import ComputeContext
from backend.layers.linear import ColumnParallelLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.ops.both_ways import attend_both_ways
from backend.ops.cache_rows import Slots, store
from backend.ops.paged import PagedAttention, ScoreBias


@dataclass(frozen=True, slots=True)
class EncoderDecoderStep:
    """What the attention of a decoder's layer is given in a step.

    cache: the layer's. places: where new keys and values go in it. own, cross: attention over
    the decoder's tokens and over the encoder's.
    """

    cache: Tensor
    places: Slots
    own: PagedAttention
    cross: PagedAttention


class EncoderAttention:
    """Attention of whole inputs, each token of which sees all others."""

    def __init__(
        self, loader: WeightLoader, attention: Attention, head_dim: int, context: ComputeContext
    ) -> None:
        self._qkv = ColumnParallelLinear(loader, ["q_proj", "k_proj", "v_proj"])
        self._o = RowParallelLinear(loader, "o_proj", context)
        self._dim = head_dim
        self._scale = head_dim**-0.5 if attention.scale is None else attention.scale

    def forward(self, x: Tensor, starts: list[int], bias: ScoreBias) -> Tensor:
        """[X, hidden], inputs that begin at `starts` -> [X, hidden]."""
        qkv = self._qkv.forward(x).view(len(x), -1, self._dim)
        return self._o.forward(attend_both_ways(qkv, starts, self._scale, bias).flatten(1))


class DecoderAttention:
    """Attention of a decoder's tokens to those before them."""

    def __init__(self, loader: WeightLoader, head_dim: int, context: ComputeContext) -> None:
        self._qkv = ColumnParallelLinear(loader, ["q_proj", "k_proj", "v_proj"])
        self._o = RowParallelLinear(loader, "o_proj", context)
        self._dim = head_dim

    def forward(self, x: Tensor, step: EncoderDecoderStep) -> Tensor:
        """[T, hidden] -> [T, hidden]."""
        qkv = self._qkv.forward(x).view(len(x), -1, self._dim)
        num_heads = qkv.shape[1] // 3
        store(qkv[:, num_heads:], step.cache, step.places)
        return self._o.forward(step.own.run(qkv[:, :num_heads], step.cache).flatten(1))


class CrossAttention:
    """Attention of a decoder's tokens to its encoder's output, whose keys and values are kept."""

    def __init__(self, loader: WeightLoader, head_dim: int, context: ComputeContext) -> None:
        self._q = ColumnParallelLinear(loader, ["q_proj"])
        self._kv = ColumnParallelLinear(loader, ["k_proj", "v_proj"])
        self._o = RowParallelLinear(loader, "o_proj", context)
        self._dim = head_dim

    def keep(self, encoded: Tensor, cache: Tensor, places: Slots) -> None:
        """Write the keys and values of encoders' outputs [X, hidden] into the layer's cache."""
        kv = self._kv.forward(encoded).view(len(encoded), -1, self._dim)
        store(kv, cache, places)

    def forward(self, x: Tensor, step: EncoderDecoderStep) -> Tensor:
        """[T, hidden] -> [T, hidden]."""
        q = self._q.forward(x).view(len(x), -1, self._dim)
        return self._o.forward(step.cross.run(q, step.cache).flatten(1))
