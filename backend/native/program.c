/* Runs a forward pass that Python has recorded call by call. */
#include "program.h"

#include <stddef.h>

#define PLAIN(name, Call) \
    static int run_##name(const Kernels *kernels, const void *call) \
    { \
        kernels->name(call); \
        return 0; \
    }

#define FALLIBLE(name, Call) \
    static int run_##name(const Kernels *kernels, const void *call) \
    { \
        return kernels->name(call); \
    }

/* Those that know no addresses but of rows, weights, the cache and a plan of attention. */
#define EACH(PLAIN, FALLIBLE) \
    FALLIBLE(gemm, Gemm) \
    PLAIN(add_rms_norm, AddRmsNorm) \
    PLAIN(rotate_store, RotateStore) \
    PLAIN(latent_store, LatentStore) \
    PLAIN(head_norm, HeadNorm) \
    PLAIN(add_layer_norm, AddLayerNorm) \
    PLAIN(gate_mul, GateMul) \
    PLAIN(scaled_sum, ScaledSum) \
    PLAIN(route, Route) \
    PLAIN(gather_rows, GatherRows) \
    PLAIN(take_columns, TakeColumns) \
    FALLIBLE(grouped_gemm, GroupedGemm) \
    PLAIN(sum_experts, SumExperts) \
    PLAIN(attention, Attention) \
    FALLIBLE(head_gemm, HeadGemm) \
    PLAIN(latent_attention, LatentAttention) \
    PLAIN(causal_conv, CausalConv) \
    PLAIN(delta_rule, DeltaRule) \
    PLAIN(ssm_scan, SsmScan) \
    PLAIN(gated_norm, GatedNorm)

EACH(PLAIN, FALLIBLE)

typedef struct {
    const char *name;
    int64_t num_words;
    int (*run)(const Kernels *kernels, const void *call);
} Operation;

#define ENTRY(name, Call) {#name, sizeof(Call) / sizeof(int64_t), run_##name},

static const Operation OPERATIONS[] = {EACH(ENTRY, ENTRY)};

int num_operations(void)
{
    return sizeof OPERATIONS / sizeof *OPERATIONS;
}

const char *operation_name(int operation)
{
    return OPERATIONS[operation].name;
}

static int is_program(const int64_t *words, int64_t num_words)
{
    int64_t at = 0;
    while (at < num_words) {
        if (words[at] < 0 || words[at] >= num_operations())
            return 0;
        const int64_t size = OPERATIONS[words[at]].num_words;
        if (num_words - at - 1 < size)
            return 0;
        at += 1 + size;
    }
    return 1;
}

ProgramResult run_program(const Kernels *kernels, const int64_t *words, int64_t num_words)
{
    if (!is_program(words, num_words))
        return PROGRAM_IS_NONE;
    for (int64_t at = 0; at < num_words;) {
        const Operation *operation = OPERATIONS + words[at];
        if (operation->run(kernels, words + at + 1) != 0)
            return PROGRAM_NO_MEMORY;
        at += 1 + operation->num_words;
    }
    return PROGRAM_RAN;
}
