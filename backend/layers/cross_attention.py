"""Attention of an encoder-decoder's layers: an encoder's, a decoder's, and from one to the other.

None rotates. A rank has some heads of each; the ranks' results are summed.
"""

from dataclasses import dataclass

from torch import Tensor

from backend.layers.compute_context import ComputeContext
from backend.layers.linear import ColumnParallelLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.ops.encoder_decoder import EncoderDecoderAttention
from backend.ops.score_bias import ScoreBias


@dataclass(frozen=True, slots=True)
class EncoderDecoderStep:
    """What the attention of a decoder's layer is given in a step.

    cache, bias: the layer's. attention: the step's, of all layers.
    """

    cache: Tensor
    bias: ScoreBias
    attention: EncoderDecoderAttention


class EncoderAttention:
    """Attention of whole inputs, each token of which sees all others."""

    def __init__(self, loader: WeightLoader, head_dim: int, context: ComputeContext) -> None:
        self._qkv = ColumnParallelLinear(loader, ["q_proj", "k_proj", "v_proj"])
        self._o = RowParallelLinear(loader, "o_proj", context)
        self._dim = head_dim

    def forward(self, x: Tensor, attention: EncoderDecoderAttention, bias: ScoreBias) -> Tensor:
        """[X, hidden] -> [X, hidden]."""
        qkv = self._qkv.forward(x).view(len(x), -1, self._dim)
        return self._o.forward(attention.encode(qkv, bias).flatten(1))


class DecoderAttention:
    """Attention of a decoder's tokens to those before them."""

    def __init__(self, loader: WeightLoader, head_dim: int, context: ComputeContext) -> None:
        self._qkv = ColumnParallelLinear(loader, ["q_proj", "k_proj", "v_proj"])
        self._o = RowParallelLinear(loader, "o_proj", context)
        self._dim = head_dim

    def forward(self, x: Tensor, step: EncoderDecoderStep) -> Tensor:
        """[T, hidden] -> [T, hidden]."""
        qkv = self._qkv.forward(x).view(len(x), -1, self._dim)
        return self._o.forward(step.attention.decode(qkv, step.cache, step.bias).flatten(1))


class CrossAttention:
    """Attention of a decoder's tokens to its encoder's output, whose keys and values are kept."""

    def __init__(self, loader: WeightLoader, head_dim: int, context: ComputeContext) -> None:
        self._q = ColumnParallelLinear(loader, ["q_proj"])
        self._kv = ColumnParallelLinear(loader, ["k_proj", "v_proj"])
        self._o = RowParallelLinear(loader, "o_proj", context)
        self._dim = head_dim

    def keep(self, encoded: Tensor, cache: Tensor, attention: EncoderDecoderAttention) -> None:
        """Write the keys and values of encoders' outputs [X, hidden] into the layer's cache."""
        attention.keep(self._kv.forward(encoded).view(len(encoded), -1, self._dim), cache)

    def forward(self, x: Tensor, step: EncoderDecoderStep) -> Tensor:
        """[T, hidden] -> [T, hidden]."""
        q = self._q.forward(x).view(len(x), -1, self._dim)
        return self._o.forward(step.attention.cross(q, step.cache).flatten(1))
