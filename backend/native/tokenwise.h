/* What a forward pass does to each token by itself. bf16 in and out, sums in fp32. */
#ifndef UNISONO_TOKENWISE_H
#define UNISONO_TOKENWISE_H

#include "calls.h"

/* sum = x + delta; out = sum / sqrt(mean(sum^2) + eps) * weight, of the sum as rounded. Without a
   delta (NULL) x is the sum and `sum` is not written. All are [tokens, width]. */
void LEVEL(add_rms_norm)(const AddRmsNorm *a);

/* The same sum, then out = (sum - mean) / sqrt(variance + eps) * weight + bias; NULL for 1 and 0. */
void LEVEL(add_layer_norm)(const AddLayerNorm *a);

/* Rotate queries and keys, in place; write keys and values to their slots. qkv: [T, Hq + 2 Hkv, D],
   `stride` numbers from a token to the next; cos, sin: [T, D], the first half of sin negated; cache: as
   in attention.h, of kv_bits; slot_mapping: [T]; without KV heads neither counts. D is a multiple of 16. */
void LEVEL(rotate_store)(const RotateStore *r);

/* Divide each head by its root mean square, in place, and multiply it by the weight, [D], if there is
   one. heads: [tokens, num_heads, D], `stride` numbers from a token to the next. */
void LEVEL(head_norm)(const HeadNorm *h);

#endif
