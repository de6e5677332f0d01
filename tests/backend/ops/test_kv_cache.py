"""Layers with and without windows in one cache, over blocks that a scheduler gives and takes."""

import msgspec
import pytest
import torch
from torch import Tensor

from backend.config.cache_groups import CacheGroup, cache_groups
from backend.config.cache_shapes import groups_of
from backend.config.model_config import ModelConfig
from backend.config.spec import Attention, Layer
from backend.native import absence, kernels
from backend.ops.batch import AttentionSpec, Batch
from backend.ops.kv_cache import KVCache
from backend.ops.native import NativeOps
from backend.ops.reference import _attend
from backend.placement.sharding import split_model
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.step import StepPlan
from backend.wire.sampling import SamplingParams
from tests.backend.attention_cases import CPU, randn
from tests.backend.factories import tiny_config

BLOCK_SIZE = 16
HEADS, KV_HEADS, DIM = 4, 2, 32
# Not a multiple of the block, and more than a block of the kernels' keys behind.
WINDOWS = (70, 0, 70, 5)
CONFIG = tiny_config(num_layers=4, num_heads=HEADS, num_kv_heads=KV_HEADS, head_dim=DIM)


def cache_of(
    groups: tuple[CacheGroup, ...], num_blocks: int, config: ModelConfig = CONFIG
) -> KVCache:
    [shard] = split_model(config, 1)
    return KVCache(
        config,
        shard,
        groups=groups,
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        dtype=torch.bfloat16,
        device=CPU,
    )


def test_layers_of_a_group_have_places_and_groups_have_blocks() -> None:
    cache = cache_of((CacheGroup((1, 3)), CacheGroup((0, 2), 8)), 6)
    assert cache.data.shape == (2, 6, 2 * KV_HEADS * BLOCK_SIZE * DIM)
    assert cache.layer(0).shape == (6, 2, KV_HEADS, BLOCK_SIZE, DIM)
    assert cache.data.transpose(0, 1).is_contiguous(), "a block is one piece, and a layer's of it"
    for layer in range(4):
        cache.layer(layer)[layer % 2] = layer
    assert [float(cache.layer(layer)[layer % 2].mean()) for layer in range(4)] == [0, 1, 2, 3]
    cache.clear(torch.tensor([0]))
    assert cache.layer(3)[1].mean() == 3 and not cache.layer(2)[0].any()


def test_layers_of_several_sizes_lie_together_in_a_block() -> None:
    """Two windowed layers beside a full one of heads twice as large, and one that shares its
    keys."""
    small, large = Attention(None, window=8), Attention(None, head_dim=2 * DIM)
    shared = msgspec.structs.replace(large, shares_kv_of=1)
    mlp = CONFIG.spec.layers[0].mlp
    layers = tuple(Layer(attention, mlp) for attention in (small, large, small, shared))
    config = msgspec.structs.replace(
        CONFIG, spec=msgspec.structs.replace(CONFIG.spec, layers=layers)
    )
    groups = groups_of(config, 500)
    assert groups == (CacheGroup((1,)), CacheGroup((0, 2), 8))
    cache = cache_of(groups, 5, config)
    each = 2 * KV_HEADS * BLOCK_SIZE * DIM
    assert cache.data.shape == (1, 5, 2 * each)
    assert [cache.group_of(layer) for layer in range(4)] == [1, 0, 1, 0]
    assert cache.layer(1).shape == (5, 2, KV_HEADS, BLOCK_SIZE, 2 * DIM)
    cache.layer(0)[3], cache.layer(2)[3], cache.layer(3)[2] = 1, 2, 3
    assert torch.equal(cache.layer(1), cache.layer(3))
    assert cache.data[0, 3].view(2, each).mean(1).tolist() == [1, 2]
    assert cache.data[0, 2].view(2, each).mean(1).tolist() == [3, 3]
    cache.clear(torch.tensor([3]))
    assert not cache.layer(2)[3].any() and cache.layer(1)[2].all()


class WindowedLayers:
    """Attention of four layers, no more; queries, keys and values follow from token and place."""

    def __init__(self, groups: tuple[CacheGroup, ...], num_blocks: int) -> None:
        self._groups = groups
        self._cache = cache_of(groups, num_blocks)
        self._cache.data[:] = torch.nan  # what another has left
        self._ops = NativeOps()
        heads = HEADS + 2 * KV_HEADS
        self._of_token = randn(4, 100, heads, DIM, seed=1)
        self._of_place = randn(4, 500, heads, DIM, seed=2)

    def qkv(self, layer: int, token_ids: Tensor, positions: Tensor) -> Tensor:
        return self._of_token[layer, token_ids] + self._of_place[layer, positions]

    def run(self, plan: StepPlan) -> list[Tensor]:
        """Return each layer's attention, [T, Hq, D]."""
        self._cache.clear(torch.from_numpy(plan.begun_blocks(BLOCK_SIZE)).long())
        batch = Batch.from_plan(plan, CPU)
        rotation = torch.ones(plan.num_tokens, 1, DIM), torch.zeros(plan.num_tokens, 1, DIM)
        results: dict[int, Tensor] = {}
        for g, group in enumerate(self._groups):
            for layer in group.layers:
                cache, spec = self._cache.layer(layer), AttentionSpec(window=WINDOWS[layer])
                attention = self._ops.plan_attention(batch.group(g), cache, HEADS, spec)
                qkv = self.qkv(layer, batch.input_ids, batch.positions)
                cos, sin = (x.bfloat16() for x in rotation)
                self._ops.rotate_store(qkv, (cos, sin), cache, attention)
                results[layer] = self._ops.attention(qkv[:, :HEADS], cache, attention)
        return [results[layer] for layer in range(4)]

    def expected(self, layer: int, seq: Sequence) -> Tensor:
        """Attention of the tokens that the step at hand runs of a sequence, over all before."""
        end = seq.num_computed_tokens + seq.num_scheduled
        qkv = self.qkv(layer, torch.tensor(seq.token_ids[:end]), torch.arange(end)).float()
        q, k, v = qkv[:, :HEADS], qkv[:, HEADS:-KV_HEADS], qkv[:, -KV_HEADS:]
        spec = AttentionSpec(window=WINDOWS[layer])
        return _attend(q[seq.num_computed_tokens :], k, v, spec, None)


@pytest.mark.numerics
@pytest.mark.skipif(kernels is None, reason=absence or "")
def test_layers_see_their_windows_over_any_blocks() -> None:
    """Shared prefixes, chunks, preemption; kernels read, and hide, what lies before a window.

    bfloat16 of sums of some numbers of size 1: 0.03.
    """
    groups = cache_groups(WINDOWS, 500)
    assert [group.window for group in groups] == [0, 5, 70, 70]
    layers = WindowedLayers(groups, 56)
    scheduler = Scheduler(
        BlockPool(56, BLOCK_SIZE), groups=groups, max_num_seqs=4, max_num_batched_tokens=48,
        max_model_len=500, vocab_size=100,
    )  # fmt: skip
    prefix = [7 * n % 97 for n in range(130)]
    for number in range(5):
        prompt = prefix[: 130 - 20 * (number % 2)] + [number] * (20 * number + 3)
        params = SamplingParams(max_tokens=60)
        scheduler.add(Sequence((0, number), prompt, len(prompt), params))
    num_steps = 0
    while (plan := scheduler.schedule()) is not None:
        decodes, prefills = scheduler._selection
        results = layers.run(plan)
        for s, seq in enumerate(decodes + prefills):
            rows = slice(*plan.query_starts[s : s + 2].tolist())
            for layer, result in enumerate(results):
                expected = layers.expected(layer, seq)
                torch.testing.assert_close(result[rows].float(), expected, atol=0.03, rtol=0.03)
        scheduler.commit(plan, [(13 * num_steps + n) % 100 for n in range(len(plan.sample_rows))])
        scheduler.check()
        num_steps += 1
    assert scheduler.num_preemptions > 0 and scheduler.num_prefix_hits > 0
