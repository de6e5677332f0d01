/* A GEMM runs panel by panel: a panel is 32 features of the result, or, with SwiGLU, 16 of the gate and
   the same 16 of what it gates. */
#ifndef UNISONO_PANELS_H
#define UNISONO_PANELS_H

#include "packing.h"
#include "gemm.h"

enum {
    VECTORS = 2,
    PANEL = VECTORS * LANES,
};

/* A column has 16 features; the last may have fewer. */
INLINE int64_t num_columns(const Gemm *p)
{
    return (p->N + LANES - 1) / LANES;
}

INLINE int64_t num_panels(const Gemm *p)
{
    return (num_columns(p) + VECTORS - 1) / VECTORS;
}

/* The v-th column of a panel. The last panel's second may be beyond the last column. */
INLINE int64_t column_of(const Gemm *p, int64_t panel, int v)
{
    return p->epilogue == EPILOGUE_SWIGLU ? panel + v * num_panels(p) : panel * VECTORS + v;
}

#endif
