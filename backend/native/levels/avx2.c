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
#include "../kernels/latent_attention.inc"
#include "../kernels/causal_conv.inc"
#include "../kernels/gemm.inc"
#include "../kernels/sampling.inc"
#include "../kernels/tokenwise.inc"
#include "../kernels/gates.inc"
#include "../kernels/experts.inc"
#include "../kernels/delta_rule.inc"
#include "../kernels/gated_norm.inc"
#include "../kernels/ssm_scan.inc"
#include "../kernels/topk.inc"

const Kernels kernels_avx2 = {
    .level = "avx2",
    WEIGHT_KERNELS,
    .attention = attention_avx2,
    OTHER_KERNELS(avx2),
};

#endif
