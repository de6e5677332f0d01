#include "epilogue.h"

#include <math.h>
#include <stddef.h>

SIMD_BEGIN

/* Keep the lanes that are larger than what was met before, and NaN in any case. */
INLINE void keep_max(LaneMax *kept, __m512 sums, int64_t column, __mmask16 present)
{
    const __m512 values = _mm512_loadu_ps(kept->values);
    const __mmask16 larger = _mm512_cmp_ps_mask(sums, values, _CMP_GT_OQ);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(sums, sums, _CMP_UNORD_Q);
    const __mmask16 taken = (larger | is_nan) & present;
    _mm512_mask_storeu_ps(kept->values, taken, sums);
    _mm512_mask_storeu_epi32(kept->columns, taken, _mm512_set1_epi32((int)column));
}

void apply_epilogue(const Gemm *p, int64_t row, int64_t count, int64_t panel, const float *sums,
                    int thread)
{
    if (p->epilogue == EPILOGUE_SWIGLU) {
        bf16 *out = (bf16 *)p->out + row * (p->N / 2) + panel * LANES;
        for (int64_t r = 0; r < count; r++, out += p->N / 2, sums += PANEL)
            store_bf16(out, _mm512_mul_ps(silu(_mm512_loadu_ps(sums)),
                                          _mm512_loadu_ps(sums + LANES)));
        return;
    }
    LaneMax *kept = NULL;
    if (p->epilogue == EPILOGUE_ARGMAX)
        kept = (LaneMax *)p->out + thread * p->M + row;
    for (int v = 0; v < VECTORS; v++) {
        const int64_t column = column_of(p, panel, v);
        const __mmask16 present = first(p->N - column * LANES);
        for (int64_t r = 0; r < count; r++) {
            const __m512 own = _mm512_loadu_ps(sums + r * PANEL + v * LANES);
            const int64_t place = (row + r) * p->N + column * LANES;
            if (kept != NULL)
                keep_max(kept + r, own, column, present);
            else if (p->epilogue == EPILOGUE_FLOAT)
                _mm512_mask_storeu_ps((float *)p->out + place, present, own);
            else
                _mm256_mask_storeu_epi16((bf16 *)p->out + place, present, narrow(own));
        }
    }
}

SIMD_END

void reduce_lanes(const LaneMax *kept, int64_t M, int threads, float *value, int64_t *id)
{
    *value = -INFINITY;
    *id = INT64_MAX;
    for (int t = 0; t < threads; t++)
        for (int lane = 0; lane < LANES; lane++) {
            const float other = kept[t * M].values[lane];
            const int64_t place = (int64_t)kept[t * M].columns[lane] * LANES + lane;
            if (isnan(other) || other > *value || (other == *value && place < *id)) {
                *value = other;
                *id = place;
            }
            if (isnan(*value))
                return;
        }
}
