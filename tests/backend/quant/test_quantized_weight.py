"""Weights in groups of few bits: how they are rounded, and stacked."""

import torch

from backend.quant.quantized_weight import (
    GROUP_SIZE,
    MAX_VALUE,
    QuantizedWeight,
    concatenate,
    quantize,
    quantize_int8,
)


def test_rounding_is_to_the_nearest_value_of_a_group() -> None:
    weight = torch.randn(16, 4 * GROUP_SIZE, generator=torch.Generator().manual_seed(0))
    weight[3, :GROUP_SIZE] = 0.25  # a group without a range
    groups = quantize(weight)
    assert int(groups.values.max()) == MAX_VALUE and int(groups.values.min()) == 0
    error = (groups.to_dense() - weight).abs().view(16, 4, GROUP_SIZE)
    # Scales and mins are float16: 2^-12 of them, and of scales 15 times as much.
    mins = groups.mins
    assert mins is not None
    bound = groups.scales * (0.5 + 15 * 2**-12) + mins.abs() * 2**-12 + 1e-6
    assert bool((error <= bound[..., None]).all())
    for factors in (groups.scales, mins):
        assert torch.equal(factors.half().float(), factors)
    both = concatenate([groups, groups])
    assert both is not None
    assert torch.equal(both.to_dense(), torch.cat([groups.to_dense()] * 2))


def test_rounding_to_8_bits_leaves_half_a_step() -> None:
    weight = torch.randn(16, 4 * GROUP_SIZE, generator=torch.Generator().manual_seed(0))
    weight[3, :GROUP_SIZE] = 0
    groups = quantize_int8(weight)
    error = (groups.to_dense() - weight).abs().view(16, 4, GROUP_SIZE)
    # Scales are float16: 2^-12 of 127 steps.
    bound = groups.scales * (0.5 + 127 * 2**-12)
    assert bool((error <= bound[..., None]).all())


def test_groups_of_different_bits_are_not_stacked() -> None:
    four = quantize(torch.randn(16, GROUP_SIZE, generator=torch.Generator().manual_seed(0)))
    eight = QuantizedWeight(torch.zeros(16, GROUP_SIZE, dtype=torch.int8), four.scales, None)
    assert concatenate([four, eight]) is None
