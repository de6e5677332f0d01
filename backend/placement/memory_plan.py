"""Decides what one rank will take of its memory, before anything is loaded.

Refuses what does not fit, with what to do about it. Knows shapes, settings and how much is free; no
tensors, no devices, no other ranks. Called by engine/engine.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backend.config.cache_groups import CacheGroup
from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.states import snapshot_interval
from backend.placement.decode_sizes import captured_bytes
from backend.placement.memory import (
    ModelFootprint,
    RankMemory,
    kv_block_bytes,
    rotary_bytes,
)
from backend.placement.sharding import Shard
from backend.placement.state_plan import StatePlan
from backend.settings import EngineSettings

# A CPU's memory is also everyone else's, a GPU's is ours.
CPU_KV_SHARE = 0.3
GPU_KV_SHARE = 0.85
# 4 GiB hold 186,000 tokens of the default model; more is rarely touched on a CPU.
CPU_KV_MAX_BYTES = 4 << 30
# A prompt's chunk while nobody streams takes about 0.2 s on two cores. What it may be beside
# streams, scheduler/prefill_budget.py says.
CPU_TOKEN_BUDGET = 512
GPU_TOKEN_BUDGET = 2048
# Nobody streams beside texts that are pooled.
POOLED_TOKEN_BUDGET = 2048


@dataclass(frozen=True, slots=True)
class RankDevice:
    """Where a rank is to compute. kind: cpu or cuda. free_bytes: what this rank may take of it."""

    kind: str
    dtype: str
    free_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What one rank will take, and what its group can hold with that.

    kv_budget_bytes: for the KV cache of the whole group, and for its states. block_bytes: this
    rank's part of a KV block; group_block_bytes: all of it. token_budget: tokens a step. states:
    slots of what layers keep of fixed size. num_growing: cache groups that a prefix fills more
    blocks of the longer it is; all, where each has a window.
    """

    rank_memory: RankMemory
    free_bytes: int
    kv_budget_bytes: int
    block_bytes: int
    group_block_bytes: int
    num_blocks: int
    token_budget: int
    states: StatePlan
    num_growing: int

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        groups: Sequence[CacheGroup],
        shard: Shard,
        settings: EngineSettings,
        footprint: ModelFootprint,
        device: RankDevice,
        step_bytes: int = 0,
    ) -> "MemoryPlan":
        """Plan one rank by its own memory. Raises ModelError if it cannot serve with that.

        All ranks of a group must have equally many blocks and slots: see agreed(). step_bytes: what
        the longest steps were measured to take; 0: it is estimated.
        """
        budget = token_budget(settings, device.kind, config)
        # An encoder reads its whole input in a step, whatever the step has left for it.
        longest_input = config.max_model_len if config.encoder else 0
        rank_memory = RankMemory.estimate(
            config,
            shard,
            device.dtype,
            footprint,
            max_num_seqs=settings.max_num_seqs,
            token_budget=budget + longest_input,
        )
        longest = longest_sequence(settings, config)
        beside = rotary_bytes(config, longest, device.dtype)
        beside += captured_bytes(config, settings, device.kind, longest)
        taken = (step_bytes or rank_memory.activation_bytes) + beside
        rank_memory = replace(
            rank_memory,
            activation_bytes=taken,
            logit_bytes=0 if step_bytes else rank_memory.logit_bytes,
        )
        check_fits(rank_memory.total_bytes, device.free_bytes)
        stored_as = kv_dtype(settings, device.dtype)
        blocks = [
            kv_block_bytes(config, groups, shard.size, settings.block_size, stored_as, layers)
            for layers in shard.stage.cuts
        ]
        block_bytes = blocks[shard.stage.index][shard.rank]
        group_block_bytes = sum(map(sum, blocks))
        # A rank that has more than its share of the KV heads has room for less of a cache.
        num_ranks = shard.size * shard.stage.size
        whole = group_block_bytes / block_bytes if block_bytes else num_ranks
        left_bytes = int((device.free_bytes - rank_memory.total_bytes) * whole)
        kv_bytes = settings.kv_cache_bytes or default_kv_bytes(device.kind, left_bytes)
        states = StatePlan.of(config, shard, settings, kv_bytes, has_blocks=bool(groups))
        left_for_blocks = kv_bytes - states.group_bytes
        return cls(
            rank_memory,
            device.free_bytes,
            kv_bytes,
            block_bytes,
            group_block_bytes,
            num_kv_blocks(len(groups), settings.block_size, group_block_bytes, left_for_blocks),
            budget,
            states,
            sum(not group.window for group in groups) or len(groups),
        )

    @property
    def room(self) -> tuple[int, int, int]:
        """Blocks, sequences at a time, snapshots: what ranks have to agree on."""
        return self.num_blocks, self.states.num_seqs, self.states.num_snapshots

    def agreed(self, num_blocks: int, num_seqs: int, num_snapshots: int) -> "MemoryPlan":
        """Return the plan with what the ranks agreed on: the least that any of them has room for.

        Raises nothing: check_kv_fits() judges it.
        """
        states = replace(self.states, num_seqs=num_seqs, num_snapshots=num_snapshots)
        return replace(self, num_blocks=num_blocks, states=states)

    @property
    def kv_bytes(self) -> int:
        """This rank's part of the KV cache, without states."""
        return self.num_blocks * self.block_bytes

    @property
    def group_kv_bytes(self) -> int:
        """The KV cache of the whole group."""
        return self.num_blocks * self.group_block_bytes

    def snapshot_interval(self, block_size: int) -> int:
        """Return every how many tokens of a prompt a snapshot of its states is kept."""
        token_bytes = self.num_growing * self.group_block_bytes // block_size
        return snapshot_interval(self.states.group_slot_bytes, token_bytes, block_size)

    def check_kv_fits(self) -> None:
        """Raise ModelError if this rank's part of the KV cache does not fit beside the rest."""
        left_bytes = self.free_bytes - self.rank_memory.total_bytes
        check_kv_fits(self.kv_bytes + self.states.bytes, self.kv_budget_bytes, left_bytes)


def kv_dtype(settings: EngineSettings, dtype: str) -> str:
    """Return what keys and values are stored as. dtype: the arithmetic."""
    return dtype if settings.kv_cache_dtype == "auto" else settings.kv_cache_dtype


def token_budget(settings: EngineSettings, device_kind: str, config: ModelConfig) -> int:
    """Return how many tokens a step may compute: at least one for each sequence, and a block; and
    the longest sequence, where it is not cut."""
    default = CPU_TOKEN_BUDGET if device_kind == "cpu" else GPU_TOKEN_BUDGET
    least = settings.max_num_seqs + settings.block_size
    if config.runs_whole:
        default = max(default, POOLED_TOKEN_BUDGET)
        least = max(
            least, min(settings.max_model_len or config.max_model_len, config.max_model_len)
        )
    return max(settings.max_num_batched_tokens or default, least)


def default_kv_bytes(device_kind: str, left_bytes: int) -> int:
    """Return the KV cache of a group whose ranks have so much left beside all else."""
    if device_kind == "cpu":
        return min(int(left_bytes * CPU_KV_SHARE), CPU_KV_MAX_BYTES)
    return int(left_bytes * GPU_KV_SHARE)


def num_kv_blocks(num_groups: int, block_size: int, block_bytes: int, budget_bytes: int) -> int:
    """Return how many blocks fit in a group's budget.

    block_bytes: of a block, over all ranks; 0 if the model keeps no keys and values. Raises
    ModelError if not even a sequence of one block fits, which has one in each cache group.
    """
    blocks = budget_bytes // block_bytes if block_bytes else 0
    if blocks < num_groups:
        each = f", in each of {num_groups} groups of layers" if num_groups > 1 else ""
        raise ModelError(
            f"not enough memory for the KV cache: one block of {block_size} tokens{each} needs "
            f"{num_groups * block_bytes:,} bytes, {budget_bytes:,} are free for it\n"
            "free some memory, or set --kv-cache-bytes or a smaller --block-size"
        )
    return blocks


def check_fits(needed_bytes: int, free_bytes: int) -> None:
    """Raise ModelError if that without which nothing can be served does not fit."""
    if needed_bytes > free_bytes:
        raise ModelError(
            f"not enough memory: weights and activations need {needed_bytes / 1e9:,.1f} GB, "
            f"{free_bytes / 1e9:,.1f} GB are free\n"
            "free some memory, take a smaller model, or more devices with --tp"
        )


def check_kv_fits(own_bytes: int, kv_bytes: int, left_bytes: int) -> None:
    """Raise ModelError if a rank's part of a KV cache of set size does not fit beside the rest.

    On a CPU pages are taken when first written: without this the kernel would kill the rank then.
    """
    if own_bytes > left_bytes:
        raise ModelError(
            f"--kv-cache-bytes {kv_bytes} is too much: a rank's part of it is "
            f"{own_bytes / 1e9:,.1f} GB, {left_bytes / 1e9:,.1f} GB are left for it\n"
            "free some memory, set less, or leave it out"
        )


def longest_sequence(settings: EngineSettings, config: ModelConfig) -> int:
    """Return how many tokens a sequence may have by what is asked for and by its model."""
    return min(settings.max_model_len or config.max_model_len, config.max_model_len)
