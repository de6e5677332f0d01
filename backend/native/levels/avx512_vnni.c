/* AVX-512 that sums products of bytes (vpdpbusd): Cascade Lake, Ice Lake and later. */
#ifdef __x86_64__

#define LEVEL(name) name##_avx512
#include "../attention.h"
#include "../sampling.h"
#include "../tokenwise.h"
#include "../topk.h"

#include "levels.h"

const Kernels kernels_avx512_vnni = {
    .level = "avx512_vnni",
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
