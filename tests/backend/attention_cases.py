"""Worlds for the attention of `NativeOps`: plans, caches laid out, results."""

import numpy as np
import torch
from torch import Tensor

from backend.ops.batch import FULL, AttentionSpec, Batch
from backend.ops.native import NativeOps
from backend.ops.reference import ReferenceOps
from backend.step import PlannedSequence, StepPlan, build_plan

CPU = torch.device("cpu")
BLOCK_SIZE = 32


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def plan_of(sequences: list[tuple[int, int]], seed: int = 0) -> tuple[StepPlan, int]:
    """sequences: (tokens to run, tokens before them) -> the plan, and the blocks it needs."""
    num_blocks = sum(-(-(count + start) // BLOCK_SIZE) for count, start in sequences)
    blocks = np.random.default_rng(seed).permutation(num_blocks).tolist()
    planned = []
    for count, start in sorted(sequences, key=lambda s: s[0] != 1):
        width = -(-(start + count) // BLOCK_SIZE)
        table, blocks = blocks[:width], blocks[width:]
        planned.append(PlannedSequence([1] * count, start, table, 0, 0))
    return build_plan(1, planned, [], BLOCK_SIZE), num_blocks


def laid_out(cache: Tensor) -> Tensor:
    """The same keys and values as native/attention.h says that they lie."""
    keys, values = cache.unbind(1)
    tiles = (*keys.shape[:2], BLOCK_SIZE // 16)
    dim = cache.shape[-1]
    keys = keys.reshape(*tiles, 16, dim // 2, 2).transpose(3, 4).reshape(keys.shape)
    values = values.reshape(*tiles, 8, 2, dim).transpose(4, 5).reshape(values.shape)
    return torch.stack((keys, values), dim=1)


class AttentionCase:
    """Sequences with random queries, keys, values and, if wanted, sinks."""

    def __init__(
        self,
        sequences: list[tuple[int, int]],
        heads: int = 6,
        kv_heads: int = 2,
        dim: int = 64,
        *,
        spec: AttentionSpec = FULL,
        has_sinks: bool = False,
        seed: int = 0,
    ) -> None:
        plan, num_blocks = plan_of(sequences, seed)
        self._batch = Batch.from_plan(plan, CPU)
        self._heads = heads
        self._spec = spec
        self._cache = randn(num_blocks, 2, kv_heads, BLOCK_SIZE, dim, seed=seed)
        qkv = randn(plan.num_tokens, heads + 2 * kv_heads, dim, seed=seed + 1)
        self._q = qkv[:, :heads]  # tokens lie apart
        self._sinks = 3 * randn(heads, seed=seed + 2).float() if has_sinks else None

    def expected(self) -> Tensor:
        """The oracle's result, float32."""
        oracle = ReferenceOps()
        return oracle.attention(self._q.float(), self._cache, self._batch, self._spec, self._sinks)

    def result(self) -> Tensor:
        ops = NativeOps()
        cache = laid_out(self._cache)
        plan = ops.plan_attention(self._batch, cache, self._heads, self._spec)
        return ops.attention(self._q, cache, plan, self._sinks)
