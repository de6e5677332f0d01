"""Dense weights rounded to few bits, where the operator asks for it: blocks of Q4_1 and Q8_0.

The values are the nearest to the scale as float16 has it, which ggml's own rounding does not
look at. Rounded is where the caller says, a GPU or the host, with the same bits, some rows at a
time: what is made on the way is a few times what it is made of.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from backend.quant.quantized_weight import QuantizedWeight, concatenate, weight_of_fields
from backend.quant.weight_format import WeightFormat

BLOCK = 32
MAX_INT4 = 15
MAX_INT8 = 127
# Values that are rounded at a time.
PIECE = 1 << 22
CPU = torch.device("cpu")


def quantize_int4(weight: Tensor, device: torch.device = CPU) -> QuantizedWeight:
    """Round a weight [N, K], K a multiple of BLOCK, to Q4_1: each block's range on 0..15.

    device: that computes.
    """
    return _in_pieces(weight, device, _to_int4)


def quantize_int8(weight: Tensor, device: torch.device = CPU) -> QuantizedWeight:
    """Round a weight [N, K], K a multiple of BLOCK, to Q8_0. device: that computes."""
    return _in_pieces(weight, device, _to_int8)


def _in_pieces(
    weight: Tensor, device: torch.device, rounded: Callable[[Tensor], QuantizedWeight]
) -> QuantizedWeight:
    rows = max(1, PIECE // weight.shape[1])
    pieces = [weight[first : first + rows] for first in range(0, len(weight), rows)]
    return concatenate([rounded(piece.to(device)) for piece in pieces])


def _to_int4(weight: Tensor) -> QuantizedWeight:
    grouped = weight.float().view(len(weight), -1, BLOCK)
    mins, maxs = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    scales, mins = ((maxs - mins) / MAX_INT4).half(), mins.half()
    steps = torch.where(scales > 0, scales.float(), 1)
    values = ((grouped - mins.float()) / steps).round_().clamp_(0, MAX_INT4).to(torch.uint8)
    # The first half of a block is in the low nibbles.
    low, high = values.chunk(2, dim=-1)
    return weight_of_fields(WeightFormat.Q4_1, scales, mins, low | high << 4)


def _to_int8(weight: Tensor) -> QuantizedWeight:
    grouped = weight.float().view(len(weight), -1, BLOCK)
    scales = (grouped.abs().amax(-1, keepdim=True) / MAX_INT8).half()
    steps = torch.where(scales > 0, scales.float(), 1)
    values = (grouped / steps).round_().clamp_(-MAX_INT8, MAX_INT8).to(torch.int8)
    return weight_of_fields(WeightFormat.Q8_0, scales, values)
