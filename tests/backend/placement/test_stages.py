"""Layers are cut by bytes; what cannot be cut is refused in the operator's words."""

import itertools
import random

import msgspec
import pytest

from backend.config.cache_groups import CacheGroup, staged_cache_groups
from backend.config.errors import ModelError
from backend.config.spec import Attention, PerLayerInput
from backend.config.tensors import tensors_of
from backend.placement.footprint import each_tensor, layer_sizes
from backend.placement.stages import LayerSizes, Stage, check_stages, cut_layers
from backend.quant.kept_weights import BlockColumns
from backend.quant.weight_format import WeightFormat
from tests.backend.factories import tiny_config


class _Dense:
    def weight_format(self, name: str, cols: slice = slice(None)) -> WeightFormat:
        return WeightFormat.Q8_0 if "mlp" in name else WeightFormat.DENSE

    def stored_type(self, name: str) -> str:
        return "BF16"

    def block_columns(self, name: str, cols: slice = slice(None)) -> BlockColumns:
        return BlockColumns()


def cut(sizes: list[int], pp: int, before: int = 0, after: int = 0) -> list[int]:
    config = tiny_config(num_layers=len(sizes))
    return [len(layers) for layers in cut_layers(config, pp, LayerSizes(sizes, before, after))]


def test_layers_alike_are_shared_out_evenly() -> None:
    assert cut([5] * 6, 2) == [3, 3]
    assert cut([5] * 6, 1) == [6]
    assert cut([5] * 6, 6) == [1] * 6


def test_embedding_and_head_count_as_layers_do() -> None:
    assert cut([5] * 6, 2, before=10, after=10) == [3, 3]
    assert cut([5] * 6, 2, after=20) == [5, 1]
    assert cut([5] * 6, 3, before=5) == [1, 2, 3] or cut([5] * 6, 3, before=5) == [2, 2, 2]


def test_largest_stage_is_as_small_as_can_be() -> None:
    chance = random.Random(3)
    for _ in range(50):
        sizes = [chance.randint(1, 9) for _ in range(7)]
        pp = chance.randint(2, 5)
        counts = cut(sizes, pp)
        assert sum(counts) == 7 and min(counts) >= 1
        ends = [0, *itertools.accumulate(counts)]
        largest = max(sum(sizes[a:b]) for a, b in itertools.pairwise(ends))
        every = (
            max(sum(sizes[a:b]) for a, b in itertools.pairwise((0, *inner, 7)))
            for inner in itertools.combinations(range(1, 7), pp - 1)
        )
        assert largest == min(every)


def test_every_tensor_is_some_stage_s_and_a_tied_table_two_s() -> None:
    for is_tied in (True, False):
        config = tiny_config(num_layers=3, tie_word_embeddings=is_tied)
        sizes = layer_sizes(_Dense(), config, each_tensor(config))
        stages = [Stage(index, cut_layers(config, 3, sizes)) for index in range(3)]
        for name in tensors_of(config):
            owners = [stage.index for stage in stages if stage.has(name, is_tied=is_tied)]
            assert owners == ([0, 2] if is_tied and "embed_tokens" in name else owners[:1])
            assert owners


def test_sizes_are_what_the_file_has() -> None:
    config = tiny_config(num_layers=2, tie_word_embeddings=True)
    sizes = layer_sizes(_Dense(), config, each_tensor(config))
    attention = 2 * (64 * 64 + 2 * 32 * 64 + 64 * 64)
    norms, mlp = 2 * 2 * 64, 3 * 160 * 64 * 34 // 32
    assert list(sizes.layers) == [attention + norms + mlp] * 2
    assert (sizes.before, sizes.after) == (2 * 320 * 64, 2 * 320 * 64 + 2 * 64)


def test_stage_says_what_it_has() -> None:
    cuts = (range(0, 1), range(1, 4))
    assert str(Stage(0, cuts)) == "stage 0: the embedding, layer 0"
    assert str(Stage(1, cuts)) == "stage 1: layers 1 to 3, the head"


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(ModelError, match="--pp 3 is more stages than tiny has layers: use 1 to 2"):
        check_stages(tiny_config(num_layers=2), 3)


def test_layers_that_share_keys_are_refused() -> None:
    config = tiny_config(num_layers=2)
    layers = list(config.spec.layers)
    attention = layers[1].attention
    assert isinstance(attention, Attention)
    shared = msgspec.structs.replace(attention, shares_kv_of=0)
    layers[1] = msgspec.structs.replace(layers[1], attention=shared)
    spec = msgspec.structs.replace(config.spec, layers=tuple(layers))
    with pytest.raises(ModelError, match="--pp 2: tiny cannot be cut into stages: its layers"):
        check_stages(msgspec.structs.replace(config, spec=spec), 2)
    told = msgspec.structs.replace(config.spec, per_layer=PerLayerInput(8, "gelu_tanh"))
    with pytest.raises(ModelError, match="told of tokens"):
        check_stages(msgspec.structs.replace(config, spec=told), 2)


def test_cache_groups_of_stages_have_a_part_in_each() -> None:
    """Five layers with a window to one without: as one model that is a group of the latter and five
    of the others, of which each would be one stage's alone."""
    windows = [8, 8, 8, 8, 8, 0] * 2
    groups = staged_cache_groups(windows, 1000, [1] * 12, [range(6), range(6, 12)])
    assert groups[0] == CacheGroup((5, 11), 0)
    for group in groups:
        in_first = sum(layer < 6 for layer in group.layers)
        assert in_first == len(group.layers) - in_first
    assert sorted(layer for group in groups for layer in group.layers) == list(range(12))


def test_cache_groups_of_one_stage_are_the_models() -> None:
    assert staged_cache_groups([None, None], 10, [0, 0], [range(1), range(1, 2)]) == ()
    alone = staged_cache_groups([0, None, 0], 10, [1, 0, 1], [range(3)])
    assert alone == (CacheGroup((0, 2)),)
    part = staged_cache_groups([0, None, None], 10, [1, 0, 0], [range(1), range(1, 3)])
    assert part == (CacheGroup((0,)),)
