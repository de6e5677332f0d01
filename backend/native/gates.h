/* What gates and sums do to each token by itself. bf16 in and out, each result rounded once. */
#ifndef UNISONO_GATES_H
#define UNISONO_GATES_H

#include "calls.h"

/* What becomes of a gate. gelu: by the error function; gelu_tanh: its approximation by tanh. */
enum { GATE_SILU, GATE_GELU, GATE_GELU_TANH, GATE_RELU, GATE_RELU2, GATE_SIGMOID, GATE_LINEAR };

/* out = function(gate) * up, or function(gate) alone without an up (NULL). gate, up: [tokens, width],
   gate_stride and up_stride numbers from a token to the next; out: [tokens, width], which may be either
   where the strides are the width. */
void LEVEL(gate_mul)(const GateMul *a);

/* out = (x + y) * scale, the sum rounded first, or x * scale without a y (NULL). All are [tokens, width]. */
void LEVEL(scaled_sum)(const ScaledSum *a);

#endif
