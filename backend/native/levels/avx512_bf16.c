/* AVX-512 that multiplies pairs of bf16 (vdpbf16ps): Cooper Lake, Sapphire Rapids, Zen 4 and later. */
#ifdef __x86_64__

#define LEVEL(name) name##_avx512
#include "../causal_conv.h"
#include "../delta_rule.h"
#include "../experts.h"
#include "../gated_norm.h"
#include "../gates.h"
#include "../latent_attention.h"
#include "../sampling.h"
#include "../ssm_scan.h"
#include "../tokenwise.h"
#include "../topk.h"
#undef LEVEL

#define LEVEL(name) name##_avx512_bf16
#define LEVEL_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16"
#define HAS_BYTE_PRODUCTS
#define HAS_BF16_PRODUCTS
#define ATTENTION_ROWS 6
#define ATTENTION_VECTORS(rows) 4
#define GROUPS_LEVEL(name) name##_avx512_vnni

#include "levels.h"

#include "../packing.h"

#include "../simd/avx512.h"

#include "../kernels/attention.inc"
#include "../kernels/gemm.inc"

const Kernels kernels_avx512_bf16 = {
    .level = "avx512_bf16",
    WEIGHT_KERNELS,
    .attention = attention_avx512_bf16,
    OTHER_KERNELS(avx512),
};

#endif
