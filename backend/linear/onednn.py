"""Weights in the arithmetic's own dtype. On CPUs oneDNN packs them for its kernels.

Measured on two cores of a Zen 5 server, 3072 x 576, torch 2.13, us for plain / packed:
bf16 1 row 145 / 110, 64 rows 356 / 305; fp32 1 row 445 / 169, 64 rows 1430 / 567.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.linear.method import LookUp, SiluMul, WeightFootprint
from backend.ops.topk import argmax
from backend.quant.stored import StoredWeight


class DenseMethod:
    """A LinearMethod. Packing doubles as the test whether this machine's oneDNN takes the dtype."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._packs = device.type == "cpu" and _onednn_takes(dtype)

    def pack(self, stored: StoredWeight) -> Tensor:
        return self.pack_dense(stored.read())

    def pack_dense(self, weight: Tensor) -> Tensor:
        """Return a weight [N, K] as `apply` takes it."""
        if not self._packs:
            return weight
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
        return packed

    def kept(self, group_bits: int | None, width: int) -> WeightFootprint:
        return WeightFootprint(is_dense=True, few_bits=0)

    def size_bytes(self, packed: Tensor) -> int:
        return packed.numel() * packed.element_size()

    def apply(self, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        if not self._packs:
            return F.linear(x, packed, bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        return out

    def apply_gated(
        self, x: Tensor, packed: Tensor, bias: Tensor | None, silu_mul: SiluMul
    ) -> Tensor:
        return silu_mul(self.apply(x, packed, bias))

    def score(self, x: Tensor, packed: Tensor) -> Tensor:
        return self.apply(x, packed, None).float()

    def best(self, x: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
        return argmax(self.score(x, packed))

    def look_up(self, packed: Tensor) -> LookUp | None:
        return None


def _onednn_takes(dtype: torch.dtype) -> bool:
    """Private ops of torch 2.11 to 2.13; anything unexpected means the plain linear serves."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(torch.eye(64, dtype=dtype))
        x = torch.ones(1, 64, dtype=dtype)
        out = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        return bool(torch.equal(out, x))
    except (AttributeError, RuntimeError):
        return False
