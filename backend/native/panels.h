/* A product goes panel by panel: 32 features of the result, of a gated one 16 of the gate's and the
   same 16 of what it gates. */
#ifndef UNISONO_PANELS_H
#define UNISONO_PANELS_H

#include "groups.h"
#include "products.h"

enum {
    VECTORS = 2,
    PANEL = VECTORS * LANES,
};

/* Of 16 features each; the last may have fewer. */
INLINE int64_t num_columns(const Product *p)
{
    return (p->features + LANES - 1) / LANES;
}

INLINE int64_t num_panels(const Product *p)
{
    return (num_columns(p) + VECTORS - 1) / VECTORS;
}

/* The column a panel has for its v-th; the last panel's may not be there. */
INLINE int64_t column_of(const Product *p, int64_t panel, int v)
{
    return p->form == PRODUCT_GATED ? panel + v * num_panels(p) : panel * VECTORS + v;
}

/* Write the sums of `count` rows from `row` on, [count, PANEL], where the result goes. */
void deliver(const Product *p, int64_t row, int64_t count, int64_t panel, const float *sums);

#endif
