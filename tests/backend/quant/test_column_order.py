"""Rules of columns whose groups are brought together."""

import pytest
import torch
from torch import Tensor

from backend.quant.column_order import order_columns, shared_columns
from backend.quant.scaled_groups import ScaledGroups
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import randn


def groups_of(k: int, size: int, seed: int = 0) -> Tensor:
    """Groups of so many columns each, which lie anywhere."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.arange(k) // size)[torch.randperm(k, generator=generator)]


@pytest.mark.parametrize(("k", "size"), [(256, 32), (256, 128), (96, 96), (80, 32), (100, 7)])
def test_each_column_has_one_place_in_a_block_of_its_group(k: int, size: int) -> None:
    groups = groups_of(k, size)
    if size >= k:
        assert order_columns(groups) is None, "one group is always together"
        return
    order = order_columns(groups)
    assert order is not None
    assert order.dtype is torch.int32 and len(order) % 32 == 0
    assert sorted(order[order < k].tolist()) == list(range(k))
    for block in order.view(-1, 32):
        assert block[0] < k
        assert len(set(groups[block[block < k].long()].tolist())) == 1
    assert len(order) % shared_columns(groups) == 0


def test_columns_of_a_group_stay_in_their_order() -> None:
    order = order_columns(torch.tensor([1, 0, 1, 0, 1]))
    assert order is not None
    assert order[:2].tolist() == [1, 3] and order[32:35].tolist() == [0, 2, 4]
    assert bool((order[2:32] == 5).all()) and bool((order[35:] == 5).all())


def test_groups_that_follow_each_other_have_no_order() -> None:
    assert order_columns(torch.arange(256) // 64) is None
    assert order_columns(torch.arange(128) // 64 * 3) is None, "some groups may have no column"
    assert shared_columns(torch.arange(256) // 64) == 64


def test_columns_of_a_cut_fill_blocks_up() -> None:
    """Half the columns of groups of 64, 32 of each or so: two blocks, mostly."""
    groups = groups_of(1024, 64)[:512]
    order = order_columns(groups)
    assert order is not None
    assert 512 < len(order) <= 1024
    assert len(order) == int((-(-torch.bincount(groups) // 32) * 32).sum())


@pytest.mark.parametrize("weight_format", [WeightFormat.Q4_0, WeightFormat.Q8_0])
@pytest.mark.parametrize("part", [slice(None), slice(17, 90)])
def test_blocks_in_that_order_are_the_weight(weight_format: WeightFormat, part: slice) -> None:
    groups = groups_of(160, 32)[part]
    values = torch.arange(24 * len(groups)).view(24, -1).mul(7).remainder(16).to(torch.uint8)
    scales = randn(24, 5).half().float()
    middle = 8 if weight_format is WeightFormat.Q4_0 else 128
    weight = ScaledGroups(values, scales, torch.full_like(scales, middle), groups)
    order = order_columns(groups)
    assert order is not None
    blocks = weight.in_order(order).to_blocks(weight_format).to_dense()
    found = torch.zeros(24, len(groups) + 1)
    found[:, order.long()] = blocks
    assert torch.equal(found[:, :-1], weight.to_dense())
