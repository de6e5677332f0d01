/* The state space of Mamba-2 (Dao and Gu 2024): a state for each head, which decays and is written to.
   bf16 in and out, states and sums in fp32. */
#ifndef UNISONO_SSM_SCAN_H
#define UNISONO_SSM_SCAN_H

#include "calls.h"

/* Numbers of B or C of a group, at most. */
enum { SSM_MAX_DIM = 256 };

/* For each token of a sequence, in order, and each head, whose state S is [state_dim, head_dim]:

     step = softplus(step_scale * steps + bias), at least least_step, at most most_step
     S = exp(rate * step) S;  S = S + B (step x)^T;  out = S^T C + skip x

   x: [T, x_stride], in each row x of num_heads, then B, then C of num_groups. steps: [T, step_stride], a
   number a head; rates, biases, skips: one each. groups: which group each head has. state: [slots,
   num_heads, head_dim, state_dim], which lie as panels of 16 columns, [head_dim / 16, state_dim, 16].
   Sequences and segments are as delta_rule.h has them. out: [T, num_heads, head_dim]. head_dim and
   state_dim are multiples of 16.

   A token has the same bits in any chunk of its sequence and beside any others. */
void LEVEL(ssm_scan)(const SsmScan *d);

#endif
