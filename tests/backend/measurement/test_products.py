import pytest
import torch

from backend import native
from backend.linear.native import NativeKernel
from backend.measurement import products
from backend.placement.device_profile import MultiplyRate
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat

needs_kernels = pytest.mark.skipif(native.kernels is None, reason="the kernels are not built")


@needs_kernels
@pytest.mark.parametrize("weight_format", [WeightFormat.Q4_1, WeightFormat.DENSE])
def test_weight_elsewhere_is_the_same_weight(weight_format: WeightFormat) -> None:
    kernel = NativeKernel(weight_format, "int8")
    packed = kernel.pack(products.random_weight(weight_format, 64))
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
    """What a call takes beside its arithmetic, an eighth of each, is no part of the rate."""
    monkeypatch.setattr(products, "seconds_of", lambda work, *budget, **limits: 0.5)
    monkeypatch.setattr(products, "_called_s", lambda *of: 1 / 16)
    kernel = NativeKernel(WeightFormat.Q4_1, "int16")
    weight = products.random_weight(WeightFormat.Q4_1, 64)
    rate = products._as_rate(products.speeds_of(kernel, weight, torch.bfloat16))
    most = products.ROWS[-1]
    assert [rows for rows, _ in rate.by_rows] == [*products.ROWS]
    operations = 2 * most * 64 * products.WIDTH * products.PASSES
    assert rate.peak == rate.at(most) == operations / (0.5 - products.PASSES / 16)
    assert rate.at(1) == pytest.approx(rate.peak / most)


@needs_kernels
def test_meeting_is_what_a_small_product_takes_beyond_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 0.25 s a small product and 2 s one of 16 times its size, an eighth is to share out."""
    monkeypatch.setattr(products, "MEETING_BYTES", 1)
    monkeypatch.setattr(products, "seconds_of_each", lambda passes, budget_s: [0.25, 2.0])
    monkeypatch.setattr(native, "set_num_threads", lambda count: None)
    meetings = products.threads_meet(2)
    assert [rows for rows, _ in meetings] == [*products.MEETING_ROWS]
    assert all(seconds == pytest.approx((0.25 - 2 / 16) / (15 / 16)) for _, seconds in meetings)


@needs_kernels
def test_thread_alone_makes_its_share_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {rows: 3e9 if rows < 8 else 1e9 for rows in products.ROWS}
    monkeypatch.setattr(products, "speeds_of", lambda *of: speeds)
    monkeypatch.setattr(native, "set_num_threads", lambda count: None)
    shares = products.thread_shares(2, {"mixed:q4_1": MultiplyRate(4e9)})
    assert shares == tuple((rows, 0.75 if rows < 8 else 0.5) for rows in products.ROWS)
