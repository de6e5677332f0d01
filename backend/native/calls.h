/* Made from calls.py by `python -m backend.native.calls`; do not edit. */
#ifndef UNISONO_CALLS_H
#define UNISONO_CALLS_H

#include <stdint.h>

#define INTERFACE 0x642acab7

typedef struct {
    int32_t sequence;
    int32_t token;
    int32_t count;
    int32_t position;
    int32_t first_key;
    int32_t end_key;
    int32_t partial;
} AttentionItem;

typedef struct {
    int32_t token;
    int32_t partial;
    int32_t count;
} AttentionMerge;

typedef struct {
    int64_t format;
    int64_t N;
    int64_t K;
    const void *blocks;
    uint8_t *out;
} Pack;

typedef struct {
    int64_t format;
    int64_t activations;
    int64_t M;
    int64_t N;
    int64_t K;
    const uint16_t *x;
    int64_t x_stride;
    const uint8_t *packed;
    const uint16_t *bias;
    void *out;
    int64_t out_stride;
    int64_t epilogue;
    double limit;
    double alpha;
    double offset;
} Gemm;

typedef struct {
    int64_t format;
    int64_t activations;
    int64_t groups;
    int64_t N;
    int64_t K;
    const uint16_t *x;
    const uint8_t *const *packed;
    const uint16_t *const *biases;
    const int64_t *ends;
    void *out;
    int64_t out_stride;
    int64_t epilogue;
    double limit;
    double alpha;
    double offset;
} GroupedGemm;

typedef struct {
    int64_t format;
    int64_t activations;
    int64_t tokens;
    int64_t num_heads;
    int64_t N;
    int64_t K;
    const uint16_t *x;
    int64_t x_stride;
    int64_t x_step;
    const uint8_t *const *packed;
    uint16_t *out;
    int64_t out_stride;
    int64_t out_step;
} HeadGemm;

typedef struct {
    int64_t format;
    int64_t activations;
    int64_t M;
    int64_t N;
    int64_t K;
    const uint16_t *x;
    const uint8_t *packed;
    float *values;
    int64_t *ids;
} Argmax;

typedef struct {
    int64_t format;
    int64_t N;
    int64_t K;
    const uint8_t *packed;
    const int32_t *ids;
    int64_t num_ids;
    uint16_t *out;
} Embed;

typedef struct {
    const uint16_t *x;
    const uint16_t *delta;
    const uint16_t *weight;
    uint16_t *sum;
    uint16_t *out;
    int64_t tokens;
    int64_t width;
    double eps;
} AddRmsNorm;

typedef struct {
    uint16_t *qkv;
    int64_t stride;
    const uint16_t *cos;
    const uint16_t *sin;
    uint8_t *cache;
    int64_t block_stride;
    int64_t kv_bits;
    const int32_t *slot_mapping;
    int64_t tokens;
    int64_t num_heads;
    int64_t num_kv_heads;
    int64_t dim;
    int64_t block_size;
} RotateStore;

typedef struct {
    const uint16_t *rows;
    int64_t stride;
    const uint16_t *weight;
    double eps;
    const uint16_t *cos;
    const uint16_t *sin;
    int64_t is_interleaved;
    uint8_t *cache;
    int64_t block_stride;
    int64_t block_size;
    const int32_t *slot_mapping;
    int64_t tokens;
    int64_t dim;
    int64_t value_dim;
    int64_t num_heads;
    const uint16_t *turning;
    int64_t turning_stride;
    int64_t turning_step;
    uint16_t *queries;
} LatentStore;

typedef struct {
    const uint16_t *heads;
    int64_t stride;
    const uint16_t *weight;
    int64_t weight_stride;
    int64_t is_centred;
    uint16_t *out;
    int64_t out_stride;
    int64_t tokens;
    int64_t num_heads;
    int64_t dim;
    double eps;
} HeadNorm;

typedef struct {
    const uint16_t *x;
    const uint16_t *delta;
    const uint16_t *weight;
    const uint16_t *bias;
    uint16_t *sum;
    uint16_t *out;
    int64_t tokens;
    int64_t width;
    double eps;
} AddLayerNorm;

typedef struct {
    const uint16_t *gate;
    int64_t gate_stride;
    const uint16_t *up;
    int64_t up_stride;
    uint16_t *out;
    int64_t tokens;
    int64_t width;
    int64_t function;
} GateMul;

typedef struct {
    const uint16_t *x;
    const uint16_t *y;
    uint16_t *out;
    int64_t tokens;
    int64_t width;
    double scale;
} ScaledSum;

typedef struct {
    const float *logits;
    double logit_scale;
    const float *bias;
    const float *correction;
    const float *scales;
    double weight_scale;
    int64_t is_sigmoid;
    int64_t renormalise;
    int64_t tokens;
    int64_t num;
    int64_t top_k;
    int64_t num_groups;
    int64_t top_groups;
    int64_t group_score;
    int64_t first;
    int64_t count;
    float *weights;
    int32_t *rows;
    int32_t *places;
    int64_t *ends;
} Route;

typedef struct {
    const uint16_t *x;
    const int32_t *rows;
    const int64_t *ends;
    int64_t count;
    int64_t top_k;
    int64_t width;
    uint16_t *out;
} GatherRows;

typedef struct {
    const uint16_t *x;
    const int32_t *order;
    const int64_t *ends;
    int64_t groups;
    int64_t tokens;
    int64_t width;
    int64_t count;
    uint16_t *out;
} TakeColumns;

typedef struct {
    const uint16_t *results;
    const float *weights;
    const int32_t *places;
    const uint16_t *shared;
    const uint16_t *x;
    const float *gate;
    int64_t gate_width;
    int64_t tokens;
    int64_t top_k;
    int64_t width;
    uint16_t *out;
} SumExperts;

typedef struct {
    const uint16_t *x;
    int64_t x_stride;
    const uint16_t *a;
    const uint16_t *b;
    int64_t gate_stride;
    const float *rates;
    const float *biases;
    const int32_t *key_heads;
    float *state;
    const int32_t *reads;
    const int32_t *writes;
    const int32_t *starts;
    const int32_t *chains;
    int64_t num_sequences;
    int64_t num_key_heads;
    int64_t num_value_heads;
    int64_t key_dim;
    int64_t value_dim;
    double eps;
    uint16_t *out;
} DeltaRule;

typedef struct {
    const uint16_t *x;
    const uint16_t *gate;
    int64_t gate_stride;
    double gate_scale;
    int64_t order;
    const float *weight;
    int64_t weight_stride;
    const float *squares;
    int64_t count;
    uint16_t *out;
    int64_t tokens;
    int64_t num_groups;
    int64_t dim;
    double eps;
} GatedNorm;

typedef struct {
    const uint16_t *x;
    const uint16_t *gate;
    int64_t gate_stride;
    double gate_scale;
    int64_t order;
    float *out;
    int64_t tokens;
    int64_t num_groups;
    int64_t dim;
} GatedSquares;

typedef struct {
    const uint16_t *x;
    int64_t x_stride;
    const uint16_t *steps;
    int64_t step_stride;
    double step_scale;
    double least_step;
    double most_step;
    const float *rates;
    const float *biases;
    const float *skips;
    const int32_t *groups;
    float *state;
    const int32_t *reads;
    const int32_t *writes;
    const int32_t *starts;
    const int32_t *chains;
    int64_t num_sequences;
    int64_t num_heads;
    int64_t head_dim;
    int64_t num_groups;
    int64_t state_dim;
    uint16_t *out;
} SsmScan;

typedef struct {
    const uint16_t *x;
    int64_t x_stride;
    const float *weight;
    const float *bias;
    float *state;
    const int32_t *reads;
    const int32_t *writes;
    const int32_t *starts;
    const int32_t *chains;
    int64_t num_sequences;
    int64_t channels;
    int64_t taps;
    int64_t silu;
    uint16_t *out;
} CausalConv;

typedef struct {
    const uint16_t *q;
    int64_t q_stride;
    const uint8_t *cache;
    int64_t block_stride;
    int64_t kv_bits;
    const int32_t *block_tables;
    int64_t table_stride;
    const AttentionItem *items;
    int64_t num_items;
    const AttentionMerge *merges;
    int64_t num_merges;
    int64_t num_heads;
    int64_t num_kv_heads;
    int64_t dim;
    int64_t block_size;
    float *partials;
    uint16_t *out;
    double scale;
    double softcap;
    int64_t window;
    const float *sinks;
    int64_t parallel;
} Attention;

typedef struct {
    const uint16_t *q;
    const uint8_t *cache;
    int64_t block_stride;
    const int32_t *block_tables;
    int64_t table_stride;
    const AttentionItem *items;
    int64_t num_items;
    const AttentionMerge *merges;
    int64_t num_merges;
    int64_t num_heads;
    int64_t most_rows;
    int64_t dim;
    int64_t value_dim;
    int64_t block_size;
    float *partials;
    uint16_t *out;
    double scale;
    int64_t parallel;
} LatentAttention;

typedef struct {
    const float *logits;
    int64_t width;
    const int64_t *rows;
    int64_t num_rows;
    int64_t count;
    float *values;
    int64_t *ids;
} TopK;

typedef struct {
    const float *logits;
    int64_t width;
    const int64_t *rows;
    int64_t num_rows;
    const float *scales;
    int64_t chunk;
    float *peaks;
    float *sums;
} ExpSums;

typedef struct {
    const float *logits;
    int64_t width;
    const int64_t *rows;
    int64_t num_rows;
    const float *values;
    int64_t *counts;
} CountGreater;

typedef struct {
    float *logits;
    int64_t width;
    const int64_t *rows;
    int64_t num_rows;
    const int32_t *masks;
    int64_t mask_words;
    int64_t offset;
} ApplyMasks;


#endif
