"""Attention over the paged cache, planned once a step and run in every layer.

The blocks of a few sequences at a time are gathered, head by head, into one buffer that all parts
and layers share: small enough to be still in the processor's caches when it is read, since memory
is what a decode step waits for. The query heads of one KV head are folded into the query length, so
that keys and values are never repeated. Sequences that run one token are gathered together, in
buckets of similar length, so that one long context does not pad all others; several tokens of one
sequence run in tiles, each over the keys up to its end. What a query must not see has a bias of
-inf, which the product of queries and keys adds on its way.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.ops.batch import FULL, AttentionSpec, Batch
from backend.ops.cache_rows import block_rows, rows_of
from backend.ops.score_bias import ScoreBias

# Keys and values gathered at once, of several sequences. Measured with 64 sequences of 256 tokens
# on two cores with 1 MiB of L2 each: 1.5 to 3 MiB are best, 12 MiB take a third longer.
GATHERED_BYTES = 3 << 20
# Scores of a tile of queries, all heads: what a cache holds next to keys and values.
TILE_SCORES = 1 << 21
MAX_TILE = 128
MIN_TILE = 16


@dataclass(slots=True)
class _Gathered:
    """What a part reads. n sequences of at most L places each.

    pieces: which rows of a layer's cache, see rows_of(). target: [pieces, block size * D], where
    they are copied; keys [n * Hkv, D, L] and values [n * Hkv, L, D] are views of it.
    """

    pieces: Tensor
    target: Tensor
    keys: Tensor
    values: Tensor

    def fill(self, cache: Tensor) -> None:
        """Copy from a layer's cache."""
        torch.index_select(rows_of(cache), 0, self.pieces, out=self.target)


@dataclass(slots=True)
class _Decodes:
    """n sequences of one token. rows: which of the step's. bias: [n * Hkv, 1, L]."""

    rows: Tensor | slice
    gathered: _Gathered
    bias: Tensor


@dataclass(slots=True)
class _Chunk:
    """One sequence's several tokens, the last of which is its context's.

    tiles: (rows of the chunk, bias [t * group, length], or [Hq, t, length] where heads differ),
    where length is of the context up to the tile's end.
    """

    rows: slice
    gathered: _Gathered
    tiles: list[tuple[slice, Tensor]]


class PagedAttention:
    """The attention of one step, on one rank."""

    def __init__(
        self,
        batch: Batch,
        cache: Tensor,
        num_heads: int,
        spec: AttentionSpec = FULL,
        *,
        bias: ScoreBias | None = None,
        is_causal: bool = True,
        is_alone: bool = False,
    ) -> None:
        """cache: of any layer, [blocks, 2, Hkv, block size, D]. num_heads: of queries.

        bias: where it is given, each query head has a KV head of its own. is_causal: else a token
        sees all of its sequence's keys. is_alone: no two sequences are computed together.
        """
        self._window, self._softcap = spec.window, spec.softcap
        self._score_bias, self._is_causal, self._is_alone = bias, is_causal, is_alone
        _, _, self._num_kv_heads, self._block_size, self._dim = cache.shape
        self._num_heads = num_heads
        self._group = num_heads // self._num_kv_heads
        self._scale = self._dim**-0.5 if spec.scale is None else spec.scale
        self._cache = cache
        self._dtype, self._device = cache.dtype, cache.device
        groups = self._buckets(batch)
        chunks = range(batch.num_decodes, len(batch.context_lens))
        lens = [(len(rows), _longest(batch, rows)) for rows in groups]
        lens += [(1, batch.context_lens[s]) for s in chunks]
        self._buffer = torch.empty(
            max((n * self._size_of(length) for n, length in lens), default=0),
            dtype=self._dtype,
            device=self._device,
        )
        self._decodes = [self._plan_decodes(batch, rows) for rows in groups]
        self._chunks = [self._plan_chunk(batch, s) for s in chunks]

    def run(self, q: Tensor, cache: Tensor, sinks: Tensor | None = None) -> Tensor:
        """q: [T, Hq, D] -> [T, Hq, D]. cache: of the layer. sinks: [Hq], see Ops.attention."""
        q = q.contiguous()
        # [Hkv, group]: a query head's place in _attend.
        self._sinks = None if sinks is None else sinks.view(self._num_kv_heads, self._group)
        if len(self._decodes) == 1 and not self._chunks:
            return self._decode(q, cache, self._decodes[0])
        out = torch.empty_like(q)
        for decodes in self._decodes:
            out[decodes.rows] = self._decode(q[decodes.rows], cache, decodes)
        for chunk in self._chunks:
            self._extend(q, cache, chunk, out)
        return out

    def _decode(self, q: Tensor, cache: Tensor, part: _Decodes) -> Tensor:
        """q: [n, Hq, D], of the part -> [n, Hq, D]."""
        part.gathered.fill(cache)
        query = q.view(len(part.bias), self._group, self._dim)
        return self._attend(query, part.gathered.keys, part.gathered.values, part.bias).view_as(q)

    def _extend(self, q: Tensor, cache: Tensor, part: _Chunk, out: Tensor) -> None:
        part.gathered.fill(cache)
        # [T, Hkv, group, D] -> [Hkv, T, group, D]
        tokens = part.rows.stop - part.rows.start
        by_head = (tokens, self._num_kv_heads, self._group, self._dim)
        query = q[part.rows].view(by_head).transpose(0, 1).contiguous()
        target = out[part.rows].view(by_head).transpose(0, 1)
        for rows, bias in part.tiles:
            length = bias.shape[-1]
            keys, values = part.gathered.keys[..., :length], part.gathered.values[:, :length]
            result = self._attend(query[:, rows].flatten(1, 2), keys, values, bias)
            target[:, rows] = result.view_as(target[:, rows])

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """softmax(scale q keys + bias) values. q: [m, t, D] -> [m, t, D].

        m: sequences x KV heads; t: tokens x query heads of one.
        """
        if self._softcap:
            scores = torch.bmm(q, keys) * (self._scale / self._softcap)
            scores = scores.tanh_().mul_(self._softcap).add_(bias)
        else:
            scores = torch.baddbmm(bias, q, keys, alpha=self._scale)
        if self._sinks is None:
            return torch.bmm(scores.softmax(-1), values)
        repeats = (len(q) // self._num_kv_heads, q.shape[1] // self._group)
        column = self._sinks.repeat(*repeats).to(scores.dtype)[..., None]
        weights = torch.cat((scores, column), -1).softmax(-1)[..., :-1]
        return torch.bmm(weights, values)

    # planning

    def _buckets(self, batch: Batch) -> list[list[int]]:
        """Rows of one token and of similar contexts, as many as are gathered at once."""
        if self._is_alone:
            return [[row] for row in range(batch.num_decodes)]
        buckets: dict[int, list[int]] = {}
        for row in range(batch.num_decodes):
            num_blocks = -(-batch.context_lens[row] // self._block_size)
            buckets.setdefault((num_blocks - 1).bit_length(), []).append(row)
        parts = []
        for rows in buckets.values():
            size = self._size_of(_longest(batch, rows)) * self._dtype.itemsize
            num_parts = -(-len(rows) * size // GATHERED_BYTES)
            count = -(-len(rows) // num_parts)
            parts += [rows[i : i + count] for i in range(0, len(rows), count)]
        return parts

    def _plan_decodes(self, batch: Batch, members: list[int]) -> _Decodes:
        lens = torch.tensor([batch.context_lens[row] for row in members], device=self._device)
        rows: Tensor | slice = slice(members[0], members[-1] + 1)
        if rows != slice(members[0], members[0] + len(members)):
            rows = torch.tensor(members, device=self._device)
        gathered = self._plan_gather(batch.block_tables[rows], _longest(batch, members))
        places = torch.arange(gathered.values.shape[1], device=self._device)
        hidden = places >= lens[:, None]
        if self._window:
            hidden |= places < lens[:, None] - self._window
        bias = self._bias(hidden)
        if self._score_bias:
            # [H, n, L] -> [n, H, L]
            scores = self._score_bias.at(places - (lens[:, None] - 1)).transpose(0, 1)
            bias = (scores + bias[:, None]).flatten(0, 1)
        else:
            bias = bias.repeat_interleave(self._num_kv_heads, 0)
        return _Decodes(rows, gathered, bias[:, None])

    def _plan_chunk(self, batch: Batch, s: int) -> _Chunk:
        rows = slice(*batch.query_starts[s : s + 2])
        context_len = batch.context_lens[s]
        gathered = self._plan_gather(batch.block_tables[s : s + 1], context_len)
        return _Chunk(rows, gathered, self._tiles(rows.stop - rows.start, context_len))

    def _plan_gather(self, block_tables: Tensor, length: int) -> _Gathered:
        """Plan to collect `length` places at least of n sequences. block_tables: [n, ..]."""
        blocks = block_tables[:, : -(-length // self._block_size)]
        pieces = block_rows(blocks, self._cache)
        target = self._buffer[: len(pieces) * self._block_size * self._dim]
        keys, values = target.view(2, len(blocks) * self._num_kv_heads, -1, self._dim)
        return _Gathered(pieces, target.view(len(pieces), -1), keys.transpose(1, 2), values)

    def _tiles(self, count: int, context_len: int) -> list[tuple[slice, Tensor]]:
        """Cut a sequence's last `count` tokens; see _Chunk."""
        size = TILE_SCORES // (context_len * self._num_heads)
        size = max(MIN_TILE, min(MAX_TILE, size))
        tiles = []
        for start in range(0, count, size):
            stop = min(start + size, count)
            end = context_len - (count - stop) if self._is_causal else context_len
            queries = torch.arange(end - (stop - start), end, device=self._device)
            places = torch.arange(end, device=self._device)
            hidden = (places > queries[:, None]) & self._is_causal
            if self._window:
                hidden |= places <= queries[:, None] - self._window
            bias = self._bias(hidden).repeat_interleave(self._group, 0)
            if self._score_bias:
                bias = self._score_bias.at(places - queries[:, None]) + bias
            tiles.append((slice(start, stop), bias))
        return tiles

    def _bias(self, hidden: Tensor) -> Tensor:
        bias = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device)
        return bias.masked_fill_(hidden, -torch.inf)

    def _size_of(self, length: int) -> int:
        """Numbers in the keys and values of a sequence, whole blocks."""
        num_blocks = -(-length // self._block_size)
        return 2 * self._num_kv_heads * num_blocks * self._block_size * self._dim


def _longest(batch: Batch, rows: list[int]) -> int:
    return max(batch.context_lens[row] for row in rows)
