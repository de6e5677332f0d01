/* Few bits become bf16 in registers, where integers so small are exact: a product of few rows waits
   for memory. Sums are float32, scaled group by group. */
#include <stdlib.h>

#include "groups.h"
#include "products.h"

enum {
    /* So many rows' sums, scaled and not, fit in the registers. */
    MAX_TILE = 12,
    /* Multiplications from which on a second thread pays for being woken. */
    PARALLEL_SIZE = 1 << 17,
};

SIMD_BEGIN

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
        fetch_ahead(bits, block);
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
        const __m512 scale = load_scales(bits, block);
        UNROLL
        for (int r = 0; r < rows; r++)
            total[r] = _mm512_fmadd_ps(sum[r], scale, total[r]);
        if (bits == 4) {
            const __m512 minimum = load_minimums(block);
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

int multiply_few_rows(const Product *p)
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

SIMD_END
