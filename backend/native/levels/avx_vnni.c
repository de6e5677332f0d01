/* AVX2 that sums products of bytes (vpdpbusd): laptops since Alder Lake and Zen 5. */
#ifdef __x86_64__

#define LEVEL(name) name##_avx2
#include "../attention.h"
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

#define LEVEL(name) name##_avx_vnni
#define LEVEL_TARGET "avx2,fma,f16c,avxvnni"
#define HAS_BYTE_PRODUCTS

#include "levels.h"

#include "../packing.h"

#include "../simd/avx2.h"

#include "../kernels/gemm.inc"

const Kernels kernels_avx_vnni = {
    .level = "avx_vnni",
    WEIGHT_KERNELS,
    .attention = attention_avx2,
    OTHER_KERNELS(avx2),
};

#endif
