"""Dense weights on a GPU, multiplied by cuBLAS; rows can be looked up in them as they lie."""

from collections.abc import Hashable, Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.linear.kernel import GroupedProduct, LinearKernel


class CublasKernel(LinearKernel[Tensor, Tensor]):
    """A weight stays as it is, [N, K]."""

    embeds = True

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        """dtype, device: of the weights, as every kernel is told; nothing depends on them."""

    def pack(self, weight: Tensor) -> Tensor:
        return weight

    def size_bytes(self, packed: Tensor) -> int:
        return packed.nbytes

    def apply(self, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, packed, bias)

    def embed(self, packed: Tensor, ids: Tensor) -> Tensor:
        return F.embedding(ids, packed)

    @property
    def groups_on_device(self) -> bool:
        return find_spec("triton") is not None

    def layout_of(self, packed: Tensor) -> Hashable:
        return packed.is_contiguous()

    def grouped(
        self, weights: Sequence[Tensor], biases: Sequence[Tensor] | None = None
    ) -> GroupedProduct[Tensor]:
        if find_spec("triton") is None:
            return super().grouped(weights, biases)
        from backend.linear.triton.dense_groups import DenseGroups

        return DenseGroups(self, weights, biases)
