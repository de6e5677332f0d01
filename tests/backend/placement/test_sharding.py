"""Who holds which part of the model."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.config.errors import ModelError
from backend.placement.sharding import VOCAB_UNIT, split_model, split_vocab
from tests.backend.factories import tiny_config

SMOLLM2: dict[str, Any] = dict(
    num_heads=9, num_kv_heads=3, head_dim=64, hidden_size=576, intermediate_size=1536,
    vocab_size=49152,
)  # fmt: skip


@given(
    kv_heads=st.integers(1, 8),
    group=st.integers(1, 4),
    units=st.integers(8, 60),
    vocab=st.integers(300, 2000),
    data=st.data(),
)
def test_split_model_covers_everything_once(
    kv_heads: int, group: int, units: int, vocab: int, data: st.DataObject
) -> None:
    tp = data.draw(st.integers(1, kv_heads))
    config = tiny_config(
        num_heads=kv_heads * group, num_kv_heads=kv_heads, intermediate_size=units * 32,
        vocab_size=vocab,
    )  # fmt: skip
    shards = split_model(config, tp)
    for name, total in [("heads", kv_heads * group), ("kv_heads", kv_heads),
                        ("intermediate", units * 32), ("vocab", vocab)]:  # fmt: skip
        parts = [getattr(shard, name) for shard in shards]
        assert parts[0].start == 0 and parts[-1].stop == total
        assert all(a.stop == b.start for a, b in itertools.pairwise(parts))
        assert all(part.stop > part.start for part in parts)
    for shard in shards:
        assert shard.num_heads == group * shard.num_kv_heads
        assert shard.intermediate.start % 32 == 0


def test_split_model_evens_out_three_kv_heads_in_the_mlp() -> None:
    first, second = split_model(tiny_config(**SMOLLM2), 2)
    assert (first.num_heads, second.num_heads) == (6, 3)

    def weights(heads: int, kv: int, columns: slice) -> int:
        return 64 * (2 * heads + 2 * kv) + 3 * len(range(1536)[columns])

    a = weights(6, 2, first.intermediate)
    b = weights(3, 1, second.intermediate)
    assert abs(a - b) <= 3 * 32


@pytest.mark.parametrize(
    ("columns", "tp", "unit"),
    [
        (1536, 1, 256),
        (1536, 3, 256),
        (1536 + 32, 3, 32),  # not in whole units of 256
        (512, 3, 32),  # not enough of them
        (1537, 3, 1),
    ],
)
def test_split_model_cuts_the_mlp_at_blocks_where_it_can(columns: int, tp: int, unit: int) -> None:
    config = tiny_config(**SMOLLM2 | {"intermediate_size": columns})
    parts = [shard.intermediate for shard in split_model(config, tp, 256)]
    assert [i for part in parts for i in range(columns)[part]] == list(range(columns))
    assert all(part.start % unit == 0 and part.start < part.stop for part in parts)


def test_split_model_refuses_more_ranks_than_kv_heads() -> None:
    with pytest.raises(ModelError, match=r"--tp 4 .* 3 KV heads, so use 1 to 3"):
        split_model(tiny_config(**SMOLLM2), 4)


@pytest.mark.parametrize(("size", "tp"), [(49152, 3), (1000, 4), (100, 3), (5, 3)])
def test_split_vocab_cuts_between_units_where_there_are_enough(size: int, tp: int) -> None:
    parts = split_vocab(size, tp)
    assert [i for part in parts for i in range(size)[part]] == list(range(size))
    assert all(part.stop > part.start for part in parts)
    if size > tp * VOCAB_UNIT:
        assert all(part.stop % VOCAB_UNIT == 0 for part in parts[:-1])
