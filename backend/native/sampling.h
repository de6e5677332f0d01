/* What rows of logits are asked before a draw, and what grammars forbid in them. */
#ifndef UNISONO_SAMPLING_H
#define UNISONO_SAMPLING_H

#include "calls.h"

/* peaks: [num_rows], the largest number of each of these rows of logits [*, width], finite if there is
   none. sums: [num_rows, width / chunk rounded up], of 2^((x - peak) * scale) over `chunk` numbers each,
   NaN where one of them is NaN or the peak infinite. scales: [num_rows], log2(e) / temperature. */
void LEVEL(exp_sums)(const ExpSums *e);

/* counts: [num_rows], how many numbers of each of these rows of logits [*, width] are greater than its
   value. values: [num_rows]. */
void LEVEL(count_greater)(const CountGreater *c);

/* Add -infinity to what the masks [num_rows, mask_words] do not allow of these rows of logits
   [*, width]; column i is bit `offset` + i of its row's mask, lowest bit of a word first, and bits
   behind the mask's end are 0. */
void LEVEL(apply_masks)(const ApplyMasks *a);

#endif
