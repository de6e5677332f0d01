/* The gated delta rule (Yang et al. 2025): a state that attention of linear cost keeps instead of keys and
   values. bf16 in and out, states and sums in fp32. */
#ifndef UNISONO_DELTA_RULE_H
#define UNISONO_DELTA_RULE_H

#include "calls.h"

/* Numbers of a key, at most. */
enum { DELTA_MAX_DIM = 256 };

/* For each token of a sequence, in order, and each value head, whose state S is [key_dim, value_dim]:

     k, q = k / |k|, q / (|q| sqrt(key_dim))        |x| = sqrt(sum of squares + eps)
     decay, beta = exp(rate * softplus(a + bias)), sigmoid(b)
     S = decay S;  S = S + k (beta (v - S^T k))^T;  out = S^T q

   x: [T, x_stride], in each row queries and keys of num_key_heads, then values of num_value_heads. a, b:
   [T, gate_stride], a number a value head; rates, biases: one each. key_heads: which key head each value
   head has. state: [slots, num_value_heads, key_dim, value_dim], which lie as panels of 16 columns,
   [value_dim / 16, key_dim, 16]. Sequence s runs segments chains[s] to chains[s + 1] in order. Segment k,
   tokens starts[k] to starts[k + 1], at least one, begins with the state in slot reads[k], from zeros where
   that is -1, and leaves it in writes[k]. out: [T, num_value_heads, value_dim]. key_dim and value_dim are
   multiples of 16.

   A state is read and written once a step and token, in caches. A token has the same bits in any chunk of
   its sequence and beside any others. */
void LEVEL(delta_rule)(const DeltaRule *d);

#endif
