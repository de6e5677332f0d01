"""Heads of delta nets over ranks: all of them, once, each beside its key head."""

import pytest

from backend.config.errors import ModelError
from backend.config.spec import DeltaNet
from backend.placement.delta_heads import key_heads_of, split_value_heads


def delta(num_keys: int, num_values: int, *, is_interleaved: bool = False) -> DeltaNet:
    return DeltaNet(num_keys, num_values, 128, 128, 4, 1e-6, True, is_interleaved)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "heads", [delta(16, 16), delta(16, 32), delta(16, 32, is_interleaved=True)]
)
def test_every_value_head_is_one_ranks(heads: DeltaNet, num_ranks: int) -> None:
    parts = split_value_heads(heads, num_ranks, 32)
    assert [head for part in parts for head in range(part.start, part.stop)] == [
        *range(heads.num_value_heads)
    ]
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= heads.values_per_key


def test_neighbours_have_their_key_heads_alone() -> None:
    parts = split_value_heads(delta(16, 32), 3, 32)
    assert parts == [slice(0, 10), slice(10, 20), slice(20, 32)]
    keys = [key_heads_of(delta(16, 32), part) for part in parts]
    assert keys == [slice(0, 5), slice(5, 10), slice(10, 16)]


def test_value_heads_that_lie_apart_need_all_key_heads() -> None:
    heads = delta(16, 32, is_interleaved=True)
    assert [key_heads_of(heads, part) for part in split_value_heads(heads, 2, 32)] == [
        slice(0, 16)
    ] * 2
    # As many of one as of the other: none lies apart.
    assert key_heads_of(delta(16, 16, is_interleaved=True), slice(4, 8)) == slice(4, 8)


def test_columns_that_are_quantised_together_stay_together() -> None:
    parts = split_value_heads(delta(15, 15), 2, 256)
    assert parts == [slice(0, 7), slice(7, 15)]  # 15 heads are no whole number of blocks
    parts = split_value_heads(delta(18, 18), 2, 256)
    assert parts == [slice(0, 8), slice(8, 18)]


def test_more_ranks_than_key_heads_are_refused() -> None:
    with pytest.raises(ModelError, match="--tp 3 is more than 2 key heads and 4 value heads"):
        split_value_heads(delta(2, 4), 3, 32)
    assert len(split_value_heads(delta(2, 4, is_interleaved=True), 3, 32)) == 3
