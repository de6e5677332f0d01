"""Worlds for the attention of `NativeOps`: plans, caches laid out, results."""

import numpy as np
import torch
from torch import Tensor

from backend.ops.batch import FULL, AttentionSpec, Batch
from backend.ops.kv_cache import SCALE_BYTES
from backend.ops.native import NativeOps
from backend.ops.reference import ReferenceOps
from backend.step import PlannedSequence, StepPlan, build_plan

CPU = torch.device("cpu")
BLOCK_SIZE = 32


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def plan_of(
    sequences: list[tuple[int, int]], seed: int = 0, block_size: int = BLOCK_SIZE
) -> tuple[StepPlan, int]:
    """sequences: (tokens to run, tokens before them) -> the plan, and the blocks it needs."""
    num_blocks = sum(-(-(count + start) // block_size) for count, start in sequences)
    blocks = np.random.default_rng(seed).permutation(num_blocks).tolist()
    planned = []
    for count, start in sorted(sequences, key=lambda s: s[0] != 1):
        width = -(-(start + count) // block_size)
        table, blocks = blocks[:width], blocks[width:]
        planned.append(PlannedSequence([1] * count, start, table, 0, 0))
    return build_plan(1, planned, [], block_size), num_blocks


def laid_out(cache: Tensor) -> Tensor:
    """The same keys and values as native/attention.h says that they lie."""
    keys, values = cache.unbind(1)
    tiles = (*keys.shape[:2], BLOCK_SIZE // 16)
    dim = cache.shape[-1]
    keys = keys.reshape(*tiles, 16, dim // 2, 2).transpose(3, 4).reshape(keys.shape)
    values = values.reshape(*tiles, 8, 2, dim).transpose(4, 5).reshape(values.shape)
    return torch.stack((keys, values), dim=1)


def quantized(cache: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values in 8 bits: signed bytes in bytes, and scales [..., 1]."""
    wide = cache.float()
    scales = wide.abs().amax(-1, keepdim=True) / 127
    return (wide / scales).nan_to_num().round().to(torch.int8), scales


def laid_out_in_8_bits(values: Tensor, scales: Tensor) -> Tensor:
    """A cache of 8 bits as native/attention.h says that it lies."""
    tiles = (*values.shape[:3], BLOCK_SIZE // 16)
    dim = values.shape[-1]
    parts = values.view(*tiles, 16, dim).clone()
    numbers = torch.stack((parts[:, 0].transpose(3, 4).flatten(3), parts[:, 1].flatten(3)), dim=1)
    factors = scales.reshape(*tiles, 16).view(torch.int8)
    return torch.cat((numbers, factors), dim=-1).view(*values.shape[:-1], dim + SCALE_BYTES)


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
        kv_bits: int = 16,
        seed: int = 0,
    ) -> None:
        plan, num_blocks = plan_of(sequences, seed)
        self._batch = Batch.from_plan(plan, CPU)
        self._heads = heads
        self._spec = spec
        self.keys_and_values = randn(num_blocks, 2, kv_heads, BLOCK_SIZE, dim, seed=seed)
        if kv_bits == 8:
            values, scales = quantized(self.keys_and_values)
            self._cache, self._laid_out = values * scales, laid_out_in_8_bits(values, scales)
        else:
            self._cache = self.keys_and_values
            self._laid_out = laid_out(self._cache)
        qkv = randn(plan.num_tokens, heads + 2 * kv_heads, dim, seed=seed + 1)
        self._q = qkv[:, :heads]  # tokens lie apart
        self._sinks = 3 * randn(heads, seed=seed + 2).float() if has_sinks else None

    def lay_apart(self, more: int) -> None:
        """Put so many numbers, which are no one's, between the blocks."""
        blocks, *shape = self._laid_out.shape
        size = self._laid_out[0].numel()
        apart = self._laid_out.new_full((blocks, size + more), 77)
        apart[:, :size] = self._laid_out.flatten(1)
        self._laid_out = apart[:, :size].view(blocks, *shape)

    def expected(self, cache: Tensor | None = None) -> Tensor:
        """The oracle's result, float32, over these keys and values or those of the case's bits."""
        seen = self._cache if cache is None else cache
        oracle = ReferenceOps()
        plan = oracle.plan_attention(self._batch, seen, self._heads, self._spec)
        return oracle.attention(self._q.float(), seen, plan, self._sinks)

    def result(self) -> Tensor:
        ops = NativeOps()
        plan = ops.plan_attention(self._batch, self._laid_out, self._heads, self._spec)
        return ops.attention(self._q, self._laid_out, plan, self._sinks)
