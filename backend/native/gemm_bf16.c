#include "gemm_bf16.h"

#include <math.h>
#include <stdlib.h>

#include "epilogue.h"
#include "gemm_large_m.h"
#include "gemm_small_m.h"
#include "threads.h"

int gemm(const Gemm *p)
{
    if (p->M == 0)
        return 0;
    if (p->M <= MAX_SMALL_M)
        return gemm_small_m(p);
    gemm_large_m(p);
    return 0;
}

int argmax(const Argmax *a)
{
    const int threads = num_threads();
    const int64_t M = a->M;
    LaneMax *kept = malloc((threads * M + 1) * sizeof *kept);
    if (kept == NULL)
        return -1;
    for (int64_t i = 0; i < threads * M; i++)
        for (int lane = 0; lane < LANES; lane++) {
            kept[i].values[lane] = -INFINITY;
            kept[i].columns[lane] = 0;
        }
    const Gemm p = {
        .bits = a->bits, .M = M, .N = a->N, .K = a->K, .x = a->x, .packed = a->packed,
        .out = kept, .epilogue = EPILOGUE_ARGMAX,
    };
    const int result = gemm(&p);
    for (int64_t row = 0; row < M; row++)
        reduce_lanes(kept + row, M, threads, a->values + row, a->ids + row);
    free(kept);
    return result;
}
