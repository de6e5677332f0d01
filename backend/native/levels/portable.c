/* Plain C, for any processor. */
#define LEVEL(name) name##_portable
#define ATTENTION_ROWS 3
#define ATTENTION_VECTORS(rows) 1

#include "levels.h"

#include "../packing.h"

#include "../simd/portable.h"

#include "../kernels/attention.inc"
#include "../kernels/gemm.inc"
#include "../kernels/sampling.inc"
#include "../kernels/tokenwise.inc"
#include "../kernels/topk.inc"

const Kernels kernels_portable = {
    .level = "portable",
    .packed_size = packed_size,
    .pack = pack,
    .gemm = gemm,
    .argmax = argmax,
    .embed = embed,
    .add_rms_norm = add_rms_norm_portable,
    .rotate_store = rotate_store_portable,
    .silu_mul = silu_mul_portable,
    .attention = attention_portable,
    .topk = topk_portable,
    .exp_sums = exp_sums_portable,
    .count_greater = count_greater_portable,
    .apply_masks = apply_masks_portable,
};
