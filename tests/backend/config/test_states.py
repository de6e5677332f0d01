"""What a sequence keeps of fixed size, and how often it is kept for others."""

from backend.config.spec import ShortConv
from backend.config.states import num_bytes, num_units, snapshot_interval, state_shapes


def test_convolution_keeps_the_inputs_behind_a_token() -> None:
    conv = ShortConv(2048, 3)
    assert num_units(conv) == 2048
    assert state_shapes(conv, 700) == (("conv", (2, 700)),)
    assert num_bytes(state_shapes(conv, 700)) == 2 * 700 * 4
    assert state_shapes(None, 0) == ()


def test_snapshot_takes_no_more_than_the_keys_it_goes_with() -> None:
    assert snapshot_interval(100_000, 12_288, 32) == 512, "not oftener, however small"
    assert snapshot_interval(19_000_000, 12_288, 32) == 1568
    assert snapshot_interval(19_000_000, 0, 48) == 528, "whole blocks, and no keys to go with"
