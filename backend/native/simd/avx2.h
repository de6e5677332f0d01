/* A vector is two registers of AVX2. See simd.h for what the functions do. */
#ifndef UNISONO_SIMD_AVX2_H
#define UNISONO_SIMD_AVX2_H

#define SIMD_AVX2

#include <immintrin.h>
#include <string.h>

#include "simd.h"

typedef struct {
    __m256 low, high;
} f32x16;

typedef struct {
    __m256i low, high;
} i32x16;

typedef struct {
    __m256 low, high;
} m32x16;

/* A function of two vectors, each half by itself. */
#define BY_HALVES(Type, name, Operand, function) \
    INLINE Type name(Operand a, Operand b) \
    { \
        return (Type){function(a.low, b.low), function(a.high, b.high)}; \
    }
#define COMPARE_GREATER(a, b) _mm256_cmp_ps(a, b, _CMP_GT_OQ)
#define COMPARE_UNORDERED(a, b) _mm256_cmp_ps(a, b, _CMP_UNORD_Q)

SIMD_BEGIN

BY_HALVES(f32x16, f32_add, f32x16, _mm256_add_ps)
BY_HALVES(f32x16, f32_sub, f32x16, _mm256_sub_ps)
BY_HALVES(f32x16, f32_mul, f32x16, _mm256_mul_ps)
BY_HALVES(f32x16, f32_div, f32x16, _mm256_div_ps)
BY_HALVES(f32x16, f32_max, f32x16, _mm256_max_ps)
BY_HALVES(f32x16, f32_min, f32x16, _mm256_min_ps)
BY_HALVES(m32x16, f32_greater, f32x16, COMPARE_GREATER)
BY_HALVES(m32x16, f32_unordered, f32x16, COMPARE_UNORDERED)
BY_HALVES(m32x16, mask_and, m32x16, _mm256_and_ps)
BY_HALVES(m32x16, mask_or, m32x16, _mm256_or_ps)
BY_HALVES(i32x16, i32_add, i32x16, _mm256_add_epi32)
BY_HALVES(i32x16, i32_mul, i32x16, _mm256_mullo_epi32)

INLINE f32x16 f32_set1(float x)
{
    return (f32x16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

INLINE f32x16 f32_zero(void)
{
    return (f32x16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

INLINE f32x16 f32_load(const float *p)
{
    return (f32x16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

INLINE void f32_store(float *p, f32x16 x)
{
    _mm256_storeu_ps(p, x.low);
    _mm256_storeu_ps(p + 8, x.high);
}

INLINE f32x16 f32_fma(f32x16 a, f32x16 b, f32x16 c)
{
    return (f32x16){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

INLINE f32x16 f32_round(f32x16 x)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    return (f32x16){_mm256_round_ps(x.low, NEAREST), _mm256_round_ps(x.high, NEAREST)};
}

/* 2^n: 1.5 * 2^23 + 127 makes n + 127 the lowest bits, which become the exponent. */
INLINE __m256 power_of_2(__m256 n)
{
    const __m256 biased = _mm256_add_ps(n, _mm256_set1_ps(12582912.0f + 127.0f));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(biased), 23));
}

INLINE f32x16 f32_ldexp(f32x16 x, f32x16 n)
{
    return f32_mul(x, (f32x16){power_of_2(n.low), power_of_2(n.high)});
}

INLINE float f32_reduce_add(f32x16 x)
{
    const __m256 by_8 = _mm256_add_ps(x.low, x.high);
    __m128 sums = _mm_add_ps(_mm256_castps256_ps128(by_8), _mm256_extractf128_ps(by_8, 1));
    sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
    return _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)));
}

INLINE float f32_reduce_max(f32x16 x)
{
    const __m256 by_8 = _mm256_max_ps(x.low, x.high);
    __m128 most = _mm_max_ps(_mm256_castps256_ps128(by_8), _mm256_extractf128_ps(by_8, 1));
    most = _mm_max_ps(most, _mm_movehl_ps(most, most));
    return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
}

INLINE float f32_first(f32x16 x)
{
    return _mm256_cvtss_f32(x.low);
}

INLINE f32x16 f32_select(m32x16 mask, f32x16 a, f32x16 b)
{
    return (f32x16){_mm256_blendv_ps(b.low, a.low, mask.low),
                    _mm256_blendv_ps(b.high, a.high, mask.high)};
}

INLINE m32x16 mask_first(int64_t n)
{
    const __m256i count = _mm256_set1_epi32(n >= LANES ? LANES : n <= 0 ? 0 : (int)n);
    const __m256i low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
    return (m32x16){_mm256_castsi256_ps(_mm256_cmpgt_epi32(count, low)),
                    _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, high))};
}

INLINE m32x16 mask_range(int64_t begin, int64_t end)
{
    const m32x16 before = mask_first(begin), all = mask_first(end);
    return (m32x16){_mm256_andnot_ps(before.low, all.low), _mm256_andnot_ps(before.high, all.high)};
}

INLINE m32x16 mask_from_bits(uint32_t bits)
{
    const __m256i all = _mm256_set1_epi32((int)bits);
    const __m256i low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i high = _mm256_slli_epi32(low, 8);
    return (m32x16){_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, low), low)),
                    _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, high), high))};
}

INLINE uint32_t mask_bits(m32x16 mask)
{
    return (uint32_t)(_mm256_movemask_ps(mask.low) | _mm256_movemask_ps(mask.high) << 8);
}

INLINE i32x16 i32_set1(int32_t x)
{
    return (i32x16){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

INLINE i32x16 i32_zero(void)
{
    return (i32x16){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

INLINE i32x16 i32_load(const void *p)
{
    const __m256i *halves = p;
    return (i32x16){_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
}

INLINE void i32_store(void *p, i32x16 x)
{
    __m256i *halves = p;
    _mm256_storeu_si256(halves, x.low);
    _mm256_storeu_si256(halves + 1, x.high);
}

/* Transpose 8 vectors of 8 numbers. */
INLINE void transpose_8(__m256i *x)
{
    __m256i twos[8], fours[8];
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        twos[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
        twos[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        UNROLL
        for (int j = 0; j < 2; j++) {
            fours[i + 2 * j] = _mm256_unpacklo_epi64(twos[i + j], twos[i + j + 2]);
            fours[i + 2 * j + 1] = _mm256_unpackhi_epi64(twos[i + j], twos[i + j + 2]);
        }
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        x[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
}

INLINE void i32_transpose(i32x16 *x)
{
    __m256i corners[4][8]; /* low and high of the first 8 vectors, then of the others */
    UNROLL
    for (int i = 0; i < 8; i++) {
        corners[0][i] = x[i].low;
        corners[1][i] = x[i].high;
        corners[2][i] = x[i + 8].low;
        corners[3][i] = x[i + 8].high;
    }
    UNROLL
    for (int i = 0; i < 4; i++)
        transpose_8(corners[i]);
    UNROLL
    for (int i = 0; i < 8; i++) {
        x[i] = (i32x16){corners[0][i], corners[2][i]};
        x[i + 8] = (i32x16){corners[1][i], corners[3][i]};
    }
}

INLINE f32x16 i32_to_f32(i32x16 x)
{
    return (f32x16){_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)};
}

INLINE i32x16 f32_to_i32(f32x16 x)
{
    return (i32x16){_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)};
}

INLINE i32x16 u8_load_i32(const uint8_t *p)
{
    return (i32x16){_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)),
                    _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))};
}

INLINE i32x16 i8_load_i32(const int8_t *p)
{
    return (i32x16){_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)),
                    _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))};
}

INLINE f32x16 f16_load(const uint16_t *p)
{
    return (f32x16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                    _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}

INLINE f32x16 pairs_first(i32x16 pairs)
{
    return (f32x16){_mm256_castsi256_ps(_mm256_slli_epi32(pairs.low, 16)),
                    _mm256_castsi256_ps(_mm256_slli_epi32(pairs.high, 16))};
}

INLINE f32x16 pairs_second(i32x16 pairs)
{
    const __m256i upper = _mm256_set1_epi32((int)0xFFFF0000);
    return (f32x16){_mm256_castsi256_ps(_mm256_and_si256(pairs.low, upper)),
                    _mm256_castsi256_ps(_mm256_and_si256(pairs.high, upper))};
}

/* Round 8 floats to bf16, each the upper half of its word. */
INLINE __m256i round_to_bf16(__m256 x)
{
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(COMPARE_UNORDERED(x, x)));
}

INLINE f32x16 bf16_load(const bf16 *p)
{
    return pairs_first((i32x16){_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)),
                                _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p + 8)))});
}

INLINE f32x16 bf16_round(f32x16 x)
{
    return pairs_second((i32x16){round_to_bf16(x.low), round_to_bf16(x.high)});
}

INLINE void bf16_store(bf16 *p, f32x16 x)
{
    const __m256i low = _mm256_srli_epi32(round_to_bf16(x.low), 16);
    const __m256i high = _mm256_srli_epi32(round_to_bf16(x.high), 16);
    /* Packing goes by halves of the registers: the two middle quarters change places. */
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8);
    _mm256_storeu_si256((__m256i *)p, packed);
}

SIMD_END

#undef BY_HALVES
#undef COMPARE_GREATER
#undef COMPARE_UNORDERED

#include "tails.h"

#include "functions.h"

#endif
