"""ggml's blocks, uploaded as they are and turned into planes on the device.

Nothing is rounded: each field of a block is copied, the 6-bit scales of k-quants into 8 bits.
Where neighbouring groups have the same scale and minimum, as those of 64 or 128 columns that AWQ,
GPTQ and compressed-tensors write have once they are blocks of 32, it is kept once for all of them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from backend.quant.planes import GROUP, MOST_SPAN, PLANES, PlaneFormat, PlanePlaces, places_of
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat

# Columns of a weight that are taken apart at a time, over all of its rows: the temporaries of a
# byte a value, and a few copies of them, stay small beside the weight.
_CHUNK_VALUES = 1 << 24


class PackedPlanes(NamedTuple):
    """A weight [num_features, width] in planes. data: uint8; span: groups that share a scale."""

    data: Tensor
    num_features: int
    width: int
    span: int
    places: PlanePlaces


class _Fields(NamedTuple):
    """What blocks hold, each [N, groups, ..].

    values: uint8 [.., 32]. scales, mins: uint8 [.., bytes of one]; supers: uint8 [N, K / 256, ..].
    """

    values: Tensor
    scales: Tensor
    mins: Tensor | None = None
    supers: Tensor | None = None


def repack(weight: QuantizedWeight, device: torch.device) -> PackedPlanes:
    """Return a weight in planes, on the device."""
    planes, (n, k) = PLANES[weight.format], weight.shape
    span = _shared_groups(weight) if planes.scales in ("half", "float") else 1
    places = places_of(planes, n, k, span)
    data = torch.zeros(places.size, dtype=torch.uint8, device=device)
    rows = max(1, _CHUNK_VALUES // k)
    block_bytes = weight.format.block_bytes
    for start in range(0, n, rows):
        host = torch.from_numpy(weight.blocks[start : start + rows].copy())
        blocks = host.to(device).view(len(host), -1, block_bytes)
        fields = _FIELDS[weight.format](blocks)
        _fill(data, places, planes, fields, slice(start, start + len(host)), n, span)
    return PackedPlanes(data, n, k, span, places)


def _fill(
    data: Tensor,
    places: PlanePlaces,
    planes: PlaneFormat,
    fields: _Fields,
    rows: slice,
    n: int,
    span: int,
) -> None:
    groups = fields.values.shape[1]
    shared = -(-groups // span)
    parts: list[tuple[int, int, Tensor]] = [(0, groups, _words(fields.values, planes))]
    if planes.values == "uint5":
        parts.append((places.high, groups, _bits(fields.values >> 4, 1)))
    if planes.values == "uint6":
        # [N, G, 8 (value), 2 (word), 2 (half of it)] -> by word, half and value
        high = (fields.values >> 4).view(len(fields.values), groups, 8, 2, 2)
        parts.append((places.high, groups, _bits(high.permute(0, 1, 3, 4, 2).flatten(2), 2)))
    parts.append((places.scales, shared, fields.scales[:, ::span]))
    if fields.mins is not None:
        parts.append((places.mins, shared, fields.mins[:, ::span]))
    if fields.supers is not None:
        parts.append((places.supers, fields.supers.shape[1], fields.supers))
    for place, length, field in parts:
        size = field.shape[2]
        plane = data[place : place + n * length * size].view(length, n, size)
        plane[:, rows] = field.transpose(0, 1)


def _words(values: Tensor, planes: PlaneFormat) -> Tensor:
    """Return the bytes of the words that hold values, [N, G, 32] -> [N, G, 16 or 32]."""
    n, groups, _ = values.shape
    if planes.value_bytes == GROUP:
        # [N, G, 4 (value of a word), 8 (word)] -> by word
        return values.view(n, groups, 4, 8).transpose(2, 3).flatten(2)
    # [N, G, 4 (byte of a word), 2 (its halves), 4 (word)] -> by word and byte
    low, high = (values & 15).view(n, groups, 4, 2, 4).unbind(3)
    packed: Tensor = low | high << 4
    return packed.transpose(2, 3).flatten(2)


def _bits(values: Tensor, bits: int) -> Tensor:
    """Put values of a few bits side by side, the first lowest: [.., 32] -> [.., 32 * bits / 8]."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=values.device)
    packed: Tensor = values.unflatten(-1, (-1, 8 // bits)) << shifts
    return packed.sum(-1, dtype=torch.uint8)


def _shared_groups(weight: QuantizedWeight) -> int:
    """Return how many groups in a row always have one scale and minimum, a power of two."""
    size = weight.format.block_bytes
    planes = PLANES[weight.format]
    factors = planes.scale_bytes + planes.min_bytes
    blocks = weight.blocks.reshape(len(weight.blocks), -1, size)[..., :factors]
    span, groups = 1, blocks.shape[1]
    while span < MOST_SPAN and groups % (2 * span) == 0:
        firsts = blocks[:, :: 2 * span]
        # Most weights end here, at the first features.
        if (firsts[:8] != blocks[:8, span :: 2 * span]).any():
            break
        if (firsts != blocks[:, span :: 2 * span]).any():
            break
        span *= 2
    return span


def _nibbles(packed: Tensor) -> Tensor:
    """The low halves of bytes, then the high ones: [.., n] -> [.., 2 n]."""
    return torch.cat((packed & 15, packed >> 4), -1)


def _q4_0(blocks: Tensor) -> _Fields:
    return _Fields(_nibbles(blocks[..., 2:]), blocks[..., :2])


def _q4_1(blocks: Tensor) -> _Fields:
    return _Fields(_nibbles(blocks[..., 4:]), blocks[..., :2], blocks[..., 2:4])


def _fifth_bits(packed: Tensor) -> Tensor:
    """[.., 4] -> [.., 32], 16 or 0."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits: Tensor = (packed[..., None] >> shifts & 1) << 4
    return bits.flatten(-2)


def _q5_0(blocks: Tensor) -> _Fields:
    values = _nibbles(blocks[..., 6:]) | _fifth_bits(blocks[..., 2:6])
    return _Fields(values, blocks[..., :2])


def _q5_1(blocks: Tensor) -> _Fields:
    values = _nibbles(blocks[..., 8:]) | _fifth_bits(blocks[..., 4:8])
    return _Fields(values, blocks[..., :2], blocks[..., 2:4])


def _q8_0(blocks: Tensor) -> _Fields:
    return _Fields(blocks[..., 2:] ^ 128, blocks[..., :2])


def _q8_mins(blocks: Tensor) -> _Fields:
    return _Fields(blocks[..., 4:] ^ 128, blocks[..., :2], blocks[..., 2:4])


def _mxfp4(blocks: Tensor) -> _Fields:
    return _Fields(_nibbles(blocks[..., 1:]), blocks[..., :1])


def _fp8(blocks: Tensor) -> _Fields:
    return _Fields(blocks[..., 4:], blocks[..., :4])


def _k_runs(packed: Tensor) -> Tensor:
    """Runs of 32 bytes hold two groups each: [N, S, 128] -> [N, 8 S, 32]."""
    runs: Tensor = packed.unflatten(-1, (4, 32))
    return _nibbles(runs).view(len(packed), -1, GROUP)


def _k_scales(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and minimums of 6 bits, of eight groups: [N, S, 12] -> twice [N, 8 S, 1]."""
    first, second, third = packed.unflatten(-1, (3, 4)).unbind(2)
    scales = torch.cat((first & 63, third & 15 | first >> 6 << 4), -1)
    mins = torch.cat((second & 63, third >> 4 | second >> 6 << 4), -1)
    return scales.flatten(1)[..., None], mins.flatten(1)[..., None]


def _q4_k(blocks: Tensor) -> _Fields:
    return _Fields(_k_runs(blocks[..., 16:]), *_k_scales(blocks[..., 4:16]), blocks[..., :4])


def _q5_k(blocks: Tensor) -> _Fields:
    # Bit g of byte c is that of column c of group g.
    places = torch.arange(8, dtype=torch.uint8, device=blocks.device)[:, None]
    high = (blocks[..., None, 16:48] >> places & 1) << 4
    values = _k_runs(blocks[..., 48:]) | high.flatten(1).unflatten(1, (-1, GROUP))
    return _Fields(values, *_k_scales(blocks[..., 4:16]), blocks[..., :4])


def _q6_k(blocks: Tensor) -> _Fields:
    low = _nibbles(blocks[..., :128].unflatten(-1, (2, 64)))  # [N, S, 2 (half), 128]
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=blocks.device)[:, None]
    packed = blocks[..., 128:192].unflatten(-1, (2, 1, 32))  # [N, S, 2 (half), 1, 32]
    high = (packed >> shifts & 3).flatten(-2) << 4
    values = (low | high).flatten(1).unflatten(1, (-1, GROUP))
    scales = blocks[..., 192:208].unflatten(-1, (8, 2)).flatten(1, 2)
    return _Fields(values, scales, supers=blocks[..., 208:])


_FIELDS = {
    WeightFormat.Q4_0: _q4_0,
    WeightFormat.Q4_1: _q4_1,
    WeightFormat.Q5_0: _q5_0,
    WeightFormat.Q5_1: _q5_1,
    WeightFormat.Q8_0: _q8_0,
    WeightFormat.Q4_K: _q4_k,
    WeightFormat.Q5_K: _q5_k,
    WeightFormat.Q6_K: _q6_k,
    WeightFormat.IQ4_NL: _q4_0,
    WeightFormat.MXFP4: _mxfp4,
    WeightFormat.FP8: _fp8,
    WeightFormat.Q8_MINS: _q8_mins,
}
