"""Attention of encoder-decoders on a GPU, by the kernels of attention.py, without the host.

An input that attends to itself is read as if it lay in a cache with blocks of one token: keys and
values where the projection left them.
"""

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from backend.ops.batch import AttentionSpec, Batch
from backend.ops.encoder_decoder import EncoderDecoderAttention
from backend.ops.score_bias import ScoreBias
from backend.ops.triton.attended_keys import PlannedAttention
from backend.ops.triton.attention import attention, plan_attention
from backend.ops.triton.prompt_attention import prompt_tiles
from backend.ops.triton.rotary import store
from backend.ops.upload import upload


class TritonEncoderDecoderAttention(EncoderDecoderAttention):
    """As the one in PyTorch; see there for shapes."""

    def __init__(self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec) -> None:
        assert batch.cross is not None, "the scheduler gives every sequence an encoder's input"
        self._inputs, self._num_heads, self._spec = batch.cross, num_heads, spec
        shape = num_heads, cache.shape[2]
        self._decoder = plan_attention(batch, *shape, spec)
        seen = replace(
            batch,
            block_tables=self._inputs.tables,
            context_lens=self._inputs.len_list,
            lens=self._inputs.lens,
        )
        self._seen = plan_attention(seen, *shape, spec, is_causal=False)
        self._encoder: PlannedAttention | None = None

    def encode(self, qkv: Tensor, bias: ScoreBias) -> Tensor:
        if self._encoder is None:
            self._encoder = self._plan_inputs()
        # [X, 2 H, D] -> [X, 2, H, 1, D]: blocks of one token
        kept = qkv[:, self._num_heads :].unflatten(1, (2, -1)).unsqueeze(3)
        return attention(qkv[:, : self._num_heads], kept, self._encoder, None, bias)

    def keep(self, kv: Tensor, cache: Tensor) -> None:
        store(kv, cache, self._inputs.slot_mapping)

    def decode(self, qkv: Tensor, cache: Tensor, bias: ScoreBias) -> Tensor:
        store(qkv[:, self._num_heads :], cache, self._decoder.slots)
        return attention(qkv[:, : self._num_heads], cache, self._decoder, None, bias)

    def cross(self, q: Tensor, cache: Tensor) -> Tensor:
        return attention(q, cache, self._seen, None)

    def _plan_inputs(self) -> PlannedAttention:
        """Plan the attention of all inputs, each of which has its tokens side by side."""
        starts, device = self._inputs.start_list, self._inputs.input_ids.device
        firsts = upload(starts, device)
        lens = firsts.diff()
        longest = max(end - start for start, end in pairwise(starts))
        places = torch.arange(longest, dtype=torch.int32, device=device)
        return PlannedAttention(
            self._spec,
            self._inputs.slot_mapping,
            firsts,
            lens,
            firsts[:-1, None] + places,
            num_decodes=0,
            num_splits=0,
            tiles=prompt_tiles(starts, 0, 1, device),
            is_causal=False,
        )
