/* Causal attention over a paged cache. */
#ifndef UNISONO_ATTENTION_H
#define UNISONO_ATTENTION_H

#include <stdint.h>

/* KV_TILE: places that lie together in the cache, see below. */
enum { ATTENTION_MAX_DIM = 256, ATTENTION_MAX_ROWS = 96, KV_TILE = 16 };

/* Some tokens of one sequence over some of its keys. */
typedef struct {
    int32_t sequence;
    int32_t token;     /* the first, of the step's */
    int32_t count;     /* of tokens; times the group at most ATTENTION_MAX_ROWS */
    int32_t position;  /* of the first token in its sequence */
    int32_t first_key; /* a multiple of 64 */
    int32_t end_key;
    int32_t partial;   /* where the result goes: the output (-1) or this row of `partials` */
} AttentionItem;

/* A token of which several items had a part of the keys. */
typedef struct {
    int32_t token;
    int32_t partial; /* the first of them */
    int32_t count;
} AttentionMerge;

typedef struct {
    const uint16_t *q; /* [T, .., D], the query heads first */
    int64_t q_stride;  /* numbers from a token to the next */
    const uint16_t *cache; /* [blocks, 2, Hkv, block size, D], laid out as below */
    const int32_t *block_tables;
    int64_t table_stride;
    const AttentionItem *items;
    const AttentionMerge *merges;
    int64_t num_items, num_merges;
    int64_t num_heads, num_kv_heads, dim, block_size;
    float *partials; /* [partials, Hq, D + 2]: weighted values, the largest score, the sum */
    uint16_t *out;   /* [T, Hq, D] */
    float scale;
    int parallel;
} Attention;

/* bf16 in and out, sums in fp32. D is a multiple of 32, the block size of 16. What an item computes
   depends on its own sequence only.

   16 places of a head are a tile, in which pairs lie as vdpbf16ps takes them: of keys two neighbouring
   dimensions, [D / 2, 16 places, 2]; of values two neighbouring places, [8, D, 2]. A step then reads
   what it multiplies, as it lies. Places nothing was written to must be finite. `rotate_store`
   writes it so. */
void attention(const Attention *a);

#endif
