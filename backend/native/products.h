/* Products by weights in groups of 32 small integers. */
#ifndef UNISONO_PRODUCTS_H
#define UNISONO_PRODUCTS_H

#include <stdint.h>

/* scale * value + minimum. width: a multiple of 32 */
typedef struct {
    int bits;              /* 4: values 0 to 15; 8: signed, and no minimums */
    int64_t features, width;
    const uint8_t *values; /* [features, width] */
    const float *scales;   /* [features, width / 32], as these float16 holds them */
    const float *minimums;
} GroupedWeight;

int64_t packed_size(int bits, int64_t features, int64_t width);
void pack_groups(const GroupedWeight *w, uint8_t *out);

typedef struct {
    int bits;
    int64_t rows, features, width;
    const uint16_t *x; /* bf16 [rows, width] */
    const uint8_t *packed;
    void *out;         /* [rows, features] */
    int wide;          /* out is float32 instead of bf16 */
} Product;

/* Each row for itself: the same bits in any company of few rows, and in any of many. Of few rows the
   integers are multiplied as they are, of many as the bf16 nearest to what they stand for. -1: no
   memory for the sums. */
int product(const Product *p);
int multiply_few_rows(const Product *p);
void multiply_many_rows(const Product *p);

/* Rows of a weight of 8 bits: out [count, width]. -1: there is no such row. */
int look_up(const uint8_t *packed, int64_t features, int64_t width, const int32_t *ids,
            int64_t count, uint16_t *out);

#endif
