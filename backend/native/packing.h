/* How weights lie: 16 features by 32 columns are a block of values and, with groups of 32 small
   integers, 16 float16 scales and, with 4 bits, 16 float16 mins. Values lie as vdpbf16ps takes them: a
   pair of columns, feature by feature. Four vectors of 4 bits share one, each in 4 bits of every half
   word; values of 16 bits are bf16. Blocks follow each other along K. */
#ifndef UNISONO_GROUPS_H
#define UNISONO_GROUPS_H

#include <string.h>

#include "calls.h"
#include "simd.h"

enum {
    GROUP = 32,
    LANES = 16,
    PAIRS = GROUP / 2,
    QUARTERS = 4,
    /* So many blocks are fetched ahead: a GEMM of one row took a quarter longer with 4. */
    AHEAD = 8,
};

INLINE int64_t values_size(int bits)
{
    return LANES * GROUP * bits / 8;
}

INLINE int64_t block_size(int bits)
{
    const int factors = bits == 4 ? 2 : bits == 8 ? 1 : 0;
    return values_size(bits) + factors * LANES * sizeof(uint16_t);
}

SIMD_BEGIN

INLINE void fetch(int bits, const uint8_t *block)
{
    UNROLL
    for (int line = 0; line < block_size(bits); line += 64)
        _mm_prefetch((const char *)block + line, _MM_HINT_T0);
}

INLINE __m512 load_scales(int bits, const uint8_t *block)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(block + values_size(bits))));
}

/* Only 4-bit blocks have mins. */
INLINE __m512 load_mins(const uint8_t *block)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(block + values_size(4) + 32)));
}

/* Load two columns of a row into every word. */
INLINE __m512bh load_pair(const bf16 *x)
{
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

SIMD_END

#endif
