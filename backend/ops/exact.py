"""The ops of exact mode: a token's result depends on its own sequence only.

Floating-point sums depend on how a kernel cuts its work, and kernels cut by shape. So each token's
attention is computed in a shape that follows from its position alone: tiles of TILE queries at
multiples of TILE, over the keys up to the tile's end, whichever part of the tile this step runs.
Chunked or whole, alone or in a crowd, the arithmetic is the same. Rows of a tile that are not run
are zero, keys not yet written are hidden by the mask.

PyTorch computes exp and its like of 16 or more numbers by vectors and what is left of them one by
one, which rounds otherwise: what makes use of them runs token by token.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.config.spec import Activation, GateClamp
from backend.ops.batch import FULL, AttentionSpec, Batch, StateBatch
from backend.ops.cache_rows import Slots, block_rows, rows_of
from backend.ops.cpu import CpuOps
from backend.ops.delta_rule import DeltaHeads, DeltaInputs, delta_inputs, delta_tokens
from backend.ops.routing import RoutingOps
from backend.ops.ssm_scan import SsmHeads, SsmInputs, ssm_inputs, ssm_tokens
from backend.ops.state_ops import StateOps, run_segments
from backend.ops.tokenwise import Opening, TokenwiseOps

TILE = 16


@dataclass(slots=True)
class _Tile:
    """rows: which of the step's tokens. first: their place in the tile. pieces: for `gather`.
    mask: [TILE, L], 0 or -inf."""

    rows: slice
    first: int
    pieces: Tensor
    mask: Tensor


@dataclass(slots=True)
class _Plan:
    places: Slots
    tiles: list[_Tile]
    spec: AttentionSpec


class ExactOps(TokenwiseOps, RoutingOps, StateOps):
    """See `Ops` for shapes. What treats each token by itself is CPU ops of a token at a time."""

    name = CpuOps.name

    def __init__(self) -> None:
        cpu = CpuOps()
        self.add_rms_norm = cpu.add_rms_norm
        self.rotate_store = cpu.rotate_store

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        return self.gate_mul(gate_up, "silu")

    def clamped_gate_mul(self, gate_up: Tensor, clamp: GateClamp) -> Tensor:
        clamped = super().clamped_gate_mul
        return _by_token(lambda row: clamped(row, clamp), gate_up)

    def activate(self, x: Tensor, activation: Activation) -> Tensor:
        whole = super().activate
        return _by_token(lambda row: whole(row, activation), x)

    def gate_by(self, gate: Tensor, x: Tensor, opening: Opening) -> Tensor:
        whole = super().gate_by
        return _by_token(lambda gate, x: whole(gate, x, opening), gate, x)

    def plan_attention(
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> _Plan:
        tiles = []
        for s, context_len in enumerate(batch.context_lens):
            row, end = batch.query_starts[s : s + 2]
            position = context_len - (end - row)
            while row < end:
                count = min(end - row, TILE - position % TILE)
                rows = slice(row, row + count)
                tiles.append(_tile(batch.block_tables[s], rows, position, cache, spec.window))
                row += count
                position += count
        return _Plan(Slots.of(batch.slot_mapping, cache), tiles, spec)

    def attention(
        self, q: Tensor, cache: Tensor, plan: _Plan, sinks: Tensor | None = None
    ) -> Tensor:
        heads, dim = cache.shape[2], cache.shape[4]
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        for tile in plan.tiles:
            length = tile.mask.shape[1]
            k, v = (x[:, :, :length] for x in _gather(cache, tile.pieces))
            count = tile.rows.stop - tile.rows.start
            filled = slice(tile.first, tile.first + count)
            query = q.new_zeros(TILE, *q.shape[1:])
            query[filled] = q[tile.rows]
            # [TILE, Hkv, group, D] -> [1, Hkv, group * TILE, D]
            query = query.view(TILE, heads, -1, dim).permute(1, 2, 0, 3)
            group = query.shape[1]
            mask = tile.mask.expand(group, -1, -1).reshape(group * TILE, length)
            query = query.reshape(1, heads, -1, dim)
            result = _attend(query, k, v, mask, plan.spec, sinks)
            result = result.view(heads, group, TILE, dim).permute(2, 0, 1, 3)
            out[tile.rows] = result.reshape(TILE, -1, dim)[filled]
        return out

    def delta_rule(
        self,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        heads: DeltaHeads,
        state: Tensor,
        states: StateBatch,
    ) -> Tensor:
        tokens = [
            delta_inputs(x[t : t + 1], a[t : t + 1], b[t : t + 1], heads) for t in range(len(x))
        ]
        inputs = DeltaInputs(*(torch.cat(each) for each in zip(*tokens, strict=True)))
        return run_segments(delta_tokens, inputs, inputs.values, state, states).to(x.dtype)

    def ssm_scan(
        self, x: Tensor, steps: Tensor, heads: SsmHeads, state: Tensor, states: StateBatch
    ) -> Tensor:
        tokens = [ssm_inputs(x[t : t + 1], steps[t : t + 1], heads) for t in range(len(x))]
        inputs = SsmInputs(*(torch.cat(each) for each in zip(*tokens, strict=True)))
        out = run_segments(ssm_tokens, inputs, inputs.x, state, states)
        return (out + inputs.x * heads.skips[:, None]).to(x.dtype)


def _by_token(run: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return what `run` makes of each token alone, [T, ..]."""
    if len(inputs[0]) <= 1:
        return run(*inputs)
    tokens = zip(*(torch.split(x, 1) for x in inputs), strict=True)
    return torch.cat([run(*rows) for rows in tokens])


def _attend(
    query: Tensor, k: Tensor, v: Tensor, mask: Tensor, spec: AttentionSpec, sinks: Tensor | None
) -> Tensor:
    """query: [1, Hkv, group * TILE, D]; k, v: [1, Hkv, L, D]; mask: [group * TILE, L]."""
    if not spec.softcap and sinks is None:
        return F.scaled_dot_product_attention(query, k, v, mask, scale=spec.scale)
    scale = query.shape[-1] ** -0.5 if spec.scale is None else spec.scale
    scores = query @ k.transpose(-1, -2) * scale
    if spec.softcap:
        scores = torch.tanh(scores / spec.softcap) * spec.softcap
    scores = scores + mask
    if sinks is not None:
        column = sinks.to(scores.dtype).view(1, k.shape[1], -1, 1, 1)
        column = column.expand(-1, -1, -1, TILE, -1).reshape(1, k.shape[1], -1, 1)
        scores = torch.cat((scores, column), -1)
    return scores.softmax(-1)[..., : k.shape[2]] @ v


def _gather(cache: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:
    """Collect keys and values of one sequence, each [1, Hkv, places, D]."""
    heads, _, dim = cache.shape[2:]
    gathered = rows_of(cache).index_select(0, pieces)
    k, v = gathered.view(2, 1, heads, -1, dim).unbind()
    return k, v


def _tile(table: Tensor, rows: slice, position: int, cache: Tensor, window: int) -> _Tile:
    block_size = cache.shape[3]
    first = position % TILE
    start = position - first
    end = start + TILE
    num_blocks = -(-(position + rows.stop - rows.start) // block_size)
    blocks = table[:num_blocks]
    missing = -(-end // block_size) - num_blocks
    if missing > 0:  # the tile ends beyond the sequence's last block; what is gathered is hidden
        blocks = torch.cat([blocks, blocks[-1:].expand(missing)])
    places, queries = torch.arange(end), torch.arange(start, end)[:, None]
    hidden = places > queries
    if window:
        hidden |= places <= queries - window
    mask = torch.zeros(TILE, end, dtype=cache.dtype).masked_fill_(hidden, -torch.inf)
    return _Tile(rows, first, block_rows(blocks[None], cache), mask.to(table.device))
