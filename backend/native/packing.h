/* From the file's blocks to the layout of formats.h, and rows of a weight from it. */
#ifndef UNISONO_PACKING_H
#define UNISONO_PACKING_H

#include "calls.h"

/* Pack: blocks [N, K / columns of a block], each as the file has it; bf16 [N, K] of dense weights. K is
   a multiple of the format's block, of 32 for dense weights; missing features of the last column of 16
   are zero.

   Embed: out [num_ids, K], bf16, rows of the weight as the file's format defines them, rounded once.
   Returns -1 where an id is not below N. */

/* Return the bytes of a packed weight; -1 for a format that has no layout, or a K it does not take. */
int64_t packed_size(const Pack *w);
void pack(const Pack *w);
int embed(const Embed *e);

#endif
