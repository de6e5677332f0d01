/* Plain C, for any processor. */
#define LEVEL(name) name##_portable
#define ATTENTION_ROWS 3
#define ATTENTION_VECTORS(rows) 1

#include "levels.h"

#include "../packing.h"

#include "../simd/portable.h"

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

const Kernels kernels_portable = {
    .level = "portable",
    WEIGHT_KERNELS,
    .attention = attention_portable,
    OTHER_KERNELS(portable),
};
