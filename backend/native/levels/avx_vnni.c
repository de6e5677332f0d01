/* AVX2 that sums products of bytes (vpdpbusd): laptops since Alder Lake and Zen 5. */
#ifdef __x86_64__

#define LEVEL(name) name##_avx2
#include "../attention.h"
#include "../sampling.h"
#include "../tokenwise.h"
#include "../topk.h"
#undef LEVEL

#define LEVEL(name) name##_avx_vnni
#define LEVEL_TARGET "avx2,fma,f16c,avxvnni"
#define HAS_BYTE_PRODUCTS

#include "levels.h"

#include "../packing.h"

#include "../simd/avx2.h"

#include "../kernels/gemm.inc"

const Kernels kernels_avx_vnni = {
    .level = "avx_vnni",
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
