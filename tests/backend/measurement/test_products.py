import pytest
import torch

from backend import native
from backend.linear.native import NativeKernel
from backend.measurement import products
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat

needs_kernels = pytest.mark.skipif(native.kernels is None, reason="the kernels are not built")


@needs_kernels
@pytest.mark.parametrize("weight_format", [WeightFormat.Q4_1, WeightFormat.DENSE])
def test_weight_elsewhere_is_the_same_weight(weight_format: WeightFormat) -> None:
    kernel = NativeKernel(weight_format, "int8")
    packed = kernel.pack(products._random_weight(weight_format, 1))
    x = torch.randn(3, products.WIDTH).bfloat16()
    elsewhere = products._at(packed, packed.data.clone())
    assert torch.equal(kernel.apply(x, packed, None), kernel.apply(x, elsewhere, None))


def test_measured_formats_are_multiplied_in_blocks_or_dense() -> None:
    assert {*products.FORMATS} <= {*BLOCK_FORMATS, WeightFormat.DENSE}
    assert products.USUAL_FORMAT in products.FORMATS


@needs_kernels
def test_rate_has_each_number_of_rows_and_its_best_is_the_peak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(products, "seconds_of", lambda work, **limits: 0.5)
    kernel = NativeKernel(WeightFormat.Q4_1, "int16")
    weight = products._random_weight(WeightFormat.Q4_1, 1)
    rate = products._as_rate(products._speeds(kernel, weight, torch.bfloat16))
    most = products.ROWS[-1]
    assert [rows for rows, _ in rate.by_rows] == [*products.ROWS]
    operations = 2 * most * products.FEATURES_A_THREAD * products.WIDTH * products.PASSES
    assert rate.peak == rate.at(most) == operations / 0.5
    assert rate.at(1) == pytest.approx(rate.peak / most)
