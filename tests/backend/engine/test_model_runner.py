"""A rank's steps over several cache groups, with a model that only looks."""

import torch
from torch import Tensor

from backend.config.cache_groups import CacheGroup
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.model_runner import ModelRunner
from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache
from backend.placement.sharding import split_model
from backend.sampling.sampler import Sampler
from backend.step import PlannedSequence, build_plan
from tests.backend.factories import tiny_config

CPU = torch.device("cpu")
GROUPS = (CacheGroup((0,)), CacheGroup((1,), 8))


class LookingModel:
    """Keeps the batches it was given, and knows one token."""

    weight_bytes = replicated_bytes = 0

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor:
        self.batches.append(batch)
        return torch.zeros(len(batch.output_tokens), 4)

    def logits(self, hidden: Tensor) -> Tensor:
        return torch.zeros(len(hidden), 320)

    def argmax(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(hidden)), torch.full((len(hidden),), 7)


def runner_of(model: LookingModel, num_blocks: int) -> tuple[ModelRunner, KVCache]:
    [shard] = split_model(tiny_config(), 1)
    cache = KVCache(
        tiny_config(), shard, groups=GROUPS, num_blocks=num_blocks, block_size=4,
        dtype=torch.float32, device=CPU,
    )  # fmt: skip
    sampler = Sampler(4, shard.vocab, TensorParallel(), ())
    return ModelRunner(model, cache, sampler, CPU), cache


def test_warm_up_uses_blocks_of_its_own_in_each_group() -> None:
    for num_blocks, num_tokens in ((64, 10), (5, 7)):
        model = LookingModel()
        runner, _ = runner_of(model, num_blocks)
        runner.warm_up(10)
        prompt, decode = model.batches
        assert len(prompt.input_ids) == num_tokens and decode.context_lens == [num_tokens + 1]
        blocks = decode.group_tables.flatten().tolist()
        assert len(set(blocks)) == len(blocks) and max(blocks) < num_blocks
        assert decode.group(1).block_tables.tolist() == decode.group_tables[1].tolist()
        assert prompt.group(1).slot_mapping.tolist() == prompt.slot_mappings[1].tolist()


def test_begun_blocks_of_all_groups_are_cleared() -> None:
    """Attention reads the rest of such a block, and hides it: another's NaN would still show."""
    runner, cache = runner_of(LookingModel(), 6)
    cache.data[:] = torch.nan
    sequence = PlannedSequence([1] * 6, 0, [3, 1], 0, None, more_tables=[[5, 2]])
    runner.run(build_plan(1, [sequence], [], 4))
    is_clear = ~cache.data.isnan().flatten(2).any(-1)
    assert is_clear.all(0).nonzero().flatten().tolist() == [1, 2]
