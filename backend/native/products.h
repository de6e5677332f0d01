/* Products by weights in groups of 32 small integers, and by bf16 weights. */
#ifndef UNISONO_PRODUCTS_H
#define UNISONO_PRODUCTS_H

#include <stdint.h>

/* scale * value + minimum. width: a multiple of 32 */
typedef struct {
    int bits;            /* 4: values 0 to 15; 8: signed, and no minimums; 16: bf16, as it is */
    int64_t features, width;
    const void *values;  /* [features, width] */
    const float *scales; /* [features, width / 32], as these float16 holds them */
    const float *minimums;
} Weight;

int64_t packed_size(int bits, int64_t features, int64_t width);
void pack(const Weight *w, uint8_t *out);

typedef enum {
    PRODUCT_BF16,
    PRODUCT_FLOAT,
    PRODUCT_GATED, /* silu(the first half of the features) * the second, bf16 */
    PRODUCT_BEST,  /* for `best` */
} ProductForm;

typedef struct {
    int bits;
    int64_t rows, features, width;
    const uint16_t *x; /* bf16 [rows, width] */
    const uint8_t *packed;
    void *out;         /* [rows, features], gated [rows, features / 2] and half a multiple of 16 */
    ProductForm form;
} Product;

/* Of so many rows the integers are multiplied as they are, of more as the bf16 nearest to what they
   stand for: that pays from here on, of 8 bits a little earlier; measured, see
   backend/linear/native.py. One bound for both, so that up to it a row of a model's is the same in
   any company. */
enum { MAX_FEW_ROWS = 32 };

/* Each row for itself: the same bits in any company of few rows, and in any of many. -1: no memory
   for the sums. */
int product(const Product *p);
int multiply_few_rows(const Product *p);
void multiply_many_rows(const Product *p);

/* Of each row the largest feature, NaN if there is one, and its place, the first of equals. p->form
   and p->out are not read. -1: no memory. */
int best(const Product *p, float *values, int64_t *ids);

/* Rows of a weight of 8 or 16 bits: out [count, width]. -1: there is no such row. */
int look_up(int bits, const uint8_t *packed, int64_t features, int64_t width, const int32_t *ids,
            int64_t count, uint16_t *out);

#endif
