"""Weights whose columns stand in another order than those of activations."""

import pytest
import torch

from backend.linear.grouped import GroupedWeight
from backend.linear.method import StackedWeight
from backend.linear.registry import create_method
from backend.native import absence, kernels
from backend.quant.column_order import order_columns
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import Stored, quantized_of, randn

CPU, BF16 = torch.device("cpu"), torch.bfloat16
LEVELS = [
    "torch_bf16",
    pytest.param("avx2", marks=pytest.mark.skipif(kernels is None, reason=absence)),
]
Q4_0, Q4_1 = WeightFormat.Q4_0, WeightFormat.Q4_1


def stored(k: int, seed: int, features: int = 32, name: WeightFormat = Q4_1) -> Stored:
    """A weight of k columns in groups of 32 or fewer that lie anywhere."""
    generator = torch.Generator().manual_seed(seed)
    order = order_columns((torch.arange(k) // 32)[torch.randperm(k, generator=generator)])
    assert order is not None
    blocks = quantized_of(name, features, len(order), seed)
    dense = torch.zeros(features, k + 1)
    dense[:, order.long()] = blocks.to_dense()
    return Stored(dense[:, :k].clone(), blocks, order)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("k", [160, 150])  # the last block of 150 is filled up
def test_product_is_that_of_the_columns_where_they_were(level: str, k: int) -> None:
    method = create_method("auto", level, BF16, CPU)
    weight = stored(k, seed=k)
    packed = method.pack(weight)
    order_bytes = 4 * (k + -k % 32)
    assert packed.size_bytes == packed.kernel.size_bytes(packed.data) + order_bytes
    for rows in (1, 3, 9):
        x = randn(rows, k, seed=rows).bfloat16()
        expected = x.float() @ weight.weight.T
        error = (packed.logits(x) - expected).norm() / expected.norm()
        assert float(error) < 0.01, "rows of bf16, or of integers"


@pytest.mark.parametrize("level", LEVELS)
def test_bits_are_those_of_a_weight_in_order(level: str) -> None:
    method = create_method("auto", level, BF16, CPU)
    weight = stored(160, seed=3)
    assert weight.order is not None
    packed, plain = method.pack(weight), method.pack(Stored(weight.weight, weight.quantized))
    x, bias = randn(5, 160).bfloat16(), randn(32, seed=1).bfloat16()
    taken = x[:, weight.order.long()]
    assert torch.equal(packed.apply(x, bias), plain.apply(taken, bias))
    assert torch.equal(packed.logits(x), plain.logits(taken))
    out = torch.zeros(5, 40, dtype=BF16)
    packed.apply_into(x, bias, out[:, 4:36])
    assert torch.equal(out[:, 4:36], plain.apply(taken, bias))
    assert all(map(torch.equal, packed.argmax(x), plain.argmax(taken)))
    assert packed.embeds is False


def test_neighbours_in_one_order_are_one_weight() -> None:
    method = create_method("auto", "torch_bf16", BF16, CPU)
    same = [stored(160, seed=1), stored(160, seed=1, features=16), stored(160, seed=2)]
    assert [part.num_features for part in method.stack(same).parts] == [48, 32]
    dense = create_method("none", "torch_bf16", BF16, CPU).stack(same)
    assert [(part.num_features, part.order) for part in dense.parts] == [(80, None)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("k", [160, 150])
def test_groups_of_rows_have_orders_of_their_own(level: str, k: int) -> None:
    method = create_method("auto", level, BF16, CPU)
    weights = [method.stack([stored(k, seed=seed)]) for seed in range(4)]
    counts = [3, 0, 5, 1]
    x, ends = randn(sum(counts), k).bfloat16(), torch.tensor(counts).cumsum(0)
    grouped = GroupedWeight(weights)
    assert grouped._product is not None
    each = [own.apply(rows) for own, rows in zip(weights, torch.split(x, counts), strict=True)]
    assert torch.equal(grouped.apply(x, ends), torch.cat(each))


def test_groups_of_several_widths_are_multiplied_one_by_one() -> None:
    """As where ranks have columns of each expert: they fill up different numbers of blocks."""
    method = create_method("auto", "torch_bf16", BF16, CPU)
    uneven = torch.tensor([0, 1] * 50 + [1] * 60)
    order = order_columns(uneven)
    assert order is not None
    blocks = quantized_of(Q4_0, 32, len(order))
    wide = Stored(randn(32, 160), blocks, order)
    assert len(order) > 160
    weights = [method.stack([part]) for part in (wide, stored(160, seed=1, name=Q4_0))]
    grouped = GroupedWeight(weights)
    x, ends = randn(5, 160).bfloat16(), torch.tensor([2, 5])
    each = [own.apply(rows) for own, rows in zip(weights, torch.split(x, [2, 3]), strict=True)]
    assert torch.equal(grouped.apply(x, ends), torch.cat(each))


def test_stacks_are_cut_alike() -> None:
    """A gate and what it gates of one format are one weight only where all experts have them so."""
    method = create_method("auto", "torch_bf16", BF16, CPU)

    def pair(*formats: WeightFormat) -> list[Stored]:
        made = [quantized_of(name, 16, 64, seed) for seed, name in enumerate(formats)]
        return [Stored(blocks.to_dense(), blocks) for blocks in made]

    def cuts(stacks: list[StackedWeight]) -> list[list[int]]:
        return [[part.num_features for part in stack.parts] for stack in stacks]

    assert cuts(method.stacks([pair(Q4_0, Q4_0), pair(Q4_1, Q4_1)])) == [[32], [32]]
    assert cuts(method.stacks([pair(Q4_0, Q4_0), pair(Q4_0, Q4_1)])) == [[16, 16], [16, 16]]
