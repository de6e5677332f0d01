#include "products.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "panels.h"

/* The largest features of a row that a thread has met: in each lane one, and the column it is
   in. */
typedef struct {
    float values[LANES];
    int32_t columns[LANES];
} Best;

int product(const Product *p)
{
    if (p->rows == 0)
        return 0;
    if (p->rows <= MAX_FEW_ROWS)
        return multiply_few_rows(p);
    multiply_many_rows(p);
    return 0;
}

SIMD_BEGIN

INLINE void keep_best(Best *kept, __m512 sums, int64_t column, __mmask16 present)
{
    const __m512 values = _mm512_loadu_ps(kept->values);
    const __mmask16 larger = _mm512_cmp_ps_mask(sums, values, _CMP_GT_OQ);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(sums, sums, _CMP_UNORD_Q);
    const __mmask16 taken = (larger | is_nan) & present;
    _mm512_mask_storeu_ps(kept->values, taken, sums);
    _mm512_mask_storeu_epi32(kept->columns, taken, _mm512_set1_epi32((int)column));
}

void deliver(const Product *p, int64_t row, int64_t count, int64_t panel, const float *sums)
{
    if (p->form == PRODUCT_GATED) {
        bf16 *out = (bf16 *)p->out + row * (p->features / 2) + panel * LANES;
        for (int64_t r = 0; r < count; r++, out += p->features / 2, sums += PANEL)
            store_bf16(out, _mm512_mul_ps(silu(_mm512_loadu_ps(sums)),
                                          _mm512_loadu_ps(sums + LANES)));
        return;
    }
    Best *kept = NULL;
    if (p->form == PRODUCT_BEST)
        kept = (Best *)p->out + omp_get_thread_num() * p->rows + row;
    for (int v = 0; v < VECTORS; v++) {
        const int64_t column = column_of(p, panel, v);
        const __mmask16 present = first(p->features - column * LANES);
        for (int64_t r = 0; r < count; r++) {
            const __m512 own = _mm512_loadu_ps(sums + r * PANEL + v * LANES);
            const int64_t place = (row + r) * p->features + column * LANES;
            if (kept != NULL)
                keep_best(kept + r, own, column, present);
            else if (p->form == PRODUCT_FLOAT)
                _mm512_mask_storeu_ps((float *)p->out + place, present, own);
            else
                _mm256_mask_storeu_epi16((bf16 *)p->out + place, present, narrow(own));
        }
    }
}

SIMD_END

/* What any thread has met in any lane. */
static void settle(const Best *kept, int64_t rows, int threads, float *value, int64_t *id)
{
    *value = -INFINITY;
    *id = INT64_MAX;
    for (int t = 0; t < threads; t++)
        for (int lane = 0; lane < LANES; lane++) {
            const float other = kept[t * rows].values[lane];
            const int64_t place = (int64_t)kept[t * rows].columns[lane] * LANES + lane;
            if (isnan(other) || other > *value || (other == *value && place < *id)) {
                *value = other;
                *id = place;
            }
            if (isnan(*value))
                return;
        }
}

int best(const Product *given, float *values, int64_t *ids)
{
    const int threads = omp_get_max_threads();
    const int64_t rows = given->rows;
    Best *kept = malloc((threads * rows + 1) * sizeof *kept);
    if (kept == NULL)
        return -1;
    for (int64_t i = 0; i < threads * rows; i++)
        for (int lane = 0; lane < LANES; lane++) {
            kept[i].values[lane] = -INFINITY;
            kept[i].columns[lane] = 0;
        }
    Product p = *given;
    p.form = PRODUCT_BEST;
    p.out = kept;
    const int result = product(&p);
    for (int64_t r = 0; r < rows; r++)
        settle(kept + r, rows, threads, values + r, ids + r);
    free(kept);
    return result;
}
