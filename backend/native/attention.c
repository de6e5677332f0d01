/* Flash attention (Dao et al. 2022) over pages; long contexts of single tokens split as in
   flash-decoding (Dao et al. 2023) and merged.

   64 keys at a time are laid out for vdpbf16ps: keys by pairs of dimensions, values by pairs of
   keys. All query heads of the KV head, and all tokens of the item, then run over them. */
#include "attention.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "simd.h"

enum { KEYS = 64, ROWS = 6 };

typedef struct {
    uint32_t keys[ATTENTION_MAX_DIM / 2 * KEYS];   /* [D / 2, KEYS] */
    uint32_t values[KEYS / 2 * ATTENTION_MAX_DIM]; /* [KEYS / 2, D] */
    float sums[ATTENTION_MAX_ROWS * ATTENTION_MAX_DIM];
    float largest[ATTENTION_MAX_ROWS];
    float total[ATTENTION_MAX_ROWS];
    uint32_t weights[ROWS * KEYS / 2];
    float factors[ROWS];
    const char *next[KEYS / 8];
} __attribute__((aligned(64))) Scratch;

SIMD_BEGIN

/* Transpose 16 x 16 words. */
INLINE void transpose(__m512i r[16])
{
    __m512i t[16];
    UNROLL
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xDD);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xDD);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xDD);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xDD);
    }
}

/* 16 keys, of which those from `count` on are not there, into columns of `target`. */
INLINE void lay_keys(const bf16 *keys, int64_t count, int64_t dim, uint32_t *target)
{
    for (int64_t d = 0; d < dim / 2; d += 16) {
        __m512i r[16];
        UNROLL
        for (int i = 0; i < 16; i++)
            r[i] = i < count ? _mm512_loadu_si512(keys + i * dim + 2 * d) : _mm512_setzero_si512();
        transpose(r);
        UNROLL
        for (int i = 0; i < 16; i++)
            _mm512_store_si512(target + (d + i) * KEYS, r[i]);
    }
}

INLINE void lay_values(const bf16 *values, int64_t count, int64_t dim, uint32_t *target)
{
    const __m512i low = _mm512_set_epi16(
        47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4,
        35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    UNROLL
    for (int i = 0; i < 8; i++)
        for (int64_t d = 0; d < dim; d += 32) {
            const bf16 *row = values + 2 * i * dim + d;
            __m512i a = _mm512_setzero_si512(), b = a;
            if (2 * i < count)
                a = _mm512_loadu_si512(row);
            if (2 * i + 1 < count)
                b = _mm512_loadu_si512(row + dim);
            _mm512_store_si512(target + i * dim + d, _mm512_permutex2var_epi16(a, low, b));
            _mm512_store_si512(target + i * dim + d + 16, _mm512_permutex2var_epi16(a, high, b));
        }
}

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
        for (int k = 0; k < 4; k++)
            _mm_prefetch(s->next[2 * k] + 64 * d, _MM_HINT_T0);
        UNROLL
        for (int k = 0; k < 4; k++)
            keys[k] = (__m512bh)_mm512_load_si512(s->keys + d * KEYS + 16 * k);
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

/* sums = sums * factor + weights x values, `width` vectors of 16 dimensions. */
INLINE void add_values(int rows, int width, int64_t dim, const Scratch *s, const uint32_t *values,
                       float *sums)
{
    const char *const *next = s->next;
    __m512 sum[ROWS][4];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int w = 0; w < width; w++)
            sum[r][w] = _mm512_mul_ps(_mm512_load_ps(sums + r * dim + 16 * w),
                                      _mm512_set1_ps(s->factors[r]));
    for (int k = 0; k < KEYS / 2; k++) {
        __m512bh value[4];
        UNROLL
        for (int w = 0; w < 4; w++)
            _mm_prefetch(next[2 * w + 1] + 64 * k, _MM_HINT_T0);
        UNROLL
        for (int w = 0; w < width; w++)
            value[w] = (__m512bh)_mm512_load_si512(values + k * dim + 16 * w);
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
        add_values(rows, 4, dim, s, s->values + d, sums + d);
    if (d < dim)
        add_values(rows, 2, dim, s, s->values + d, sums + d);
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

/* Where 16 places of a sequence lie, for a KV head. */
INLINE const bf16 *keys_at(const Attention *a, const int32_t *table, int64_t head, int64_t place)
{
    const int64_t size = a->block_size;
    return a->cache + ((table[place / size] * 2 * a->num_kv_heads + head) * size + place % size)
        * a->dim;
}

/* Note what is needed after this: 64 keys of an item from `key` on. */
INLINE void look_ahead(const Attention *a, const AttentionItem *item, int64_t head, int64_t key,
                       Scratch *s)
{
    const int32_t *table = a->block_tables + item->sequence * a->table_stride;
    for (int i = 0; i < KEYS / 16; i++) {
        const int64_t place = key + 16 * i < item->end_key ? key + 16 * i : key;
        const bf16 *keys = keys_at(a, table, head, place);
        s->next[2 * i] = (const char *)keys;
        s->next[2 * i + 1] = (const char *)(keys + a->num_kv_heads * a->block_size * a->dim);
    }
}

/* `then` is what is likely to be run next, and its head. */
static void run_item(const Attention *a, const AttentionItem *item, int64_t head,
                     const AttentionItem *then, int64_t then_head)
{
    Scratch s;
    const int64_t group = a->num_heads / a->num_kv_heads, dim = a->dim;
    const int64_t rows = item->count * group;
    const int32_t *table = a->block_tables + item->sequence * a->table_stride;
    /* exp2 instead of exp */
    const float scale = a->scale * 1.4426950408889634f;

    memset(s.sums, 0, rows * dim * sizeof *s.sums);
    memset(s.total, 0, rows * sizeof *s.total);
    for (int64_t r = 0; r < rows; r++)
        s.largest[r] = -INFINITY;
    for (int64_t key = item->first_key; key < item->end_key; key += KEYS) {
        for (int64_t part = 0; part < KEYS; part += 16) {
            int64_t place = key + part, count = item->end_key - place;
            /* Behind the last key nothing is read; its block may be another's. */
            int64_t known = count > 0 ? place : 0;
            const bf16 *keys = keys_at(a, table, head, known);
            const bf16 *values = keys + a->num_kv_heads * a->block_size * dim;
            if (count >= 16) {
                lay_keys(keys, 16, dim, s.keys + part);
                lay_values(values, 16, dim, s.values + part / 2 * dim);
            } else {
                lay_keys(keys, count, dim, s.keys + part);
                lay_values(values, count, dim, s.values + part / 2 * dim);
            }
        }
        if (key + KEYS < item->end_key)
            look_ahead(a, item, head, key + KEYS, &s);
        else
            look_ahead(a, then, then_head, then->first_key, &s);
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

void attention(const Attention *a)
{
    const int64_t heads = a->num_kv_heads, units = a->num_items * heads;
#pragma omp parallel for schedule(dynamic, 3) if (a->parallel)
    for (int64_t i = 0; i < units; i++) {
        const int64_t then = i + 1 < units ? i + 1 : i;
        run_item(a, a->items + i / heads, i % heads, a->items + then / heads, then % heads);
    }
    for (int64_t i = 0; i < a->num_merges * a->num_heads; i++)
        merge(a, a->merges + i / a->num_heads, i % a->num_heads);
}

SIMD_END
