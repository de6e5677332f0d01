/* GEMM of a large M. 32 features at a time become bf16, once for all rows: a panel. The GEMM then runs
   at the rate of vdpbf16ps (at seven eighths of it with 64 rows), and memory is read in few bits. K is
   cut so that a panel, and the sums that wait for its next part, stay in a core's cache. */

#include "epilogue.h"
#include "gemm_large_m.h"
#include "panels.h"
#include "threads.h"

enum {
    /* The sums of so many rows fit in the registers. */
    MAX_TILE = 12,
    DEPTH = 1536,
    /* The sums of so many rows wait for the rest of K. */
    MAX_WAITING = 20 * MAX_TILE,
    /* For fewer rows a panel is not laid out twice. */
    MIN_PART = 4 * MAX_TILE,
};

typedef struct {
    uint32_t pairs[DEPTH / 2 * PANEL]; /* [columns / 2, 32 features] */
    float sums[MAX_WAITING * PANEL];   /* [rows, 32 features] */
} __attribute__((aligned(64))) Scratch;

SIMD_BEGIN

/* Repeat the factor of each feature for both columns of a pair: features 0 to 7, then 8 to 15. */
INLINE void double_lanes(__m512 factors, __m512 out[2])
{
    const __m512i low = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    out[0] = _mm512_permutexvar_ps(low, factors);
    out[1] = _mm512_permutexvar_ps(_mm512_add_epi32(low, _mm512_set1_epi32(8)), factors);
}

INLINE void store_pairs(const __m512 halves[2], uint32_t *out)
{
    _mm512_store_si512(out, (__m512i)_mm512_cvtne2ps_pbh(halves[1], halves[0]));
}

INLINE void expand_4_bits(const uint8_t *block, uint32_t *out)
{
    const __m512 table = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512 scales[2], mins[2];
    double_lanes(load_scales(4, block), scales);
    double_lanes(load_mins(block), mins);
    UNROLL
    for (int pair = 0; pair < PAIRS; pair++) {
        const __m256i *quarter = (const __m256i *)(block + pair / QUARTERS * 64);
        __m512 halves[2];
        UNROLL
        for (int h = 0; h < 2; h++) {
            const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(quarter + h));
            const __m512i values = _mm512_srli_epi32(words, pair % 4 * 4);
            /* The table looks at the lowest four bits only. */
            halves[h] = _mm512_permutexvar_ps(values, table);
            halves[h] = _mm512_fmadd_ps(halves[h], scales[h], mins[h]);
        }
        store_pairs(halves, out + pair * PANEL);
    }
}

INLINE void expand_8_bits(const uint8_t *block, uint32_t *out)
{
    __m512 scales[2];
    double_lanes(load_scales(8, block), scales);
    UNROLL
    for (int pair = 0; pair < PAIRS; pair++) {
        const __m128i *bytes = (const __m128i *)(block + pair * 32);
        __m512 halves[2];
        UNROLL
        for (int h = 0; h < 2; h++) {
            const __m512i values = _mm512_cvtepi8_epi32(_mm_loadu_si128(bytes + h));
            halves[h] = _mm512_mul_ps(_mm512_cvtepi32_ps(values), scales[h]);
        }
        store_pairs(halves, out + pair * PANEL);
    }
}

INLINE void copy_16_bits(const uint8_t *block, uint32_t *out)
{
    UNROLL
    for (int pair = 0; pair < PAIRS; pair++)
        _mm512_store_si512(out + pair * PANEL, _mm512_loadu_si512(block + pair * 64));
}

/* Expand `depth` columns of the weights from `start` on. */
static void expand(const Gemm *p, int64_t panel, int64_t start, int64_t depth, uint32_t *out)
{
    const int64_t groups = p->K / GROUP, size = block_size(p->bits);
    for (int v = 0; v < VECTORS && column_of(p, panel, v) < num_columns(p); v++) {
        const int64_t first_block = column_of(p, panel, v) * groups + start / GROUP;
        const uint8_t *block = p->packed + first_block * size;
        for (int64_t group = 0; group < depth / GROUP; group++, block += size) {
            uint32_t *place = out + group * PAIRS * PANEL + v * LANES;
            fetch(p->bits, block + AHEAD * size);
            if (p->bits == 4)
                expand_4_bits(block, place);
            else if (p->bits == 8)
                expand_8_bits(block, place);
            else
                copy_16_bits(block, place);
        }
    }
}

/* Multiply `rows` rows of x, each K long, by a panel of `depth` columns. sums: [rows, 32 features],
   with those of the columns before. */
INLINE void multiply(int rows, const bf16 *x, int64_t K, const uint32_t *panel, int64_t depth,
                     int is_first, float *sums)
{
    __m512 sum[MAX_TILE][VECTORS];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int v = 0; v < VECTORS; v++)
            sum[r][v] = is_first ? _mm512_setzero_ps()
                                 : _mm512_load_ps(sums + r * PANEL + v * LANES);
    for (int64_t column = 0; column < depth; column += 2, panel += PANEL) {
        __m512bh weights[VECTORS];
        UNROLL
        for (int v = 0; v < VECTORS; v++)
            weights[v] = (__m512bh)_mm512_load_si512(panel + v * LANES);
        UNROLL
        for (int r = 0; r < rows; r++) {
            const __m512bh pair = load_pair(x + r * K + column);
            UNROLL
            for (int v = 0; v < VECTORS; v++)
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], weights[v], pair);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int v = 0; v < VECTORS; v++)
            _mm512_store_ps(sums + r * PANEL + v * LANES, sum[r][v]);
}

/* This is compiled once for each number of rows, so that sums stay in registers. */
static void multiply_tile(int rows, const bf16 *x, int64_t K, const uint32_t *panel,
                          int64_t depth, int is_first, float *sums)
{
#define TILE(n) \
    case n: multiply(n, x, K, panel, depth, is_first, sums); break
    switch (rows) {
    TILE(1); TILE(2); TILE(3); TILE(4); TILE(5); TILE(6);
    TILE(7); TILE(8); TILE(9); TILE(10); TILE(11); TILE(12);
    }
#undef TILE
}

/* Multiply `count` rows from `first_row` on, in tiles that are about equal. */
static void multiply_panel(const Gemm *p, int64_t first_row, int64_t count, int64_t panel,
                           int thread)
{
    Scratch s;
    for (int64_t start = 0; start < p->K; start += DEPTH) {
        const int64_t left = p->K - start, depth = left < DEPTH ? left : DEPTH;
        expand(p, panel, start, depth, s.pairs);
        int64_t row = 0;
        for (int64_t tiles = (count + MAX_TILE - 1) / MAX_TILE; tiles > 0; tiles--) {
            const int rows = (int)((count - row + tiles - 1) / tiles);
            const bf16 *x = p->x + (first_row + row) * p->K + start;
            /* Without a cut no sum waits, and rows may be more than there is room for. */
            float *sums = p->K > DEPTH ? s.sums + row * PANEL : s.sums;
            multiply_tile(rows, x, p->K, s.pairs, depth, start == 0, sums);
            if (depth == left)
                apply_epilogue(p, first_row + row, rows, panel, sums, thread);
            row += rows;
        }
    }
}

/* Return how many rows share a panel: all, unless there are too few panels for the threads. */
static int64_t rows_of_part(const Gemm *p)
{
    const int64_t parts = (4 * num_threads() + num_panels(p) - 1) / num_panels(p);
    int64_t rows = (p->M + parts - 1) / parts;
    rows = rows < MIN_PART ? MIN_PART : rows;
    return p->K > DEPTH && rows > MAX_WAITING ? MAX_WAITING : rows;
}

typedef struct {
    const Gemm *p;
    int64_t rows; /* of a part */
} Parts;

static void multiply_part(void *parts, int64_t index, int thread)
{
    const Parts *a = parts;
    const int64_t panels = num_panels(a->p), row = index / panels * a->rows;
    const int64_t left = a->p->M - row;
    multiply_panel(a->p, row, left < a->rows ? left : a->rows, index % panels, thread);
}

void gemm_large_m(const Gemm *p)
{
    Parts parts = {p, rows_of_part(p)};
    const int64_t count = (p->M + parts.rows - 1) / parts.rows;
    parallel_for(count * num_panels(p), multiply_part, &parts);
}

SIMD_END
