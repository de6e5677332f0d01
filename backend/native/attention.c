/* Flash attention (Dao et al. 2022) over pages; long contexts of single tokens split as in
   flash-decoding (Dao et al. 2023) and merged. */
#include "attention.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "simd.h"
#include "threads.h"

enum { KEYS = 64, ROWS = 6 };

/* 64 keys and values, 16 to a tile, as they lie in the cache. */
typedef struct {
    const uint32_t *keys[KEYS / KV_TILE], *values[KEYS / KV_TILE];
} Tiles;

typedef struct {
    float sums[ATTENTION_MAX_ROWS * ATTENTION_MAX_DIM];
    float largest[ATTENTION_MAX_ROWS];
    float total[ATTENTION_MAX_ROWS];
    uint32_t weights[ROWS * KEYS / 2];
    float factors[ROWS];
    Tiles now, next;
} __attribute__((aligned(64))) Scratch;

SIMD_BEGIN

/* Scores of `rows` queries and 64 keys -> their weights, and what earlier sums are multiplied by.
   visible: of these keys, for each row. */
INLINE void weigh(int rows, const bf16 *const *q, int64_t dim, float scale, const int64_t *visible,
                  Scratch *s, float *largest, float *total)
{
    __m512 score[ROWS][4];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int k = 0; k < 4; k++)
            score[r][k] = _mm512_setzero_ps();
    for (int64_t d = 0; d < dim / 2; d++) {
        __m512bh keys[4];
        UNROLL
        for (int k = 0; k < 4; k++) {
            keys[k] = (__m512bh)_mm512_loadu_si512(s->now.keys[k] + d * KV_TILE);
            _mm_prefetch((const char *)(s->next.keys[k] + d * KV_TILE), _MM_HINT_T0);
        }
        UNROLL
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, q[r] + 2 * d, sizeof pair);
            __m512bh query = (__m512bh)_mm512_set1_epi32(pair);
            UNROLL
            for (int k = 0; k < 4; k++)
                score[r][k] = _mm512_dpbf16_ps(score[r][k], query, keys[k]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        __m512 hidden = _mm512_set1_ps(-INFINITY), most = hidden;
        UNROLL
        for (int k = 0; k < 4; k++) {
            __m512 scaled = _mm512_mul_ps(score[r][k], _mm512_set1_ps(scale));
            score[r][k] = _mm512_mask_mov_ps(hidden, first(visible[r] - 16 * k), scaled);
            most = _mm512_max_ps(most, score[r][k]);
        }
        float reached = fmaxf(largest[r], _mm512_reduce_max_ps(most));
        /* Nothing visible yet: any finite number, so that hidden weighs nothing. */
        __m512 base = _mm512_set1_ps(reached == -INFINITY ? 0.0f : reached);
        __m512 sum = _mm512_setzero_ps();
        UNROLL
        for (int k = 0; k < 4; k++) {
            __m512 weight = _mm512_maskz_mov_ps(first(visible[r] - 16 * k),
                                                exp2_ps(_mm512_sub_ps(score[r][k], base)));
            sum = _mm512_add_ps(sum, weight);
            _mm256_store_si256((__m256i *)(s->weights + r * KEYS / 2 + 8 * k), narrow(weight));
        }
        __m512 old = _mm512_sub_ps(_mm512_set1_ps(largest[r]), base);
        float factor = largest[r] == reached ? 1.0f : _mm512_cvtss_f32(exp2_ps(old));
        total[r] = total[r] * factor + _mm512_reduce_add_ps(sum);
        largest[r] = reached;
        s->factors[r] = factor;
    }
}

/* sums = sums * factor + weights x values, `width` vectors of 16 dimensions from `first` on. */
INLINE void add_values(int rows, int width, int64_t dim, int64_t first, const Scratch *s,
                       float *sums)
{
    __m512 sum[ROWS][4];
    sums += first;
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int w = 0; w < width; w++)
            sum[r][w] = _mm512_mul_ps(_mm512_load_ps(sums + r * dim + 16 * w),
                                      _mm512_set1_ps(s->factors[r]));
    for (int k = 0; k < KEYS / 2; k++) {
        const int64_t place = k % (KV_TILE / 2) * dim + first;
        const uint32_t *values = s->now.values[k / (KV_TILE / 2)] + place;
        const uint32_t *next = s->next.values[k / (KV_TILE / 2)] + place;
        __m512bh value[4];
        UNROLL
        for (int w = 0; w < width; w++) {
            value[w] = (__m512bh)_mm512_loadu_si512(values + 16 * w);
            _mm_prefetch((const char *)(next + 16 * w), _MM_HINT_T0);
        }
        UNROLL
        for (int r = 0; r < rows; r++) {
            __m512bh weight = (__m512bh)_mm512_set1_epi32((int)s->weights[r * KEYS / 2 + k]);
            UNROLL
            for (int w = 0; w < width; w++)
                sum[r][w] = _mm512_dpbf16_ps(sum[r][w], weight, value[w]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int w = 0; w < width; w++)
            _mm512_store_ps(sums + r * dim + 16 * w, sum[r][w]);
}

INLINE void run_rows(int rows, const bf16 *const *q, int64_t dim, float scale,
                     const int64_t *visible, Scratch *s, int first_row)
{
    weigh(rows, q, dim, scale, visible, s, s->largest + first_row, s->total + first_row);
    float *sums = s->sums + first_row * dim;
    int64_t d = 0;
    for (; d + 64 <= dim; d += 64)
        add_values(rows, 4, dim, d, s, sums);
    if (d < dim)
        add_values(rows, 2, dim, d, s, sums);
}

/* Compiled once for each number of rows, so that sums stay in registers. */
static void run_block(int rows, const bf16 *const *q, int64_t dim, float scale,
                      const int64_t *visible, Scratch *s, int first_row)
{
    switch (rows) {
    case 1: run_rows(1, q, dim, scale, visible, s, first_row); break;
    case 2: run_rows(2, q, dim, scale, visible, s, first_row); break;
    case 3: run_rows(3, q, dim, scale, visible, s, first_row); break;
    case 4: run_rows(4, q, dim, scale, visible, s, first_row); break;
    case 5: run_rows(5, q, dim, scale, visible, s, first_row); break;
    default: run_rows(6, q, dim, scale, visible, s, first_row); break;
    }
}

static void write_rows(const Attention *a, const AttentionItem *item, int64_t head,
                       const Scratch *s)
{
    const int64_t group = a->num_heads / a->num_kv_heads, dim = a->dim;
    for (int64_t r = 0; r < item->count * group; r++) {
        const int64_t query_head = head * group + r % group;
        const float *sums = s->sums + r * dim;
        if (item->partial >= 0) {
            float *out = a->partials
                + ((item->partial + r / group) * a->num_heads + query_head) * (dim + 2);
            memcpy(out, sums, dim * sizeof *sums);
            out[dim] = s->largest[r];
            out[dim + 1] = s->total[r];
            continue;
        }
        bf16 *out = a->out + ((item->token + r / group) * a->num_heads + query_head) * dim;
        __m512 share = _mm512_set1_ps(1.0f / s->total[r]);
        for (int64_t d = 0; d < dim; d += 16)
            store_bf16(out + d, _mm512_mul_ps(_mm512_load_ps(sums + d), share));
    }
}

/* The tiles of an item's 64 keys from `key` on. For those behind its last key the tile of `key`
   stands: it is read and weighs nothing. */
INLINE Tiles tiles_at(const Attention *a, const AttentionItem *item, int64_t head, int64_t key)
{
    const int32_t *table = a->block_tables + item->sequence * a->table_stride;
    const int64_t size = a->block_size, heads = a->num_kv_heads;
    Tiles tiles;
    for (int i = 0; i < KEYS / KV_TILE; i++) {
        const int64_t place = key + i * KV_TILE < item->end_key ? key + i * KV_TILE : key;
        const int64_t row = (table[place / size] * 2 * heads + head) * size + place % size;
        tiles.keys[i] = (const uint32_t *)(a->cache + row * a->dim);
        tiles.values[i] = (const uint32_t *)(a->cache + (row + heads * size) * a->dim);
    }
    return tiles;
}

/* `then` is what is likely to be run next, and its head: it is fetched meanwhile. */
static void run_item(const Attention *a, const AttentionItem *item, int64_t head,
                     const AttentionItem *then, int64_t then_head)
{
    Scratch s;
    const int64_t group = a->num_heads / a->num_kv_heads, dim = a->dim;
    const int64_t rows = item->count * group;
    /* exp2 instead of exp */
    const float scale = (float)a->scale * 1.4426950408889634f;

    memset(s.sums, 0, rows * dim * sizeof *s.sums);
    memset(s.total, 0, rows * sizeof *s.total);
    for (int64_t r = 0; r < rows; r++)
        s.largest[r] = -INFINITY;
    s.now = tiles_at(a, item, head, item->first_key);
    for (int64_t key = item->first_key; key < item->end_key; key += KEYS) {
        s.next = key + KEYS < item->end_key ? tiles_at(a, item, head, key + KEYS)
                                            : tiles_at(a, then, then_head, then->first_key);
        for (int64_t row = 0; row < rows; row += ROWS) {
            const int n = rows - row < ROWS ? (int)(rows - row) : ROWS;
            const bf16 *q[ROWS];
            int64_t visible[ROWS] = {0};
            for (int r = 0; r < n; r++) {
                const int64_t token = (row + r) / group;
                q[r] = a->q + (item->token + token) * a->q_stride
                    + (head * group + (row + r) % group) * dim;
                const int64_t seen = item->position + token + 1;
                visible[r] = (seen < item->end_key ? seen : item->end_key) - key;
            }
            if (visible[n - 1] > 0)
                run_block(n, q, dim, scale, visible, &s, (int)row);
        }
        s.now = s.next;
    }
    write_rows(a, item, head, &s);
}

static void merge(const Attention *a, const AttentionMerge *m, int64_t head)
{
    const int64_t dim = a->dim, stride = a->num_heads * (dim + 2);
    const float *parts = a->partials + m->partial * stride + head * (dim + 2);
    float sums[ATTENTION_MAX_DIM] = {0}, largest = -INFINITY, total = 0;
    for (int64_t i = 0; i < m->count; i++)
        largest = fmaxf(largest, parts[i * stride + dim]);
    for (int64_t i = 0; i < m->count; i++) {
        const float *part = parts + i * stride;
        const float factor = exp2f(part[dim] - largest);
        total += part[dim + 1] * factor;
        for (int64_t d = 0; d < dim; d++)
            sums[d] += part[d] * factor;
    }
    bf16 *out = a->out + (m->token * a->num_heads + head) * dim;
    for (int64_t d = 0; d < dim; d += 16)
        store_bf16(out + d, _mm512_div_ps(_mm512_loadu_ps(sums + d), _mm512_set1_ps(total)));
}

/* Run the i-th pair of an item and a KV head. */
static void run_unit(void *call, int64_t i, int thread)
{
    const Attention *a = call;
    const int64_t heads = a->num_kv_heads;
    const int64_t then = i + 1 < a->num_items * heads ? i + 1 : i;
    run_item(a, a->items + i / heads, i % heads, a->items + then / heads, then % heads);
}

void attention(const Attention *a)
{
    parallel_for_if(a->parallel != 0, a->num_items * a->num_kv_heads, run_unit, (void *)a);
    for (int64_t i = 0; i < a->num_merges * a->num_heads; i++)
        merge(a, a->merges + i / a->num_heads, i % a->num_heads);
}

SIMD_END
