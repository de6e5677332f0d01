/* What a forward pass does to each token by itself. bf16 in and out, sums in fp32. */
#ifndef UNISONO_ROWS_H
#define UNISONO_ROWS_H

#include <stdint.h>

/* sum = x + delta; out = sum / sqrt(mean(sum^2) + eps) * weight, of the sum as rounded. Without a
   delta (NULL) x is the sum and `sum` is not written. All [tokens, width]. */
void add_rms_norm(const uint16_t *x, const uint16_t *delta, const uint16_t *weight, uint16_t *sum,
                  uint16_t *out, int64_t tokens, int64_t width, float eps);

typedef struct {
    uint16_t *qkv;   /* [T, Hq + 2 Hkv, D] */
    int64_t stride;  /* numbers from a token to the next */
    const uint16_t *cos, *sin; /* [T, D], the first half of sin negated */
    uint16_t *cache; /* [blocks, 2, Hkv, block size, D], laid out as in attention.h */
    const int32_t *slots; /* [T] */
    int64_t tokens, num_heads, num_kv_heads, dim, block_size;
} Rotation;

/* Rotate queries and keys, in place; write keys and values to their slots. D is a multiple of 32. */
void rotate_store(const Rotation *r);

/* silu(gate) * up. gate_up: [tokens, 2 width] -> [tokens, width]. */
void silu_mul(const uint16_t *gate_up, uint16_t *out, int64_t tokens, int64_t width);

#endif
