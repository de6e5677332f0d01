/* AVX2 with FMA and F16C: most processors since 2013. A vector is two of 16 registers. */
#ifdef __x86_64__

#define LEVEL(name) name##_avx2
#define LEVEL_TARGET "avx2,fma,f16c"
#define ATTENTION_ROWS 6
#define ATTENTION_VECTORS(rows) ((rows) == 1 ? 4 : (rows) == 2 ? 2 : 1)

#include "levels.h"

#include "../packing.h"

#include "../simd/avx2.h"

#include "../kernels/attention.inc"
#include "../kernels/gemm.inc"
#include "../kernels/sampling.inc"
#include "../kernels/tokenwise.inc"
#include "../kernels/topk.inc"

const Kernels kernels_avx2 = {
    .level = "avx2",
    .packed_size = packed_size,
    .pack = pack,
    .gemm = gemm,
    .argmax = argmax,
    .embed = embed,
    .add_rms_norm = add_rms_norm_avx2,
    .rotate_store = rotate_store_avx2,
    .silu_mul = silu_mul_avx2,
    .attention = attention_avx2,
    .topk = topk_avx2,
    .exp_sums = exp_sums_avx2,
    .count_greater = count_greater_avx2,
    .apply_masks = apply_masks_avx2,
};

#endif
