/* AVX-512 that sums products of bytes (vpdpbusd): Cascade Lake, Ice Lake and later. */
#ifdef __x86_64__

#define LEVEL(name) name##_avx512
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

#define LEVEL(name) name##_avx512_vnni
#define LEVEL_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#define HAS_BYTE_PRODUCTS

#include "levels.h"

#include "../packing.h"

#include "../simd/avx512.h"

#include "../kernels/gemm.inc"

const Kernels kernels_avx512_vnni = {
    .level = "avx512_vnni",
    WEIGHT_KERNELS,
    .attention = attention_avx512,
    OTHER_KERNELS(avx512),
};

#endif
