/* The best few logits of each row, without sorting the rest. */
#ifndef UNISONO_SELECT_H
#define UNISONO_SELECT_H

#include <stdint.h>

enum { SELECT_MAX = 512 };

/* values, ids: [rows, count], the largest of logits [rows, width], descending, the lower id first
   among equals; count is at most SELECT_MAX and width. A row with NaN has NaN for its first value,
   the rest of it means nothing. Returns 0 if memory ran out. */
int select_best(const float *logits, int64_t rows, int64_t width, int64_t count, float *values,
                int64_t *ids);

#endif
