/* Tiles of bytes: Sapphire Rapids and later. Dense weights are multiplied as floats: a row has the same
   bits in any batch, which tiles of bf16 would add in another order, and vdpbf16ps is slow there. */
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

#include "../simd/tiles.h"

#include "levels.h"

#ifdef HAS_TILES

#define LEVEL_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni" TILES_TARGET
#define GROUPS_LEVEL(name) name##_avx512_vnni

#include "../gemm.h"
#include "../packing.h"

#include "../simd/avx512.h"
#include "../simd/bytes.h"

#include "../kernels/gemm_groups.h"

SIMD_BEGIN

#include "../kernels/gemm_tiles.inc"

SIMD_END

static int prepare(const Gemm *p, Product *product)
{
    static const GroupTiles tiles = {begin_tiles, multiply_tiles, end_tiles};
    if (p->format == BF16)
        return kernels_avx512_vnni.prepare(p, product);
    if (p->activations == ACTIVATIONS_BF16)
        return kernels_avx512_bf16.prepare(p, product);
    return prepare_groups_avx512_vnni(p, &tiles, product);
}

static int gemm(const Gemm *p)
{
    return gemm_by(prepare, p);
}

static int grouped_gemm(const GroupedGemm *g)
{
    return grouped_gemm_by(prepare, g);
}

static int head_gemm(const HeadGemm *h)
{
    return head_gemm_by(prepare, h);
}

static int argmax(const Argmax *a)
{
    return argmax_by(gemm, a);
}

#endif

const Kernels kernels_amx = {
    .level = "amx",
#ifdef HAS_TILES
    WEIGHT_KERNELS,
#endif
    .attention = attention_avx512,
    OTHER_KERNELS(avx512),
};

#endif
