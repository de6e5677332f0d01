/* GEMM of a small M. Few bits become bf16 in registers, where integers so small are exact, again for
   every eight rows: memory is read once, in few bits. Sums are float32, scaled group by group; bf16
   weights are taken as they lie. */
#include <stdlib.h>

#include "gemm_small_m.h"

#include "epilogue.h"
#include "panels.h"
#include "threads.h"

enum {
    /* The sums of so many rows by two columns of blocks fit in the registers. */
    MAX_TILE = 8,
    /* Up to so many rows columns go one after the other, by bits; measured. */
    MAX_APART_4 = 2,
    MAX_APART_8 = 6,
    MAX_APART_16 = MAX_TILE,
    /* From so many multiplications on a second thread pays for being woken. */
    PARALLEL_SIZE = 1 << 17,
};

SIMD_BEGIN

/* Load a pair of columns of 16 features: the i-th of four in a quarter of a block's values. */
INLINE __m512bh load_values(int bits, const uint8_t *quarter, int i)
{
    if (bits == 4) {
        /* The table has 0 to 15 in bf16. Only the lowest four bits of a word count: both halves are
           alike. */
        const __m512i table = _mm512_broadcast_i64x4(_mm256_set_epi16(
            0x4170, 0x4160, 0x4150, 0x4140, 0x4130, 0x4120, 0x4110, 0x4100, 0x40E0, 0x40C0, 0x40A0,
            0x4080, 0x4040, 0x4000, 0x3F80, 0));
        const __m512i words = _mm512_loadu_si512(quarter);
        return (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4 * i), table);
    }
    if (bits == 16)
        return (__m512bh)_mm512_loadu_si512(quarter + 64 * i);
    __m512 half[2];
    UNROLL
    for (int h = 0; h < 2; h++) {
        const __m128i *bytes = (const __m128i *)(quarter + 32 * i + 16 * h);
        half[h] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes)));
    }
    return _mm512_cvtne2ps_pbh(half[1], half[0]);
}

/* Multiply `rows` rows from `row` on by `vectors` of a panel's columns, from `first_vector` on.
   sums: [rows, PANEL], those of the first row and column. */
INLINE void multiply(int bits, int rows, int vectors, const Gemm *p, const float *row_sums,
                     int64_t row, int64_t panel, int first_vector, float *sums)
{
    const int64_t groups = p->K / GROUP, size = block_size(bits);
    const bf16 *x = p->x + row * p->K;
    const uint8_t *block[VECTORS], *next[VECTORS];
    UNROLL
    for (int v = 0; v < vectors; v++) {
        const int64_t column = column_of(p, panel, first_vector + v);
        /* A missing column aliases column 0; its sums are discarded. */
        block[v] = p->packed + (column < num_columns(p) ? column : 0) * groups * size;
        /* Two columns at once fetch the next panel's behind their end. */
        next[v] = p->packed + (column_of(p, panel + 1, v) - 1) * groups * size;
    }
    __m512 total[MAX_TILE][VECTORS];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int v = 0; v < vectors; v++)
            total[r][v] = _mm512_setzero_ps();
    for (int64_t group = 0; group < groups; group++, x += GROUP) {
        __m512 sum[MAX_TILE][VECTORS];
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
            for (int v = 0; v < vectors; v++)
                sum[r][v] = _mm512_setzero_ps();
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const int is_own = vectors == 1 || group + AHEAD < groups;
            fetch(bits, (is_own ? block[v] : next[v] + group * size) + AHEAD * size);
        }
        UNROLL
        for (int pair = 0; pair < PAIRS; pair++) {
            __m512bh values[VECTORS];
            UNROLL
            for (int v = 0; v < vectors; v++) {
                const uint8_t *quarter = block[v] + pair / QUARTERS * values_size(bits) / QUARTERS;
                values[v] = load_values(bits, quarter, pair % QUARTERS);
            }
            UNROLL
            for (int r = 0; r < rows; r++) {
                const __m512bh both = load_pair(x + r * p->K + 2 * pair);
                UNROLL
                for (int v = 0; v < vectors; v++)
                    sum[r][v] = _mm512_dpbf16_ps(sum[r][v], values[v], both);
            }
        }
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const __m512 scale = bits == 16 ? _mm512_set1_ps(1.0f) : load_scales(bits, block[v]);
            const __m512 min = bits == 4 ? load_mins(block[v]) : scale;
            UNROLL
            for (int r = 0; r < rows; r++) {
                total[r][v] = _mm512_fmadd_ps(sum[r][v], scale, total[r][v]);
                if (bits == 4) {
                    const float row_sum = row_sums[(row + r) * groups + group];
                    total[r][v] = _mm512_fmadd_ps(_mm512_set1_ps(row_sum), min, total[r][v]);
                }
            }
            block[v] += size;
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(sums + r * PANEL + v * LANES, total[r][v]);
}

/* This is compiled once for each number of rows, so that sums stay in registers. */
INLINE void multiply_rows(int bits, int rows, int vectors, const Gemm *p, const float *row_sums,
                          int64_t row, int64_t panel, int first_vector, float *sums)
{
#define ROWS(n) \
    case n: multiply(bits, n, vectors, p, row_sums, row, panel, first_vector, sums); break
    switch (rows) {
    ROWS(1); ROWS(2); ROWS(3); ROWS(4); ROWS(5); ROWS(6); ROWS(7); ROWS(8);
    }
#undef ROWS
}

_Static_assert(MAX_APART_4 <= MAX_TILE && MAX_APART_8 <= MAX_TILE && MAX_APART_16 <= MAX_TILE,
               "a column is multiplied in one tile");

/* Multiply all rows by one column of blocks. */
static void multiply_column(const Gemm *p, const float *row_sums, int64_t panel, int v,
                            float *sums)
{
    const int rows = (int)p->M;
    if (p->bits == 4)
        multiply_rows(4, rows, 1, p, row_sums, 0, panel, v, sums);
    else if (p->bits == 8)
        multiply_rows(8, rows, 1, p, row_sums, 0, panel, v, sums);
    else
        multiply_rows(16, rows, 1, p, row_sums, 0, panel, v, sums);
}

/* Multiply all rows by both columns of a panel, in tiles that are about equal. */
static void multiply_columns(const Gemm *p, const float *row_sums, int64_t panel, float *sums)
{
    int64_t row = 0;
    for (int64_t tiles = (p->M + MAX_TILE - 1) / MAX_TILE; tiles > 0; tiles--) {
        const int rows = (int)((p->M - row + tiles - 1) / tiles);
        if (p->bits == 4)
            multiply_rows(4, rows, 2, p, row_sums, row, panel, 0, sums + row * PANEL);
        else if (p->bits == 8)
            multiply_rows(8, rows, 2, p, row_sums, row, panel, 0, sums + row * PANEL);
        else
            multiply_rows(16, rows, 2, p, row_sums, row, panel, 0, sums + row * PANEL);
        row += rows;
    }
}

typedef struct {
    const Gemm *p;
    const float *row_sums; /* [M, K / GROUP], of x; with 4 bits */
} SmallGemm;

/* Two columns at once share what is loaded of x; one after the other they are one stream of memory,
   which counts more with few rows. */
static void multiply_panel(void *call, int64_t panel, int thread)
{
    const SmallGemm *small = call;
    const Gemm *p = small->p;
    const float *row_sums = small->row_sums;
    float sums[MAX_SMALL_M * PANEL];
    const int apart = p->bits == 4 ? MAX_APART_4 : p->bits == 8 ? MAX_APART_8 : MAX_APART_16;
    if (p->M > apart)
        multiply_columns(p, row_sums, panel, sums);
    else
        for (int v = 0; v < VECTORS; v++)
            if (column_of(p, panel, v) < num_columns(p))
                multiply_column(p, row_sums, panel, v, sums + v * LANES);
    apply_epilogue(p, 0, p->M, panel, sums, thread);
}

/* Sum each group of columns of x. */
static void sum_groups(const bf16 *x, int64_t groups, float *sums)
{
    const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3F80);
    for (int64_t i = 0; i < groups; i++) {
        const __m512bh values = (__m512bh)_mm512_loadu_si512(x + i * GROUP);
        sums[i] = _mm512_reduce_add_ps(_mm512_dpbf16_ps(_mm512_setzero_ps(), values, ones));
    }
}

int gemm_small_m(const Gemm *p)
{
    const int64_t groups = p->M * (p->K / GROUP);
    float *row_sums = NULL;
    if (p->bits == 4) {
        row_sums = malloc(groups * sizeof *row_sums);
        if (row_sums == NULL)
            return -1;
        sum_groups(p->x, groups, row_sums);
    }
    SmallGemm small = {p, row_sums};
    parallel_for_if(p->M * p->N * p->K > PARALLEL_SIZE, num_panels(p), multiply_panel, &small);
    free(row_sums);
    return 0;
}

SIMD_END
