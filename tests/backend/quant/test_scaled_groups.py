"""Rules of values with scales: what they stand for, and which of ggml's blocks say the same."""

import pytest
import torch
from torch import Tensor

from backend.quant import scaled_groups
from backend.quant.scaled_groups import ScaledGroups, fits_half
from backend.quant.weight_format import WeightFormat


def random_groups(bits: int, *, size: int = 64, centred: bool = True) -> ScaledGroups:
    generator = torch.Generator().manual_seed(bits)
    values = torch.randint(0, 1 << bits, (37, 128), generator=generator).to(torch.uint8)
    scales = (0.01 + torch.rand(37, 128 // size, generator=generator)).half().float()
    zeros = torch.full_like(scales, 1 << (bits - 1))
    if not centred:
        zeros = torch.randint(0, 1 << bits, scales.shape, generator=generator).float()
    return ScaledGroups(values, scales, zeros, torch.arange(128) // size)


def test_weight_is_scale_times_steps_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    # so small that several chunks of rows are made
    monkeypatch.setattr(scaled_groups, "_CHUNK", 1024)
    groups = random_groups(4, centred=False)
    dense = groups.to_dense()
    for n, k in [(0, 0), (5, 63), (17, 64), (36, 127)]:
        group = k // 64
        steps = int(groups.values[n, k]) - int(groups.zeros[n, group])
        assert float(dense[n, k]) == steps * float(groups.scales[n, group])


@pytest.mark.parametrize(
    ("bits", "weight_format"),
    [(2, WeightFormat.Q4_0), (4, WeightFormat.Q4_0), (8, WeightFormat.Q8_0)],
)
def test_centred_values_are_the_same_in_blocks(bits: int, weight_format: WeightFormat) -> None:
    groups = random_groups(bits)
    assert torch.equal(groups.to_blocks(weight_format).to_dense(), groups.to_dense())


def test_signed_values_are_the_same_in_blocks() -> None:
    values = torch.arange(-128, 128).to(torch.int8).repeat(2, 1)
    groups = ScaledGroups(
        values, torch.tensor([[0.5], [0.25]]), torch.zeros(2, 1), torch.zeros(256).long()
    )
    assert torch.equal(groups.to_blocks(WeightFormat.Q8_0).to_dense(), groups.to_dense())


@pytest.mark.parametrize("bits", [2, 4])
def test_minimum_of_a_block_is_rounded(bits: int) -> None:
    """At most 15 scales, to half a step of float16's 11 bits: 0.0073 scales."""
    groups = random_groups(bits, centred=False)
    error = (groups.to_blocks(WeightFormat.Q4_1).to_dense() - groups.to_dense()).abs()
    mins = (groups.scales * groups.zeros)[:, groups.groups]
    # The sum of a product and the minimum is rounded to float32 as well.
    assert bool((error <= mins * 2.0**-11 + 1e-6).all())
    assert bool((error <= groups.scales[:, groups.groups] * 0.0074).all())


def test_no_other_blocks_are_made() -> None:
    with pytest.raises(ValueError, match="do not become q6_k"):
        random_groups(4).to_blocks(WeightFormat.Q6_K)


@pytest.mark.parametrize(
    ("scales", "fits"),
    [
        (torch.tensor([0.0, 1e-4, 65504.0]), True),
        (torch.tensor([70000.0]), False),
        (torch.tensor([1.0, 3e-8]), False),
        (torch.tensor([2.0**-17 * 1.9921875]).bfloat16(), True),
        (torch.tensor([2.0**-22 * 1.9921875]).bfloat16(), False),
        (torch.tensor([2.0**-24]).half(), True),
    ],
)
def test_scales_fit_where_float16_has_eleven_bits_of_them(scales: Tensor, fits: bool) -> None:
    assert fits_half(scales) is fits
