/* AVX2 that sums products of bytes (vpdpbusd): laptops since Alder Lake and Zen 5. */
#ifdef __x86_64__

#define LEVEL(name) name##_avx2
#include "../attention.h"
#include "../sampling.h"
#include "../tokenwise.h"
#include "../topk.h"

#include "levels.h"

const Kernels kernels_avx_vnni = {
    .level = "avx_vnni",
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
