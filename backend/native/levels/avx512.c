/* AVX-512 as servers have had it since 2017: F, BW, DQ and VL. */
#ifdef __x86_64__

#define LEVEL(name) name##_avx512
#define LEVEL_TARGET "avx512f,avx512bw,avx512dq,avx512vl"
#define ATTENTION_ROWS 6
#define ATTENTION_VECTORS(rows) 4

#include "levels.h"

#include "../packing.h"

#include "../simd/avx512.h"

#include "../kernels/attention.inc"
#include "../kernels/gemm.inc"
#include "../kernels/sampling.inc"
#include "../kernels/tokenwise.inc"
#include "../kernels/topk.inc"

const Kernels kernels_avx512 = {
    .level = "avx512",
    .packed_size = packed_size,
    .pack = pack,
    .gemm = gemm,
    .argmax = argmax,
    .embed = embed,
    .add_rms_norm = add_rms_norm_avx512,
    .rotate_store = rotate_store_avx512,
    .silu_mul = silu_mul_avx512,
    .attention = attention_avx512,
    .topk = topk_avx512,
    .exp_sums = exp_sums_avx512,
    .count_greater = count_greater_avx512,
    .apply_masks = apply_masks_avx512,
};

#endif
