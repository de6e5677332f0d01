/* The weights stay as few bits as the file holds and become bf16 in registers: a product of few rows
   waits for memory, and so small integers are exact in bf16. Sums are float32, scaled group by group.

   16 features by 32 columns are a block: values, 16 float16 scales, of 4 bits also 16 minimums.
   Values lie as vdpbf16ps takes them: a pair of columns, feature by feature. Of 4 bits four such
   vectors share one, each in 4 bits of every word. Blocks follow each other along the width. */
#include "products.h"

#include <stdlib.h>
#include <string.h>

#include "simd.h"

enum {
    GROUP = 32,
    LANES = 16,
    QUARTERS = 4,
    /* So many rows' sums, scaled and not, fit in the registers. */
    MAX_TILE = 12,
    /* Blocks to fetch ahead: a product of one row took a quarter longer with 4. */
    AHEAD = 8,
    /* Multiplications from which on a second thread pays for being woken. */
    PARALLEL_SIZE = 1 << 17,
};

INLINE int64_t values_size(int bits)
{
    return LANES * GROUP * bits / 8;
}

INLINE int64_t block_size(int bits)
{
    return values_size(bits) + (bits == 4 ? 2 : 1) * LANES * sizeof(uint16_t);
}

int64_t packed_size(int bits, int64_t features, int64_t width)
{
    return (features + LANES - 1) / LANES * (width / GROUP) * block_size(bits);
}

SIMD_BEGIN

static void pack_values(int bits, const uint8_t *values, int64_t stride, int64_t count,
                        uint8_t *out)
{
    for (int64_t lane = 0; lane < count; lane++)
        for (int column = 0; column < GROUP; column++) {
            const int pair = column / 2, half = column % 2;
            const unsigned value = values[lane * stride + column];
            if (bits == 8)
                out[pair * 32 + lane * 2 + half] = value;
            else
                ((uint16_t *)out)[pair / 4 * 32 + lane * 2 + half] |= value << pair % 4 * 4;
        }
}

static void pack_factors(const float *factors, int64_t stride, int64_t count, uint8_t *out)
{
    float lanes[LANES] = {0};
    for (int64_t lane = 0; lane < count; lane++)
        lanes[lane] = factors[lane * stride];
    const __m256i halves = _mm512_cvtps_ph(_mm512_loadu_ps(lanes), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256((__m256i *)out, halves);
}

void pack_groups(const GroupedWeight *w, uint8_t *out)
{
    const int64_t groups = w->width / GROUP, size = block_size(w->bits);
    memset(out, 0, packed_size(w->bits, w->features, w->width));
#pragma omp parallel for
    for (int64_t feature = 0; feature < w->features; feature += LANES) {
        const int64_t left = w->features - feature, count = left < LANES ? left : LANES;
        for (int64_t group = 0; group < groups; group++) {
            const int64_t place = feature * groups + group;
            uint8_t *block = out + (feature / LANES * groups + group) * size;
            uint8_t *scales = block + values_size(w->bits);
            pack_values(w->bits, w->values + place * GROUP, w->width, count, block);
            pack_factors(w->scales + place, groups, count, scales);
            if (w->bits == 4)
                pack_factors(w->minimums + place, groups, count, scales + 32);
        }
    }
}

INLINE __m512 load_halves(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* Four pairs of columns of 16 features, the quarter of a block's values. */
INLINE void load_values(int bits, const uint8_t *quarter, __m512bh out[4])
{
    if (bits == 4) {
        /* 0 to 15 in bf16. Only the lowest four bits of a word count: both halves are alike. */
        const __m512i table = _mm512_broadcast_i64x4(_mm256_set_epi16(
            0x4170, 0x4160, 0x4150, 0x4140, 0x4130, 0x4120, 0x4110, 0x4100, 0x40E0, 0x40C0, 0x40A0,
            0x4080, 0x4040, 0x4000, 0x3F80, 0));
        const __m512i words = _mm512_loadu_si512(quarter);
        UNROLL
        for (int i = 0; i < 4; i++)
            out[i] = (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4 * i), table);
    } else {
        UNROLL
        for (int i = 0; i < 4; i++) {
            __m512 half[2];
            UNROLL
            for (int h = 0; h < 2; h++) {
                const __m128i *bytes = (const __m128i *)(quarter + 32 * i + 16 * h);
                half[h] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes)));
            }
            out[i] = _mm512_cvtne2ps_pbh(half[1], half[0]);
        }
    }
}

INLINE __m512bh load_pair(const bf16 *x)
{
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

/* `rows` rows from `row` on by the 16 features of a column of blocks. */
INLINE void multiply(int bits, int rows, const Product *p, const float *row_sums, int64_t row,
                     int64_t column)
{
    const int64_t groups = p->width / GROUP, size = block_size(bits);
    const uint8_t *block = p->packed + column * groups * size;
    const bf16 *x = p->x + row * p->width;
    __m512 total[MAX_TILE];
    UNROLL
    for (int r = 0; r < rows; r++)
        total[r] = _mm512_setzero_ps();
    for (int64_t group = 0; group < groups; group++, block += size, x += GROUP) {
        __m512 sum[MAX_TILE];
        UNROLL
        for (int r = 0; r < rows; r++)
            sum[r] = _mm512_setzero_ps();
        UNROLL
        for (int line = 0; line < block_size(bits); line += 64)
            _mm_prefetch((const char *)block + AHEAD * size + line, _MM_HINT_T0);
        UNROLL
        for (int quarter = 0; quarter < QUARTERS; quarter++) {
            __m512bh values[4];
            load_values(bits, block + quarter * values_size(bits) / QUARTERS, values);
            UNROLL
            for (int i = 0; i < 4; i++)
                UNROLL
                for (int r = 0; r < rows; r++) {
                    const __m512bh pair = load_pair(x + r * p->width + 8 * quarter + 2 * i);
                    sum[r] = _mm512_dpbf16_ps(sum[r], values[i], pair);
                }
        }
        const __m512 scale = load_halves(block + values_size(bits));
        UNROLL
        for (int r = 0; r < rows; r++)
            total[r] = _mm512_fmadd_ps(sum[r], scale, total[r]);
        if (bits == 4) {
            const __m512 minimum = load_halves(block + values_size(bits) + 32);
            UNROLL
            for (int r = 0; r < rows; r++) {
                const __m512 row_sum = _mm512_set1_ps(row_sums[(row + r) * groups + group]);
                total[r] = _mm512_fmadd_ps(row_sum, minimum, total[r]);
            }
        }
    }
    const __mmask16 mask = first(p->features - column * LANES);
    UNROLL
    for (int r = 0; r < rows; r++) {
        const int64_t place = (row + r) * p->features + column * LANES;
        if (p->wide)
            _mm512_mask_storeu_ps((float *)p->out + place, mask, total[r]);
        else
            _mm256_mask_storeu_epi16((bf16 *)p->out + place, mask, narrow(total[r]));
    }
}

/* Compiled once for each number of rows, so that sums stay in registers. */
INLINE void multiply_rows(int bits, int rows, const Product *p, const float *row_sums, int64_t row,
                          int64_t column)
{
    switch (rows) {
    case 1: multiply(bits, 1, p, row_sums, row, column); break;
    case 2: multiply(bits, 2, p, row_sums, row, column); break;
    case 3: multiply(bits, 3, p, row_sums, row, column); break;
    case 4: multiply(bits, 4, p, row_sums, row, column); break;
    case 5: multiply(bits, 5, p, row_sums, row, column); break;
    case 6: multiply(bits, 6, p, row_sums, row, column); break;
    case 7: multiply(bits, 7, p, row_sums, row, column); break;
    case 8: multiply(bits, 8, p, row_sums, row, column); break;
    case 9: multiply(bits, 9, p, row_sums, row, column); break;
    case 10: multiply(bits, 10, p, row_sums, row, column); break;
    case 11: multiply(bits, 11, p, row_sums, row, column); break;
    default: multiply(bits, 12, p, row_sums, row, column); break;
    }
}

/* All rows by 16 features, in tiles that are about equal. */
static void multiply_column(const Product *p, const float *row_sums, int64_t column)
{
    int64_t tiles = (p->rows + MAX_TILE - 1) / MAX_TILE;
    for (int64_t row = 0; tiles > 0; tiles--) {
        const int rows = (int)((p->rows - row + tiles - 1) / tiles);
        if (p->bits == 4)
            multiply_rows(4, rows, p, row_sums, row, column);
        else
            multiply_rows(8, rows, p, row_sums, row, column);
        row += rows;
    }
}

/* Of each group of columns. */
static void sum_groups(const bf16 *x, int64_t groups, float *sums)
{
    const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3F80);
    for (int64_t i = 0; i < groups; i++) {
        const __m512bh values = (__m512bh)_mm512_loadu_si512(x + i * GROUP);
        sums[i] = _mm512_reduce_add_ps(_mm512_dpbf16_ps(_mm512_setzero_ps(), values, ones));
    }
}

int product(const Product *p)
{
    const int64_t groups = p->rows * (p->width / GROUP);
    const int64_t columns = (p->features + LANES - 1) / LANES;
    float *row_sums = NULL;
    if (p->bits == 4) {
        row_sums = malloc(groups * sizeof *row_sums);
        if (row_sums == NULL)
            return -1;
        sum_groups(p->x, groups, row_sums);
    }
#pragma omp parallel for if (p->rows * p->features * p->width > PARALLEL_SIZE)
    for (int64_t column = 0; column < columns; column++)
        multiply_column(p, row_sums, column);
    free(row_sums);
    return 0;
}

static void look_up_row(const uint8_t *packed, int64_t width, int64_t id, bf16 *out)
{
    const uint8_t *block = packed + id / LANES * (width / GROUP) * block_size(8);
    const int64_t lane = id % LANES;
    for (int64_t column = 0; column < width; column += GROUP, block += block_size(8)) {
        uint16_t pairs[GROUP / 2], half;
        for (int i = 0; i < GROUP / 2; i++)
            memcpy(pairs + i, block + i * 32 + lane * 2, sizeof *pairs);
        memcpy(&half, block + values_size(8) + lane * 2, sizeof half);
        const __m512 scale = _mm512_cvtph_ps(_mm256_set1_epi16((short)half));
        UNROLL
        for (int i = 0; i < 2; i++) {
            const __m128i bytes = _mm_loadu_si128((const __m128i *)pairs + i);
            const __m512 values = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
            store_bf16(out + column + 16 * i, _mm512_mul_ps(values, scale));
        }
    }
}

int look_up(const uint8_t *packed, int64_t features, int64_t width, const int32_t *ids,
            int64_t count, bf16 *out)
{
    for (int64_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= features)
            return -1;
#pragma omp parallel for if (count * width > PARALLEL_SIZE / 8)
    for (int64_t i = 0; i < count; i++)
        look_up_row(packed, width, ids[i], out + i * width);
    return 0;
}

SIMD_END
