#include <math.h>
#include <stdlib.h>

#include "gemm.h"
#include "threads.h"

static void reduce_lanes(const LaneMax *kept, int64_t M, int threads, float *value, int64_t *id)
{
    *value = -INFINITY;
    *id = INT64_MAX;
    for (int t = 0; t < threads; t++)
        for (int lane = 0; lane < FEATURES; lane++) {
            const float other = kept[t * M].values[lane];
            const int64_t place = (int64_t)kept[t * M].columns[lane] * FEATURES + lane;
            if (isnan(other) || other > *value || (other == *value && place < *id)) {
                *value = other;
                *id = place;
            }
            if (isnan(*value))
                return;
        }
}

int argmax_by(int (*gemm)(const Gemm *), const Argmax *a)
{
    const int threads = num_threads();
    const int64_t M = a->M;
    LaneMax *kept = malloc((size_t)(threads * M + 1) * sizeof *kept);
    if (kept == NULL)
        return -1;
    for (int64_t i = 0; i < threads * M; i++)
        for (int lane = 0; lane < FEATURES; lane++) {
            kept[i].values[lane] = -INFINITY;
            kept[i].columns[lane] = 0;
        }
    const Gemm p = {
        .format = a->format, .activations = a->activations, .M = M, .N = a->N, .K = a->K, .x = a->x,
        .x_stride = a->K, .packed = a->packed, .out = kept, .epilogue = EPILOGUE_ARGMAX,
    };
    const int result = gemm(&p);
    for (int64_t row = 0; row < M; row++)
        reduce_lanes(kept + row, M, threads, a->values + row, a->ids + row);
    free(kept);
    return result;
}
