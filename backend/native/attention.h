/* Causal attention over a paged cache. */
#ifndef UNISONO_ATTENTION_H
#define UNISONO_ATTENTION_H

#include "calls.h"

/* KV_TILE slots lie together in the cache, see below. */
enum { ATTENTION_MAX_DIM = 256, ATTENTION_MAX_ROWS = 96, KV_TILE = 16 };

/* AttentionItem: some tokens of one sequence over some of its keys.

     token      its first token, of the step's
     count      how many tokens; times the query heads of a KV head at most ATTENTION_MAX_ROWS
     position   where the first token stands in its sequence
     first_key  a multiple of 64
     partial    where the result goes: -1 for the output, else a row of `partials`

   AttentionMerge: a token of which several items had a part of the keys; partial: the first of them.

   Attention:

     q            [T, .., D], the query heads first; q_stride: numbers from a token to the next
     cache        [blocks, 2, Hkv, block size, D], laid out as below
     block_tables [sequences, table_stride]
     partials     [partials, Hq, D + 2]: weighted values, the largest score, the sum
     out          [T, Hq, D] */

/* bf16 in and out, sums in fp32. D is a multiple of 32, the block size of 16. What an item computes
   depends on its own sequence only.

   16 slots of a head are a tile, in which pairs lie as vdpbf16ps takes them: of keys two neighbouring
   dimensions, [D / 2, 16 slots, 2]; of values two neighbouring slots, [8, D, 2]. A step then reads
   what it multiplies, as it lies. Slots that nothing was written to must be finite. `rotate_store`
   writes it so. */
void attention(const Attention *a);

#endif
