/* Which kernels serve on this processor: one table of functions for each instruction level. */
#ifndef UNISONO_DISPATCH_H
#define UNISONO_DISPATCH_H

#include "calls.h"

/* Functions that return int return 0, or -1: no memory, or for embed no such row. */
typedef struct {
    const char *level;
    int64_t (*packed_size)(int64_t bits, int64_t N, int64_t K);
    void (*pack)(const Pack *);
    int (*gemm)(const Gemm *);
    int (*argmax)(const Argmax *);
    int (*embed)(const Embed *);
    void (*add_rms_norm)(const AddRmsNorm *);
    void (*rotate_store)(const RotateStore *);
    void (*silu_mul)(const SiluMul *);
    void (*attention)(const Attention *);
    int (*topk)(const TopK *);
} Kernels;

/* Return the kernels of a level that this processor has, the best at place 0; NULL behind the last. */
const Kernels *kernels_at(int place);

#endif
