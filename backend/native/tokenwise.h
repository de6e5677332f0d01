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

/* What attention over compressed rows (latent_attention.h) is given of them. rows: [T, dim], `stride`
   numbers from a token to the next; the first value_dim are normalised as heads are, and multiplied by the
   weight, [value_dim]; those behind them turn. cache: as there; slot_mapping: [T]. turning: [T, num_heads,
   dim - value_dim], of queries; it turns, and goes to the end of each of queries, [T, num_heads, dim],
   whose beginning is left alone. cos, sin: [T, dim - value_dim], as above; is_interleaved: what turns
   against each other are neighbours, which come to stand in two halves. */
void LEVEL(latent_store)(const LatentStore *l);

/* Divide each head by its root mean square, or, if it is centred, what it is above its mean by the root of
   its variance; and multiply it by the weight, [D], if there is one, whose heads lie weight_stride numbers
   apart. heads, out: [tokens, num_heads, D], `stride` and `out_stride` numbers from a token to the next;
   they may be the same memory. */
void LEVEL(head_norm)(const HeadNorm *h);

#endif
