#include "dispatch.h"

#include <stddef.h>

#include "processor.h"

/* Best first. */
static const struct {
    const Kernels *kernels;
    int (*runs_here)(void);
} LEVELS[] = {
#ifdef __x86_64__
    {&kernels_amx, has_amx},
    {&kernels_avx512_bf16, has_fast_avx512_bf16},
    {&kernels_avx512_vnni, has_avx512_vnni},
    {&kernels_avx512_bf16, has_slow_avx512_bf16},
    {&kernels_avx512, has_avx512},
    {&kernels_avx_vnni, has_avx_vnni},
    {&kernels_avx2, has_avx2},
#endif
    {&kernels_portable, has_any},
};

const Kernels *kernels_at(int place)
{
    for (size_t i = 0; i < sizeof LEVELS / sizeof *LEVELS; i++)
        if (LEVELS[i].kernels->gemm != NULL && LEVELS[i].runs_here() && place-- == 0)
            return LEVELS[i].kernels;
    return NULL;
}
