/* What the kernels share: AVX-512 in gcc and clang without compiler flags, bf16, exp2, SiLU. */
#ifndef UNISONO_SIMD_H
#define UNISONO_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#ifdef __clang__
#define SIMD_BEGIN \
    _Pragma("clang attribute push(__attribute__((target(\"avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni\"))), apply_to = function)")
#define SIMD_END _Pragma("clang attribute pop")
#else
#define SIMD_BEGIN \
    _Pragma("GCC push_options") \
    _Pragma("GCC target(\"avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni\")")
#define SIMD_END _Pragma("GCC pop_options")
#endif

/* Unroll a short loop with a constant end, so that arrays it indexes stay in registers. */
#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

typedef uint16_t bf16;

SIMD_BEGIN

INLINE __m512 widen(__m256i x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

INLINE __m256i narrow(__m512 x)
{
    return (__m256i)_mm512_cvtneps_pbh(x);
}

INLINE __mmask16 first(int64_t n)
{
    return n >= 16 ? 0xFFFF : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}

INLINE __m512 load_bf16(const bf16 *p)
{
    return widen(_mm256_loadu_si256((const __m256i *)p));
}

INLINE void store_bf16(bf16 *p, __m512 x)
{
    _mm256_storeu_si256((__m256i *)p, narrow(x));
}

/* 2^x within 3e-7 of the result; 0 below -126, NaN stays NaN. The polynomial: Taylor's of 2^f,
   |f| <= 1/2, degree 6. */
INLINE __m512 exp2_ps(__m512 x)
{
    /* The second operand is what max returns for NaN. */
    x = _mm512_max_ps(_mm512_set1_ps(-150.0f), x);
    x = _mm512_min_ps(_mm512_set1_ps(150.0f), x);
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(x, n);
    __m512 y = _mm512_set1_ps(1.5403530393381608e-4f);
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.3333558146428443e-3f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.618129107628477e-3f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.550410866482158e-2f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.402265069591007e-1f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.931471805599453e-1f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
}

/* x / (1 + e^-x) */
INLINE __m512 silu(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1.0f), minus_log2e = _mm512_set1_ps(-1.4426950408889634f);
    return _mm512_div_ps(x, _mm512_add_ps(one, exp2_ps(_mm512_mul_ps(x, minus_log2e))));
}

SIMD_END

#endif
