"""Attention over the paged cache: decodes split over keys, prompts in tiles of queries.

The query heads of a KV head are folded into the rows of a tile, so that keys and values are read
once for all of them.
"""

from torch import Tensor

from backend.ops.batch import AttentionSpec, Batch
from backend.ops.score_bias import ScoreBias
from backend.ops.triton import decode_attention
from backend.ops.triton.attended_keys import PlannedAttention
from backend.ops.triton.decode_attention import attend_decodes
from backend.ops.triton.prompt_attention import attend_prompts, prompt_tiles


def plan_attention(
    batch: Batch,
    num_heads: int,
    num_kv_heads: int,
    spec: AttentionSpec,
    *,
    is_causal: bool = True,
) -> PlannedAttention:
    """Plan a step's attention, for layers that attend alike. num_heads: of queries."""
    device, group = batch.input_ids.device, num_heads // num_kv_heads
    return PlannedAttention(
        spec,
        batch.slot_mapping,
        batch.starts,
        batch.lens,
        batch.block_tables,
        batch.num_decodes,
        decode_attention.num_pieces(batch.longest, decode_attention.LOT),
        prompt_tiles(batch.query_starts, batch.num_decodes, group, device),
        is_causal,
    )


def attention(
    q: Tensor,
    cache: Tensor,
    plan: PlannedAttention,
    sinks: Tensor | None,
    bias: ScoreBias | None = None,
) -> Tensor:
    """See `Ops.attention`. q: [T, Hq, D], whose tokens may lie apart -> [T, Hq, D].

    bias: added to scores behind the cap.
    """
    out = q.new_empty(q.shape)
    if plan.num_decodes:
        attend_decodes(q, cache, plan, sinks, bias, out)
    if len(plan.tiles):
        attend_prompts(q, cache, plan, sinks, bias, out)
    return out
