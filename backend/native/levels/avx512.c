/* AVX-512 as servers have had it since 2017: F, BW, DQ and VL. */
#ifdef __x86_64__

#define LEVEL(name) name##_avx512
#define LEVEL_TARGET "avx512f,avx512bw,avx512dq,avx512vl"
#define ATTENTION_ROWS 6
#define ATTENTION_VECTORS(rows) 4
#define DELTA_PANELS 2
#define DELTA_SUMS 2
#define SSM_PANELS 2
#define SSM_TOKENS 4

#include "levels.h"

#include "../packing.h"

#include "../simd/avx512.h"

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

const Kernels kernels_avx512 = {
    .level = "avx512",
    WEIGHT_KERNELS,
    .attention = attention_avx512,
    OTHER_KERNELS(avx512),
};

#endif
