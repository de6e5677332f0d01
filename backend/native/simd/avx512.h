/* A vector is a register of AVX-512. See simd.h for what the functions do. */
#ifndef UNISONO_SIMD_AVX512_H
#define UNISONO_SIMD_AVX512_H

#define SIMD_AVX512

#include <immintrin.h>

#include "simd.h"

typedef __m512 f32x16;
typedef __m512i i32x16;
typedef __mmask16 m32x16;

SIMD_BEGIN

INLINE f32x16 f32_set1(float x)
{
    return _mm512_set1_ps(x);
}

INLINE f32x16 f32_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE f32x16 f32_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void f32_store(float *p, f32x16 x)
{
    _mm512_storeu_ps(p, x);
}

INLINE f32x16 f32_add(f32x16 a, f32x16 b)
{
    return _mm512_add_ps(a, b);
}

INLINE f32x16 f32_sub(f32x16 a, f32x16 b)
{
    return _mm512_sub_ps(a, b);
}

INLINE f32x16 f32_mul(f32x16 a, f32x16 b)
{
    return _mm512_mul_ps(a, b);
}

INLINE f32x16 f32_div(f32x16 a, f32x16 b)
{
    return _mm512_div_ps(a, b);
}

INLINE f32x16 f32_fma(f32x16 a, f32x16 b, f32x16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE f32x16 f32_max(f32x16 a, f32x16 b)
{
    return _mm512_max_ps(a, b);
}

INLINE f32x16 f32_min(f32x16 a, f32x16 b)
{
    return _mm512_min_ps(a, b);
}

INLINE f32x16 f32_round(f32x16 x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE f32x16 f32_ldexp(f32x16 x, f32x16 n)
{
    return _mm512_scalef_ps(x, n);
}

INLINE __m128 add_to_4(f32x16 x)
{
    const __m256 sums = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

INLINE float f32_reduce_add(f32x16 x)
{
    __m128 sums = add_to_4(x);
    sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
    return _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)));
}

INLINE float f32_reduce_max(f32x16 x)
{
    return _mm512_reduce_max_ps(x);
}

INLINE float f32_first(f32x16 x)
{
    return _mm512_cvtss_f32(x);
}

INLINE m32x16 f32_greater(f32x16 a, f32x16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}

INLINE m32x16 f32_unordered(f32x16 a, f32x16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
}

INLINE f32x16 f32_select(m32x16 mask, f32x16 a, f32x16 b)
{
    return _mm512_mask_mov_ps(b, mask, a);
}

INLINE m32x16 mask_first(int64_t n)
{
    return n >= LANES ? 0xFFFF : n <= 0 ? 0 : (m32x16)((1u << n) - 1);
}

INLINE m32x16 mask_range(int64_t begin, int64_t end)
{
    return mask_first(end) & ~mask_first(begin);
}

INLINE m32x16 mask_and(m32x16 a, m32x16 b)
{
    return a & b;
}

INLINE m32x16 mask_or(m32x16 a, m32x16 b)
{
    return a | b;
}

INLINE m32x16 mask_from_bits(uint32_t bits)
{
    return (m32x16)bits;
}

INLINE uint32_t mask_bits(m32x16 mask)
{
    uint32_t bits = mask;
    /* gcc 12 takes a spilled mask for one that was extended, and its upper half may be anything. */
    __asm__("" : "+r"(bits));
    return bits & 0xFFFF;
}

INLINE i32x16 i32_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}

INLINE i32x16 i32_zero(void)
{
    return _mm512_setzero_si512();
}

INLINE i32x16 i32_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

INLINE void i32_store(void *p, i32x16 x)
{
    _mm512_storeu_si512(p, x);
}

INLINE i32x16 i32_add(i32x16 a, i32x16 b)
{
    return _mm512_add_epi32(a, b);
}

INLINE i32x16 i32_mul(i32x16 a, i32x16 b)
{
    return _mm512_mullo_epi32(a, b);
}

INLINE void i32_transpose(i32x16 *x)
{
    __m512i twos[16], fours[16];
    UNROLL
    for (int i = 0; i < 16; i += 2) {
        twos[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        twos[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    /* fours[4 i + j]: of vectors 4 i to 4 i + 3 lanes j, j + 4, j + 8 and j + 12. */
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        fours[i] = _mm512_unpacklo_epi64(twos[i], twos[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(twos[i], twos[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(twos[i + 1], twos[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(twos[i + 1], twos[i + 3]);
    }
    UNROLL
    for (int j = 0; j < 4; j++) {
        const __m512i first = _mm512_shuffle_i32x4(fours[j], fours[j + 4], 0x88);
        const __m512i second = _mm512_shuffle_i32x4(fours[j], fours[j + 4], 0xdd);
        const __m512i third = _mm512_shuffle_i32x4(fours[j + 8], fours[j + 12], 0x88);
        const __m512i fourth = _mm512_shuffle_i32x4(fours[j + 8], fours[j + 12], 0xdd);
        x[j] = _mm512_shuffle_i32x4(first, third, 0x88);
        x[j + 4] = _mm512_shuffle_i32x4(second, fourth, 0x88);
        x[j + 8] = _mm512_shuffle_i32x4(first, third, 0xdd);
        x[j + 12] = _mm512_shuffle_i32x4(second, fourth, 0xdd);
    }
}

INLINE f32x16 i32_to_f32(i32x16 x)
{
    return _mm512_cvtepi32_ps(x);
}

INLINE i32x16 f32_to_i32(f32x16 x)
{
    return _mm512_cvtps_epi32(x);
}

INLINE i32x16 u8_load_i32(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}

INLINE i32x16 i8_load_i32(const int8_t *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}

INLINE f32x16 f16_load(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE f32x16 pairs_first(i32x16 pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

INLINE f32x16 pairs_second(i32x16 pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000)));
}

INLINE f32x16 bf16_widen(__m256i x)
{
    return pairs_first(_mm512_cvtepu16_epi32(x));
}

/* Round to bf16, each the upper half of its word. Not by vcvtneps2bf16, which some levels lack and which
   makes zeros of the smallest numbers. */
INLINE __m512i round_to_bf16(f32x16 x)
{
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i halfway = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 is_number = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
    return _mm512_mask_add_epi32(quiet, is_number, halfway, odd);
}

INLINE f32x16 bf16_round(f32x16 x)
{
    return pairs_second(round_to_bf16(x));
}

INLINE __m256i bf16_narrow(f32x16 x)
{
    const __m512i upper = _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 29, 27,
                                           25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_castsi512_si256(_mm512_permutexvar_epi16(upper, round_to_bf16(x)));
}

INLINE f32x16 bf16_load(const bf16 *p)
{
    return bf16_widen(_mm256_loadu_si256((const __m256i *)p));
}

INLINE void bf16_store(bf16 *p, f32x16 x)
{
    _mm256_storeu_si256((__m256i *)p, bf16_narrow(x));
}

INLINE f32x16 f32_load_some(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(mask_first(n), p);
}

INLINE void f32_store_some(float *p, int64_t n, f32x16 x)
{
    _mm512_mask_storeu_ps(p, mask_first(n), x);
}

INLINE f32x16 bf16_load_some(const bf16 *p, int64_t n)
{
    return bf16_widen(_mm256_maskz_loadu_epi16(mask_first(n), p));
}

INLINE void bf16_store_some(bf16 *p, int64_t n, f32x16 x)
{
    _mm256_mask_storeu_epi16(p, mask_first(n), bf16_narrow(x));
}

SIMD_END

#include "functions.h"

#endif
