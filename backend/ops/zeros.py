"""Large tensors of zeros, of which memory is taken as it is touched."""

import math

import numpy as np
import torch
from torch import Tensor

# They begin where a page does: no vector of the kernels' lies in two cache lines.
PAGE_BYTES = 4096


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # calloc: pages that no sequence has touched take no memory. torch.zeros touches them all.
    size = math.prod(shape) * dtype.itemsize
    raw = np.zeros(size + PAGE_BYTES, np.uint8)
    start = -raw.ctypes.data % PAGE_BYTES
    return torch.from_numpy(raw[start : start + size]).view(dtype).view(shape)
