#include "dispatch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "epilogue.h"
#include "gemm_large_m.h"
#include "gemm_small_m.h"
#include "packing.h"
#include "threads.h"
#include "tokenwise.h"
#include "topk.h"

static int gemm(const Gemm *p)
{
    if (p->M == 0)
        return 0;
    if (p->M <= MAX_SMALL_M)
        return gemm_small_m(p);
    gemm_large_m(p);
    return 0;
}

static int argmax(const Argmax *a)
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

/* Best first. A level is one line here, and a set of functions that run on it. */
static const Kernels LEVELS[] = {
    {
        .level = "avx512_bf16",
        .packed_size = packed_size, .pack = pack, .gemm = gemm, .argmax = argmax, .embed = embed,
        .add_rms_norm = add_rms_norm, .rotate_store = rotate_store, .silu_mul = silu_mul,
        .attention = attention, .topk = topk,
    },
};

static int runs_here(const char *level)
{
    __builtin_cpu_init();
    if (strcmp(level, "avx512_bf16") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
               && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
    return 0;
}

const Kernels *kernels_at(int place)
{
    for (size_t i = 0; i < sizeof LEVELS / sizeof *LEVELS; i++)
        if (runs_here(LEVELS[i].level) && place-- == 0)
            return &LEVELS[i];
    return NULL;
}
