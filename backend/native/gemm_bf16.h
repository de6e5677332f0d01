/* The kernels of weights, which multiply in bf16 so far. */
#ifndef UNISONO_GEMM_BF16_H
#define UNISONO_GEMM_BF16_H

#include "gemm.h"

/* Return -1 if memory ran out, else 0. */
int gemm(const Gemm *p);
int argmax(const Argmax *a);

int64_t packed_size(int64_t bits, int64_t N, int64_t K);
void pack(const Pack *w);
int embed(const Embed *e);

#endif
