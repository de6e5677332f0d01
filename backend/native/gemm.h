/* x W^T by weights in groups of 32 small integers, and by bf16 weights; x: bf16 [M, K], W: [N, K].

   Pack: values [N, K], with 4 bits 0 to 15, with 8 bits signed, with 16 bits bf16 as they are; scales
   and, with 4 bits only, mins [N, K / 32], as a float16 holds them. A weight is scale * value + min.
   K is a multiple of 32.

   Gemm: out [M, N], or with SwiGLU [M, N / 2], and N / 2 is then a multiple of 16.

   Argmax: values, ids [M]: the largest of each row, NaN if there is one, and its place, the first of
   equals.

   Embed: out [num_ids, K], rows of a weight of 8 or 16 bits. */
#ifndef UNISONO_GEMM_H
#define UNISONO_GEMM_H

#include "calls.h"

typedef enum {
    EPILOGUE_BF16,
    EPILOGUE_FLOAT,
    EPILOGUE_SWIGLU, /* silu(the first half of N) * the second, bf16 */
    EPILOGUE_ARGMAX, /* out is LaneMax [threads, M], for argmax() */
} Epilogue;

/* Up to so many rows the integers are multiplied as they are; more rows multiply the bf16 nearest to
   what the integers stand for, which pays from here on, with 8 bits a little earlier
   (tests/bench/README.md). Both kinds of weights have one bound, so that up to it a row of a model is
   batch-invariant. */
enum { MAX_SMALL_M = 32 };

#endif
