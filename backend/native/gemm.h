/* x W^T, by weights in the file's groups of few bits, and by bf16 weights; x: bf16 [M, K], W: [N, K].

   Gemm: out [M, N], or with SwiGLU [M, N / 2], and N / 2 is then a multiple of 16; x_stride and out_stride
   numbers from a row of x, and of out, to the next. bias: bf16 [N], or NULL. limit: of a gate g, from above, and of what it
   gates, u, either way, where the two become g / (1 + e^(-alpha g)) * (u + offset); 0: plain SwiGLU.

   GroupedGemm: the same for groups of rows, each by a weight of its own; packed, ends [groups]: the
   weights, and where the rows of each end in x and out, which hold one group after the other; biases
   [groups], or NULL. A row has the bits that Gemm gives it.

   HeadGemm: the same for each head of some tokens, by a weight of its own: x [tokens, num_heads, K], out
   [tokens, num_heads, N], x_step and out_step numbers from a head to the next.

   Argmax: values, ids [M]: the largest of each row, NaN if there is one, and its place, the first of
   equals.

   Rows of x become integers, 32 columns to a scale (kernels/activations.inc), and multiply the weight's
   unsigned values: a sum of integers for each span of columns that share a weight's scale, which is
   exact in any order, then one float32 multiply-add for each span, and one for its min, in the order of
   the columns. Mixed activations are summed twice: int8 of all columns, then what it leaves of fine
   groups, and the two sums are added. So a row's result is the same bits in any batch, at any number of threads and at every
   level that has a fused multiply-add.

   Dense weights multiply x itself: float32 sums in the order of the columns; where the processor has
   it by the dot product of bf16 pairs. */
#ifndef UNISONO_GEMM_H
#define UNISONO_GEMM_H

#include "calls.h"
#include "formats.h"
#include "threads.h"

typedef enum {
    ACTIVATIONS_INT8,
    ACTIVATIONS_INT16,
    ACTIVATIONS_BF16, /* only where the processor multiplies pairs of bf16 */
    ACTIVATIONS_MIXED, /* int8, and of groups that are large for their row what that leaves */
} ActivationKind;

typedef enum {
    EPILOGUE_BF16,
    EPILOGUE_FLOAT,
    EPILOGUE_SWIGLU, /* silu(the first half of N) * the second, bf16, or with limits */
    EPILOGUE_ARGMAX, /* out is LaneMax [threads, M], for argmax() */
} Epilogue;

/* The largest that each lane has met in the columns of 16 features so far, and in which. */
typedef struct {
    float values[FEATURES];
    int32_t columns[FEATURES];
} LaneMax;

/* A GEMM runs panel by panel: a panel is 32 features of the result, or, with SwiGLU, 16 of the gate and
   the same 16 of what it gates. */
enum {
    VECTORS = 2,
    PANEL = VECTORS * FEATURES,
};

static inline int64_t num_columns(const Gemm *p)
{
    return (p->N + FEATURES - 1) / FEATURES;
}

static inline int64_t num_panels(const Gemm *p)
{
    return (num_columns(p) + VECTORS - 1) / VECTORS;
}

/* The v-th column of a panel. The last panel's second may be beyond the last column. */
static inline int64_t column_of(const Gemm *p, int64_t panel, int v)
{
    return p->epilogue == EPILOGUE_SWIGLU ? panel + v * num_panels(p) : panel * VECTORS + v;
}

/* A product that is ready to run: what makes integers of its rows, or floats, and then what multiplies.
   memory: of both. */
typedef struct {
    Job rows, panels;
    void *memory;
} Product;

/* How a level makes a product ready. p must outlive it. Returns -1 if there is no memory. */
typedef int (*Prepare)(const Gemm *p, Product *product);

/* By a level's way to make products ready. They return -1 if there is no memory. */
int gemm_by(Prepare prepare, const Gemm *p);
int grouped_gemm_by(Prepare prepare, const GroupedGemm *g);
int head_gemm_by(Prepare prepare, const HeadGemm *h);

/* By a level's GEMM, which returns -1 if there is no memory. */
int argmax_by(int (*gemm)(const Gemm *), const Argmax *a);

#endif
