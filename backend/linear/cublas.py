"""Dense weights on a GPU, multiplied by cuBLAS; rows can be looked up in them as they lie."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.linear.kernel import LinearKernel


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
