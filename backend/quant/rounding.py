"""Dense weights rounded to few bits, where the operator asks for it: blocks of Q4_1 and Q8_0.

The values are the nearest to the scale as float16 has it, which ggml's own rounding does not
look at.
"""

import torch
from torch import Tensor

from backend.quant.quantized_weight import QuantizedWeight, weight_of_fields
from backend.quant.weight_format import WeightFormat

BLOCK = 32
MAX_INT4 = 15
MAX_INT8 = 127


def quantize_int4(weight: Tensor) -> QuantizedWeight:
    """Round a weight [N, K], K a multiple of BLOCK, to Q4_1: each block's range on 0..15."""
    grouped = weight.float().view(len(weight), -1, BLOCK)
    mins, maxs = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    scales, mins = ((maxs - mins) / MAX_INT4).half(), mins.half()
    steps = torch.where(scales > 0, scales.float(), 1)
    values = ((grouped - mins.float()) / steps).round_().clamp_(0, MAX_INT4).to(torch.uint8)
    # The first half of a block is in the low nibbles.
    low, high = values.chunk(2, dim=-1)
    return weight_of_fields(WeightFormat.Q4_1, scales, mins, low | high << 4)


def quantize_int8(weight: Tensor) -> QuantizedWeight:
    """Round a weight [N, K], K a multiple of BLOCK, to Q8_0."""
    grouped = weight.float().view(len(weight), -1, BLOCK)
    scales = (grouped.abs().amax(-1, keepdim=True) / MAX_INT8).half()
    steps = torch.where(scales > 0, scales.float(), 1)
    values = (grouped / steps).round_().clamp_(-MAX_INT8, MAX_INT8).to(torch.int8)
    return weight_of_fields(WeightFormat.Q8_0, scales, values)
