/* Norms of groups of numbers that are gated: what ends the layers that keep states. */
#ifndef UNISONO_GATED_NORM_H
#define UNISONO_GATED_NORM_H

#include "calls.h"

/* When the gate multiplies: what was normalised, or what will be, or without a norm. */
enum { GATE_LAST, GATE_FIRST, GATE_ALONE };

/* Of the numbers x of a group, with a gate g = silu(gate_scale * gate) for each:

     GATE_LAST     out = x / sqrt(mean(x^2) + eps) * weight * g
     GATE_FIRST    out = x g / sqrt(mean((x g)^2) + eps) * weight
     GATE_ALONE    out = x g * weight

   x, out: [T, num_groups, dim]; gate: [T, gate_stride]. weight: group i has [dim] of its own at
   i * weight_stride. squares: [T, num_groups], each group's sum of squares, where it has more numbers than
   these; NULL: it has none. count: numbers of a group, of which the mean is. dim is a multiple of 16. */
void LEVEL(gated_norm)(const GatedNorm *g);

/* out = the sum of squares of each group, as its norm takes it: [T, num_groups] float32. */
void LEVEL(gated_squares)(const GatedSquares *g);

#endif
