"""Dense weights. On CPUs oneDNN packs them for its kernels, elsewhere they stay as they are.

tests/bench/README.md has what packing gains.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.linear.kernel import LinearKernel


class OneDnnKernel(LinearKernel[Tensor, Tensor]):
    """Packing doubles as the test whether this machine's oneDNN takes the dtype."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._packs = device.type == "cpu" and _onednn_takes(dtype)

    def pack(self, weight: Tensor) -> Tensor:
        if not self._packs:
            return weight
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
        return packed

    def size_bytes(self, packed: Tensor) -> int:
        return packed.numel() * packed.element_size()

    def apply(self, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        if not self._packs:
            return F.linear(x, packed, bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        return out


def _onednn_takes(dtype: torch.dtype) -> bool:
    """Private ops of torch 2.11 to 2.13; anything unexpected means the plain linear serves."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(torch.eye(64, dtype=dtype))
        x = torch.ones(1, 64, dtype=dtype)
        out = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        return bool(torch.equal(out, x))
    except (AttributeError, RuntimeError):
        return False
