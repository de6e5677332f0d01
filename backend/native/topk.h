/* The largest logits of each row, without sorting the rest. */
#ifndef UNISONO_TOPK_H
#define UNISONO_TOPK_H

#include "calls.h"

enum { TOPK_MAX = 512 };

/* values, ids: [num_rows, count], the largest of each of these rows of logits [*, width], descending, the
   lower id first among equals; count is at most TOPK_MAX and width. A row with NaN has NaN for its first value, the
   rest of it means nothing. Returns -1 if memory ran out, else 0. */
int LEVEL(topk)(const TopK *t);

#endif
