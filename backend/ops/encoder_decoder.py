"""Attention in a step of an encoder-decoder, in stock torch.

Whole inputs attend to themselves, the decoder's tokens to those before them and to what was kept
of their sequence's input. Biases by distance stand where others rotate.
"""

from dataclasses import replace

from torch import Tensor

from backend.ops.batch import AttentionSpec, Batch, CrossBatch
from backend.ops.both_ways import attend_both_ways
from backend.ops.cache_rows import Slots, store
from backend.ops.paged import PagedAttention
from backend.ops.score_bias import ScoreBias


class EncoderDecoderAttention:
    """The attention of one step, on one rank. Each query head has a KV head of its own.

    T tokens of decoders, X of encoders' inputs, H heads.
    """

    def __init__(
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec, *, is_alone: bool
    ) -> None:
        """cache: of any layer, [blocks, 2, H, block size, D]. is_alone: no two sequences are
        computed together."""
        assert batch.cross is not None, "the scheduler gives every sequence an encoder's input"
        self._batch, self._cache, self._num_heads = batch, cache, num_heads
        self._spec, self._is_alone = spec, is_alone
        self._inputs: CrossBatch = batch.cross
        self._places = Slots.of(batch.slot_mapping, cache)
        self._kept_at = Slots.of(self._inputs.slot_mapping, cache)
        seen = replace(batch, block_tables=self._inputs.tables, context_lens=self._inputs.len_list)
        self._cross = PagedAttention(
            seen, cache, num_heads, spec, is_causal=False, is_alone=is_alone
        )
        self._bias: ScoreBias | None = None

    def encode(self, qkv: Tensor, bias: ScoreBias) -> Tensor:
        """softmax(scale q k + bias) v over each whole input, [X, 3 H, D] -> [X, H, D]."""
        scale = qkv.shape[-1] ** -0.5 if self._spec.scale is None else self._spec.scale
        return attend_both_ways(qkv, self._inputs.start_list, scale, bias)

    def keep(self, kv: Tensor, cache: Tensor) -> None:
        """Write what a layer's decoder attends to of inputs, [X, 2 H, D], into its cache."""
        store(kv, cache, self._kept_at)

    def decode(self, qkv: Tensor, cache: Tensor, bias: ScoreBias) -> Tensor:
        """Write keys and values into a layer's cache, and attend to all up to each token's own,
        [T, 3 H, D] -> [T, H, D]."""
        store(qkv[:, self._num_heads :], cache, self._places)
        if bias is not self._bias:  # else as in the layer before
            self._bias = bias
            self._own = PagedAttention(
                self._batch,
                self._cache,
                self._num_heads,
                self._spec,
                bias=bias,
                is_alone=self._is_alone,
            )
        return self._own.run(qkv[:, : self._num_heads], cache)

    def cross(self, q: Tensor, cache: Tensor) -> Tensor:
        """Attend to all that is kept of each sequence's input, [T, H, D] -> [T, H, D]."""
        return self._cross.run(q, cache)
