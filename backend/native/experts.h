/* Experts: which ones each token goes to, its rows brought to them, and what they give summed. */
#ifndef UNISONO_EXPERTS_H
#define UNISONO_EXPERTS_H

#include "calls.h"

/* More experts than any layer has. */
enum { ROUTE_MAX_EXPERTS = 1024 };

/* What makes a group good: its best score, or the sum of its two best. */
enum { GROUP_BEST, GROUP_TWO_BEST };

/* Of each token, in float32:

     l = logits * logit_scale + bias;  scores = sigmoid(l), or softmax(l)
     the top_k experts of the best scores + correction, the lower number first among equals; of num_groups
     groups of as many neighbours each only those of the top_groups best
     weights = scores of those, over their sum if `renormalise`, * scales * weight_scale

   logits: [tokens, num]; bias, correction, scales: [num], NULL where there is none. A token with NaN has
   NaN for its weights. weights: [tokens, top_k], best first. Row t top_k + c is the c-th choice of token t;
   of these the `count` experts from `first` on compute theirs: ends[e] is where those of the e-th end,
   rows: [tokens top_k], expert after expert, each in order, the first ends[count - 1] of it are written;
   places: [tokens top_k], where in `rows` a row is, -1: with no expert of these. */
void LEVEL(route)(const Route *r);

/* out[i] = the row of x that token rows[i] / top_k has, for the first ends[count - 1]. x: [T, width]. */
void LEVEL(gather_rows)(const GatherRows *g);

/* out[t, i] = x[t, order[i]], 0 where order[i] is the width: columns as a weight has them whose groups were
   brought together. x: [tokens, width]; order: [count], or [groups, count] with ends [groups], where the
   tokens of each group end (NULL: one group); out: [tokens, count]. */
void LEVEL(take_columns)(const TakeColumns *t);

/* out = sum over a token's choices of weights * results, in order, + shared, times sigmoid(x gate) if there
   is a gate, in float32. results: [rows, width] as `rows` of route has them; weights, places: of route;
   shared: [tokens, width] or NULL; x: [tokens, gate_width], gate: [gate_width] or NULL; out:
   [tokens, width]. */
void LEVEL(sum_experts)(const SumExperts *s);

#endif
