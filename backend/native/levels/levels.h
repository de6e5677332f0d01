/* The levels of instructions: for each a table of functions, in the file of its name. A level takes from
   another what it would compile alike. */
#ifndef UNISONO_LEVELS_H
#define UNISONO_LEVELS_H

#include "../gemm.h"

/* Functions that return int return 0, or -1: no memory, or for embed no such row. */
typedef struct {
    const char *level;
    int64_t (*packed_size)(const Pack *);
    void (*pack)(const Pack *);
    Prepare prepare;
    int (*gemm)(const Gemm *);
    int (*grouped_gemm)(const GroupedGemm *);
    int (*head_gemm)(const HeadGemm *);
    int (*argmax)(const Argmax *);
    int (*embed)(const Embed *);
    void (*add_rms_norm)(const AddRmsNorm *);
    void (*rotate_store)(const RotateStore *);
    void (*latent_store)(const LatentStore *);
    void (*head_norm)(const HeadNorm *);
    void (*add_layer_norm)(const AddLayerNorm *);
    void (*gate_mul)(const GateMul *);
    void (*scaled_sum)(const ScaledSum *);
    void (*route)(const Route *);
    void (*gather_rows)(const GatherRows *);
    void (*take_columns)(const TakeColumns *);
    void (*sum_experts)(const SumExperts *);
    void (*attention)(const Attention *);
    void (*latent_attention)(const LatentAttention *);
    void (*delta_rule)(const DeltaRule *);
    void (*gated_norm)(const GatedNorm *);
    void (*gated_squares)(const GatedSquares *);
    void (*ssm_scan)(const SsmScan *);
    void (*causal_conv)(const CausalConv *);
    int (*topk)(const TopK *);
    void (*exp_sums)(const ExpSums *);
    void (*count_greater)(const CountGreater *);
    void (*apply_masks)(const ApplyMasks *);
} Kernels;

/* What a table has of weights: the packing, which is one for all levels, and the level's own GEMM. */
#define WEIGHT_KERNELS \
    .packed_size = packed_size, .pack = pack, .prepare = prepare, .gemm = gemm, \
    .grouped_gemm = grouped_gemm, .head_gemm = head_gemm, .argmax = argmax, .embed = embed

/* All else but attention, as the level of this name compiles it. */
#define OTHER_KERNELS(level) \
    .add_rms_norm = add_rms_norm_##level, .rotate_store = rotate_store_##level, \
    .latent_store = latent_store_##level, .head_norm = head_norm_##level, .add_layer_norm = add_layer_norm_##level, \
    .gate_mul = gate_mul_##level, .scaled_sum = scaled_sum_##level, \
    .route = route_##level, .gather_rows = gather_rows_##level, .sum_experts = sum_experts_##level, \
    .take_columns = take_columns_##level, \
    .causal_conv = causal_conv_##level, \
    .latent_attention = latent_attention_##level, .topk = topk_##level, \
    .exp_sums = exp_sums_##level, .count_greater = count_greater_##level, \
    .apply_masks = apply_masks_##level, .delta_rule = delta_rule_##level, \
    .gated_norm = gated_norm_##level, .gated_squares = gated_squares_##level, \
    .ssm_scan = ssm_scan_##level

extern const Kernels kernels_amx, kernels_avx512_bf16, kernels_avx512_vnni, kernels_avx512,
    kernels_avx_vnni, kernels_avx2, kernels_portable;

#endif
