"""Rules of taking 32-bit words apart."""

import numpy as np
import pytest
import torch

from backend.quant.packed_integers import AWQ_ORDER, read_columns, read_rows, read_turned, unpack
from tests.backend.quantized_layouts import AWQ_NIBBLES, pack


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_first_value_is_in_the_lowest_bits(bits: int) -> None:
    words = torch.tensor([[-2023406815, 0x76543210]], dtype=torch.int32)
    expected = [
        (word & 0xFFFFFFFF) >> shift & ((1 << bits) - 1)
        for word in words[0].tolist()
        for shift in range(0, 32, bits)
    ]
    assert unpack(words, bits).tolist() == [expected]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("start", "stop"), [(0, 64), (3, 50), (32, 33), (7, 9), (5, 5)])
def test_part_is_that_of_the_whole(bits: int, start: int, stop: int) -> None:
    values = np.random.default_rng(bits).integers(0, 1 << bits, (6, 64))
    words, part = pack(values, bits), slice(start, stop)
    expected = torch.from_numpy(values[2:5, start:stop]).to(torch.uint8)
    assert torch.equal(read_columns(words, slice(2, 5), part, bits), expected)
    assert torch.equal(read_turned(words, slice(2, 5), part, bits), expected.T)
    assert torch.equal(read_rows(words.T, part, slice(2, 5), bits), expected.T)
    assert torch.equal(read_columns(words, slice(2, 3), part, bits), expected[:1])


def test_awq_has_the_values_of_a_word_in_its_own_order() -> None:
    values = np.random.default_rng(0).integers(0, 16, (3, 24))
    words = pack(values, 4, AWQ_NIBBLES)
    got = read_turned(words, slice(1, 3), slice(5, 21), 4, AWQ_ORDER)
    assert np.array_equal(got.numpy(), values[1:3, 5:21].T)
