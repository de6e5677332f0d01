"""e4m3 by shifts and masks is PyTorch's."""

import pytest
import torch
import triton
import triton.language as tl

from backend.ops.triton.fp8 import from_fp8, to_fp8

pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@triton.jit
def _read(bits, out, BLOCK: tl.constexpr):
    places = tl.arange(0, BLOCK)
    tl.store(out + places, from_fp8(tl.load(bits + places)))


@triton.jit
def _write(x, out, BLOCK: tl.constexpr):
    places = tl.arange(0, BLOCK)
    tl.store(out + places, to_fp8(tl.load(x + places)))


def test_all_bits_stand_for_the_same_numbers() -> None:
    bits, out = torch.arange(256).to(torch.uint8).to(DEVICE), torch.empty(256, device=DEVICE)
    _read[(1,)](bits, out, BLOCK=256)
    expected = bits.view(torch.float8_e4m3fn).float()
    is_number = ~expected.isnan()
    assert is_number.sum() == 254
    assert torch.equal(out[is_number], expected[is_number])


def test_numbers_are_rounded_to_the_nearest() -> None:
    """Of all sizes, subnormals among them, and all halves between two."""
    steps = torch.arange(126).to(torch.uint8).view(torch.float8_e4m3fn).float()
    halves = (steps[1:] + steps[:-1]) / 2
    sizes = torch.randn(1024 - 4 * 125, generator=torch.Generator().manual_seed(0)).exp2() ** 3
    x = torch.cat((halves, -halves, halves * 1.001, halves * 0.999, sizes)).clamp(-448, 448)
    out = torch.empty(1024, dtype=torch.uint8, device=DEVICE)
    _write[(1,)](x.to(DEVICE), out, BLOCK=1024)
    assert torch.equal(
        out.cpu().view(torch.float8_e4m3fn).float(), x.to(torch.float8_e4m3fn).float()
    )
