#include "tokenwise.h"

#include <math.h>
#include <string.h>

#include "attention.h"
#include "simd.h"
#include "threads.h"

/* From so many numbers on a second thread pays for being woken. */
enum { PARALLEL_SIZE = 1 << 14 };

SIMD_BEGIN

INLINE __m512 load_some(const bf16 *p, __mmask16 mask)
{
    return widen(_mm256_maskz_loadu_epi16(mask, p));
}

INLINE void store_some(bf16 *p, __mmask16 mask, __m512 x)
{
    _mm256_mask_storeu_epi16(p, mask, narrow(x));
}

static void norm_row(void *call, int64_t token, int thread)
{
    const AddRmsNorm *a = call;
    const int64_t width = a->width, row = token * width;
    const bf16 *x = a->x + row, *delta = a->delta ? a->delta + row : NULL, *weight = a->weight;
    bf16 *sum = a->sum ? a->sum + row : NULL, *out = a->out + row;
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < width; i += 16) {
        const __mmask16 mask = first(width - i);
        __m512 value = load_some(x + i, mask);
        if (delta) {
            const __m256i rounded = narrow(_mm512_add_ps(value, load_some(delta + i, mask)));
            _mm256_mask_storeu_epi16(sum + i, mask, rounded);
            value = widen(rounded);
        }
        squares = _mm512_fmadd_ps(value, value, squares);
    }
    const float mean = _mm512_reduce_add_ps(squares) / (float)width;
    const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(mean + (float)a->eps));
    const bf16 *from = delta ? sum : x;
    for (int64_t i = 0; i < width; i += 16) {
        const __mmask16 mask = first(width - i);
        const __m512 scaled = _mm512_mul_ps(load_some(from + i, mask), scale);
        store_some(out + i, mask, _mm512_mul_ps(scaled, load_some(weight + i, mask)));
    }
}

void add_rms_norm(const AddRmsNorm *a)
{
    parallel_for_if(a->tokens * a->width > PARALLEL_SIZE, a->tokens, norm_row, (void *)a);
}

/* Rotate one head: x cos + (x with its halves swapped) sin. `out` may be x. */
INLINE void rotate(const bf16 *x, const bf16 *cos, const bf16 *sin, bf16 *out, int64_t dim)
{
    const int64_t half = dim / 2;
    for (int64_t i = 0; i < half; i += 16) {
        const __m512 a = load_bf16(x + i), b = load_bf16(x + half + i);
        const __m512 low = _mm512_fmadd_ps(a, load_bf16(cos + i),
                                           _mm512_mul_ps(b, load_bf16(sin + i)));
        const __m512 high = _mm512_fmadd_ps(b, load_bf16(cos + half + i),
                                            _mm512_mul_ps(a, load_bf16(sin + half + i)));
        store_bf16(out + i, low);
        store_bf16(out + half + i, high);
    }
}

/* Write a key into a lane of a tile, see attention.h. Its other lanes are neither written nor read:
   another thread may be writing them. */
INLINE void write_key(const bf16 *key, int64_t lane, bf16 *tile, int64_t dim)
{
    for (int64_t i = 0; i < dim / 2; i++)
        memcpy(tile + (i * KV_TILE + lane) * 2, key + 2 * i, 2 * sizeof *key);
}

INLINE void write_value(const bf16 *value, int64_t lane, bf16 *tile, int64_t dim)
{
    const __mmask32 halves = lane % 2 ? 0xAAAAAAAA : 0x55555555;
    bf16 *pairs = tile + lane / 2 * dim * 2;
    for (int64_t i = 0; i < dim; i += 16) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(value + i)));
        const __m512i both = _mm512_or_si512(wide, _mm512_slli_epi32(wide, 16));
        _mm512_mask_storeu_epi16(pairs + 2 * i, halves, both);
    }
}

static void rotate_token(void *call, int64_t token, int thread)
{
    const RotateStore *r = call;
    const int64_t dim = r->dim, size = r->block_size, slot = r->slot_mapping[token];
    const bf16 *cos = r->cos + token * dim, *sin = r->sin + token * dim;
    bf16 *row = r->qkv + token * r->stride;
    for (int64_t h = 0; h < r->num_heads; h++)
        rotate(row + h * dim, cos, sin, row + h * dim, dim);
    bf16 *keys = row + r->num_heads * dim;
    const bf16 *values = keys + r->num_kv_heads * dim;
    const int64_t place = slot % size, lane = place % KV_TILE;
    bf16 *tile = r->cache + (slot / size * 2 * r->num_kv_heads * size + place - lane) * dim;
    for (int64_t h = 0; h < r->num_kv_heads; h++, tile += size * dim) {
        rotate(keys + h * dim, cos, sin, keys + h * dim, dim);
        write_key(keys + h * dim, lane, tile, dim);
        write_value(values + h * dim, lane, tile + r->num_kv_heads * size * dim, dim);
    }
}

void rotate_store(const RotateStore *r)
{
    parallel_for_if(r->tokens * r->stride > PARALLEL_SIZE, r->tokens, rotate_token, (void *)r);
}

static void silu_row(void *call, int64_t token, int thread)
{
    const SiluMul *a = call;
    const int64_t width = a->width;
    const bf16 *gate = a->gate_up + 2 * token * width, *up = gate + width;
    bf16 *out = a->out + token * width;
    for (int64_t i = 0; i < width; i += 16) {
        const __mmask16 mask = first(width - i);
        const __m512 gated = silu(load_some(gate + i, mask));
        store_some(out + i, mask, _mm512_mul_ps(gated, load_some(up + i, mask)));
    }
}

void silu_mul(const SiluMul *a)
{
    parallel_for_if(a->tokens * a->width > PARALLEL_SIZE, a->tokens, silu_row, (void *)a);
}

SIMD_END
