"""Our linear layers and tables as modules of torch, to stand in those of transformers' models.

x: [1, T, width], as these models have it, or any other number of rows.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backend.distributed.tensor_parallel import TensorParallel
from backend.layers.mlp import DenseMLP
from backend.linear.kernel import Embed
from backend.linear.method import PackedWeight, StackedWeight


class PackedLinear(nn.Module):
    """Multiplies by this rank's rows of a weight: all of them, or its share of the features.

    weight: has a shape and a dtype for code that asks for them, and no numbers.
    """

    def __init__(self, packed: PackedWeight, bias: Tensor | None, width: int) -> None:
        super().__init__()
        self._packed = packed
        self.bias = bias
        self.in_features, self.out_features = width, packed.num_features
        self.weight: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = self._packed.apply(x.reshape(-1, x.shape[-1]), self.bias)
        return out.view(*x.shape[:-1], out.shape[-1])


class GatheredLinear(PackedLinear):
    """A share of the features each; every rank gets all of them."""

    def __init__(
        self, packed: PackedWeight, bias: Tensor | None, width: int, tp: TensorParallel
    ) -> None:
        super().__init__(packed, bias, width)
        self._tp = tp
        self._widths: list[int] = tp.all_gather(torch.tensor([packed.num_features]))[:, 0].tolist()

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        out = F.pad(out, (0, max(self._widths) - out.shape[-1]))
        parts = self._tp.all_gather(out)
        return torch.cat(
            [part[..., :width] for part, width in zip(parts, self._widths, strict=True)], dim=-1
        )


class SummedLinear(PackedLinear):
    """A share of the inputs each; the ranks' products are summed, then the bias is added.

    columns: the share. Of inputs that all ranks have whole it is taken.
    """

    def __init__(
        self,
        packed: PackedWeight,
        bias: Tensor | None,
        width: int,
        columns: slice,
        tp: TensorParallel,
    ) -> None:
        super().__init__(packed, bias, width)
        self._columns = columns
        self._tp = tp

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] == self.in_features and self._tp.size > 1:
            x = x[..., self._columns]
        out = self._packed.apply(x.reshape(-1, x.shape[-1]))
        out = self._tp.all_reduce(out)
        out = out if self.bias is None else out + self.bias
        return out.view(*x.shape[:-1], out.shape[-1])


class SharedInput:
    """Several linears of one input, multiplied in one go when the first of them is asked.

    widths: of their features. Whoever asks with another input has it multiplied for himself.
    """

    def __init__(self, stacked: StackedWeight, bias: Tensor | None, widths: Sequence[int]) -> None:
        self._stacked = stacked
        self._bias = bias
        ends = [0, *accumulate(widths)]
        self._parts = [slice(*pair) for pair in pairwise(ends)]
        self._input: Tensor | None = None
        self._out: Tensor | None = None

    def part(self, index: int, x: Tensor) -> Tensor:
        """x [1, T, width] -> the features of linear `index`, a view."""
        if self._out is None or x is not self._input:
            self._out = self._stacked.apply(x.reshape(-1, x.shape[-1]), self._bias)
            self._input = x
        out = self._out[:, self._parts[index]].view(*x.shape[:-1], -1)
        if index == len(self._parts) - 1:
            self._input = self._out = None
        return out


class SharedLinear(nn.Module):
    """One of the linears of a SharedInput."""

    def __init__(self, shared: SharedInput, index: int, width: int, num_features: int) -> None:
        super().__init__()
        self._shared = shared
        self._index = index
        self.in_features, self.out_features = width, num_features
        self.weight: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return self._shared.part(self._index, x)


class MLPModule(nn.Module):
    """Our MLP."""

    def __init__(self, mlp: DenseMLP) -> None:
        super().__init__()
        self._mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        return self._mlp.forward(x.reshape(-1, x.shape[-1])).view(x.shape)


class EmbeddingModule(nn.Module):
    """The table of tokens, whole on every rank."""

    def __init__(self, embed: Embed, width: int) -> None:
        super().__init__()
        self._embed = embed
        self.embedding_dim = width
        self.weight: Tensor | None = None

    def forward(self, input_ids: Tensor) -> Tensor:
        """[1, T] -> [1, T, width]."""
        out = self._embed(input_ids.reshape(-1))
        return out.view(*input_ids.shape, out.shape[-1])
