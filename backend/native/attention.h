/* Causal attention over a paged cache. */
#ifndef UNISONO_ATTENTION_H
#define UNISONO_ATTENTION_H

#include "calls.h"

/* KV_TILE slots lie together in the cache, see below. The keys of a context are attended to in pieces
   of ATTENTION_PIECE. A core's caches hold ATTENTION_MAX_SUMS: of larger heads an item has fewer rows. */
enum {
    ATTENTION_MAX_DIM = 512,
    ATTENTION_MAX_ROWS = 96,
    ATTENTION_MAX_SUMS = 96 * 256,
    ATTENTION_PIECE = 1024,
    KV_TILE = 16,
};

/* AttentionItem: some tokens of one sequence over some of its keys.

     token      its first token, of the step's
     count      how many tokens; times the query heads of a KV head at most ATTENTION_MAX_ROWS, times D
                at most ATTENTION_MAX_SUMS
     position   where the first token stands in its sequence
     first_key  a multiple of 64, at or before the first key that the first token sees
     partial    where the result goes: -1 for the output, else a row of `partials`; the keys are then
                of one piece

   AttentionMerge: a token whose pieces are several items; partial: the first of them, the others
   follow in order.

   Attention:

     q            [T, .., D], the query heads first; q_stride: numbers from a token to the next
     cache        [blocks, 2, Hkv, block size, D] in bf16, or with kv_bits 8 [.., D + 4] bytes, laid out
                  as below; block_stride: bytes from a block to the next
     block_tables [sequences, table_stride]
     partials     [partials, Hq, D + 2]: weighted values, the largest score, the sum
     out          [T, Hq, D]
     scale        what the products of queries and keys are multiplied by
     softcap      c: scores s become c tanh(s / c); 0: they stay
     window       a token sees so many keys, itself included; 0: all
     sinks        [Hq]: a score beside those of the keys, which has no value; NULL: none */

/* The bytes of a key or a value. */
static inline int64_t kv_slot_bytes(int64_t kv_bits, int64_t dim)
{
    return kv_bits == 8 ? dim + (int64_t)sizeof(float) : 2 * dim;
}

/* bf16 in and out, sums in fp32; weights too, but bf16 where a level multiplies its pairs. D and the block size are multiples of 16.

   A token's result depends on its own sequence only, and not on how items cut it: keys are taken in
   blocks of 64, at multiples of 64, and blocks of a piece, at multiples of its size, have sums of their
   own, which are merged in order. All levels have the same bits, but those that multiply pairs of bf16, which
   over a cache of bf16 share bits of their own.

   16 slots of a head are a tile, in which pairs lie as vdpbf16ps takes them: of keys two neighbouring
   dimensions, [D / 2, 16 slots, 2]; of values two neighbouring slots, [8, D, 2]. A step then reads
   what it multiplies, as it lies. Slots that nothing was written to must be finite. `rotate_store`
   writes it so.

   With 8 bits a key or value is D signed bytes, from -127 to 127, and what they are multiplied by, a
   float. Of a tile the bytes come first, of keys [D, 16 slots], of values [16 slots, D], then 16 floats. */
void LEVEL(attention)(const Attention *a);

#endif
